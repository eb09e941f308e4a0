"""Import this before Paddle where a module needs it at once: Paddle, without its signal handlers.

They write C++ traces where SIGTERM ends a process, and take the place of a program's own.
"""

from common.device import load_paddle

load_paddle()
