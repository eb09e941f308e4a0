"""Writes docs/commands.md from the commands' own --help.

python docs/make_commands.py
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ('train', 'infer', 'reader', 'compress', 'export', 'caffe2paddle')


def help_of(command: str) -> str:
    """What `python COMMAND.py --help` prints, 100 letters wide."""
    done = subprocess.run(
        [sys.executable, ROOT / f'{command}.py', '--help'],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, 'COLUMNS': '100'},
    )
    return done.stdout.rstrip()


def page() -> str:
    """The whole page."""
    parts = [
        "# Commands\n\nWritten by `python docs/make_commands.py` from each command's `--help`."
    ]
    parts += [f'## {command}.py\n\n```text\n{help_of(command)}\n```' for command in COMMANDS]
    return '\n\n'.join(parts) + '\n'


if __name__ == '__main__':
    (ROOT / 'docs' / 'commands.md').write_text(page(), encoding='utf-8')
