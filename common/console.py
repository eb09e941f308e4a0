"""What all the commands share: errors of one line, and progress."""

import functools
import os
import shlex
import sys
import threading
import time
from pathlib import Path

from common.signals import end_on_interrupts, signals_restored

_bars = threading.RLock()
MOST_LETTERS = 800  # of a message, which may quote a damaged file


class UserError(Exception):
    """Something that the user caused and can mend; its text is the one line that is shown."""


def one_line_errors(main):
    """Decorate a command's main: what a user can cause ends in one line and exit status 1."""

    @functools.wraps(main)
    @signals_restored()
    def wrapped(*args, **kwargs):
        end_on_interrupts()
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, 'reconfigure'):  # a terminal may know ASCII alone
                stream.reconfigure(errors='replace')
        try:
            return main(*args, **kwargs) or 0
        except KeyboardInterrupt:
            return complain('interrupted', status=130)
        except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except (UserError, OSError, MemoryError) as error:
            return complain(explain(error))

    return wrapped


def explain(error):
    """What a UserError, OSError or MemoryError tells the user: what is wrong, with which file."""
    if isinstance(error, MemoryError):
        return (
            'out of memory; fewer --num_workers need less, and in training a smaller --batch_size '
            'with a larger --iter_size'
        )
    if isinstance(error, OSError) and error.filename:
        return f'{error.filename!s:.400}: {error.strerror}'  # which may be a very long name
    return str(error)


def complain(message, status=1):
    """Tell what is wrong on a line of stderr; returns `status`."""
    command = Path(sys.argv[0]).name
    _write(f'{command}: {printable(message)}', sys.stderr)
    return status


def _write(text, file):
    """A line, which leaves the bars below it, if there has been any."""
    if 'tqdm' in sys.modules:
        _tqdm().write(text, file=file)
    else:
        print(text, file=file)
    file.flush()


def notice(text):
    """Tell the user, on a line of stderr, what was assumed or dropped."""
    print(f'note: {printable(text)}', file=sys.stderr, flush=True)


def printable(text):
    """`text` on one line, of at most MOST_LETTERS, without what would steer a terminal.

    Whatever comes from a file (names of classes, paths) passes here before it is printed. Bytes of
    a file name that are no UTF-8 become U+FFFD.
    """
    line = ' '.join(str(text).split())[:MOST_LETTERS]
    return ''.join(map(_shown, line))


def quoted(path: os.PathLike) -> str:
    """A path as a word of a command line that the user may copy."""
    text = str(path) if str(path).isprintable() else printable(path)
    if os.name == 'nt':
        import subprocess  # 3 ms

        return subprocess.list2cmdline([text])
    return shlex.quote(text)


def _shown(letter):
    if '\ud800' <= letter <= '\udfff':
        return '\ufffd'
    return letter if letter.isprintable() else '?'


def progress(iterable=None, **options):
    """A tqdm bar on a terminal, nothing elsewhere: logs get whole lines from the caller."""
    return _tqdm()(iterable, disable=not sys.stderr.isatty(), dynamic_ncols=True, **options)


def _tqdm() -> type:
    """tqdm.tqdm, whose own lock would be a semaphore that outlives a kill of all processes."""
    from tqdm import tqdm  # 25 ms

    tqdm.set_lock(_bars)
    return tqdm


class Meter:
    """Tells how far a loop over pictures is: a bar on a terminal, else a line a minute.

    `with Meter('epoch 1', total) as meter: ... meter.count(pictures, loss=0.5)`; a Meter that is
    not `shown` only counts.
    """

    def __init__(self, title, total, shown=True, seconds=60):
        self.title, self.total, self.seconds = title, total, seconds
        self.lines = shown and not sys.stderr.isatty()
        self.bar = progress(total=total, desc=title, unit='img', leave=False) if shown else None

    def __enter__(self):
        self.start = self.last = time.monotonic()
        self.done = 0
        return self

    def count(self, pictures, **values):
        self.done += pictures
        if self.bar is not None:
            shown = {name: f'{value:.4g}' for name, value in values.items()}
            self.bar.set_postfix(shown, refresh=False)
            self.bar.update(pictures)
            if self.lines and time.monotonic() - self.last > self.seconds:
                self._line(shown)

    @staticmethod
    def print(text):
        """A line for stdout, which leaves the bar below it."""
        _write(text, sys.stdout)

    def _line(self, shown):
        self.last = time.monotonic()
        left = (self.total - self.done) / self.rate()
        values = ''.join(f', {name} {value}' for name, value in shown.items())
        print(
            f'{self.title}: {self.done}/{self.total} images, {self.rate():.1f} images/s, '
            f'{left:.0f} s left{values}',
            flush=True,
        )

    def rate(self):
        """Pictures per second since the start."""
        return self.done / max(time.monotonic() - self.start, 1e-9)

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.close()
