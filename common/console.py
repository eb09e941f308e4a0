"""What all the commands share: errors of one line, and progress."""

import functools
import os
import sys
import time
from pathlib import Path

from tqdm import tqdm

MOST_LETTERS = 800  # of a message, which may quote a damaged file


class UserError(Exception):
    """Something that the user caused and can mend; its text is the one line that is shown."""


def one_line_errors(main):
    """Decorate a command's main: what a user can cause ends in one line and exit status 1."""

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        try:
            return main(*args, **kwargs) or 0
        except KeyboardInterrupt:
            return _complain('interrupted', status=130)
        except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except (UserError, OSError) as error:
            return _complain(explain(error))

    return wrapped


def explain(error):
    """The text of a UserError or OSError for the user: what is wrong, and with which file."""
    if isinstance(error, OSError) and error.filename:
        return f'{error.filename}: {error.strerror}'
    return str(error)


def _complain(message, status=1):
    command = Path(sys.argv[0]).name
    print(f'{command}: {printable(message)}', file=sys.stderr, flush=True)
    return status


def notice(text):
    """Tell the user, on a line of stderr, what was assumed or dropped."""
    print(f'note: {printable(text)}', file=sys.stderr, flush=True)


def printable(text):
    """`text` on one line, of at most MOST_LETTERS, without what would steer a terminal."""
    line = ' '.join(str(text).split())[:MOST_LETTERS]
    return ''.join(letter if letter.isprintable() else '?' for letter in line)


def progress(iterable=None, **options):
    """A tqdm bar on a terminal, nothing elsewhere: logs get whole lines from the caller."""
    return tqdm(iterable, disable=not sys.stderr.isatty(), dynamic_ncols=True, **options)


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
