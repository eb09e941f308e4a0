"""What answers Ctrl-C, SIGTERM and SIGHUP, in every command and each of its processes.

A command ends silently, with the exit status 128 + n: half-written files go, worker processes end.
What ignores a signal (nohup) goes on to do so. Signals are the main thread's: where a program calls
a command in another one, its own answers stay.
"""

import ctypes
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional, Union

# What ends a program that does not answer it; Windows has no SIGHUP.
ENDING_SIGNALS = tuple(
    getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, name)
)
ONE_REQUEST = 1.0  # seconds: `timeout`, Slurm and a closed terminal send more than one signal

Answer = Union[Callable, int]


def in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def answer_signal(number: int, answer: Answer) -> None:
    """signal.signal, where that may be: not outside the main thread, nor for an ignored signal."""
    if in_main_thread() and signal.getsignal(number) != signal.SIG_IGN:
        signal.signal(number, answer)


def _end_at_once(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


class FirstSignal:
    """Answers the first signal by `answer(number)`, and one that comes later by `again(number)`.

    Signals within ONE_REQUEST seconds are one; `number` is the first one's, None before it.
    """

    def __init__(
        self, answer: Callable[[int], None], again: Callable[[int], None] = _end_at_once
    ) -> None:
        self.answer, self.again = answer, again
        self.number, self.since = None, 0.0

    def __call__(self, number: int, _frame: object) -> None:
        if self.number is None:
            self.number, self.since = number, time.monotonic()
            self.answer(number)
        elif time.monotonic() - self.since > ONE_REQUEST:
            self.again(number)


class StopRequest:
    """Remembers the first signal, so that who asks can save before the end; `signal` or None.

    `again(number)` answers a later one; without it, that is KeyboardInterrupt.
    """

    def __init__(self, again: Optional[Callable[[int], None]] = None) -> None:
        self._answer = FirstSignal(lambda _number: None, again or self._interrupt)
        for number in ENDING_SIGNALS:
            answer_signal(number, self._answer)

    @staticmethod
    def _interrupt(_number: int) -> None:
        for number in ENDING_SIGNALS:
            answer_signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    @property
    def signal(self) -> Optional[int]:
        return self._answer.number

    def __bool__(self) -> bool:
        return self.signal is not None


def end_on_signals() -> None:
    """SIGTERM and SIGHUP raise SystemExit from now on, once."""

    def end(number: int) -> None:
        raise SystemExit(128 + number)

    answer = FirstSignal(end)
    for number in ENDING_SIGNALS:
        if number != signal.SIGINT:
            answer_signal(number, answer)


def end_on_interrupts() -> None:
    """Ctrl-C raises KeyboardInterrupt from now on, once. A program's own answer stays."""

    def interrupt(_number: int) -> None:
        raise KeyboardInterrupt

    # let_interrupts_end_imports leaves SIG_DFL
    if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_DFL):
        answer_signal(signal.SIGINT, FirstSignal(interrupt))


def let_interrupts_end_imports() -> None:
    """Ctrl-C within the second that Paddle takes to load ends one of our commands silently.

    `end_on_interrupts` answers it later. A program that imports us keeps what it has.
    """
    program = getattr(sys.modules['__main__'], '__file__', None)
    ours = program and Path(program).resolve().parent == Path(__file__).resolve().parents[1]
    if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def signals_blocked(numbers: tuple[int, ...] = ENDING_SIGNALS) -> Iterator[None]:
    """Signals wait meanwhile. Processes that are started here block them until they say so."""
    if not hasattr(signal, 'pthread_sigmask'):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock_signals() -> None:
    """In a process that was started while signals were blocked: it has its answers now."""
    if hasattr(signal, 'pthread_sigmask'):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)


@contextmanager
def signals_restored() -> Iterator[None]:
    """What answered signals before does so afterwards: a program may call a command's main."""
    numbers = ENDING_SIGNALS if in_main_thread() else ()
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, answer in before.items():
            if answer is not None:  # one that is not Python's
                signal.signal(number, answer)


@contextmanager
def kept_while_paddle_starts() -> Iterator[None]:
    """What answers signals does so after Paddle's start, which takes SIGTERM to write C++ traces.

    SIGTERM waits meanwhile. The others end one of our commands at once, as during other imports: of
    an exception, as we would answer, Paddle's start would make another one.
    """
    if not in_main_thread():
        with _c_handlers_kept():  # Python's part of them is the main thread's, and stays
            yield
        return
    with signals_blocked((signal.SIGTERM,)), signals_restored():
        for number in ENDING_SIGNALS:
            if getattr(signal.getsignal(number), '__module__', None) == __name__:
                signal.signal(number, signal.SIG_DFL)
        yield


@contextmanager
def _c_handlers_kept() -> Iterator[None]:
    """What C calls for a signal, which Python itself sets in the main thread alone."""
    get, put = ctypes.pythonapi.PyOS_getsig, ctypes.pythonapi.PyOS_setsig
    get.restype, put.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
    kept = {int(number): get(int(number)) for number in ENDING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in kept.items():
            put(number, handler)
