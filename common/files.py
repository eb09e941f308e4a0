"""Files that appear complete or not at all, and that are read within bounds; the project's own."""

import errno
import os
import stat
from contextlib import contextmanager
from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / 'data'


@contextmanager
def atomic_write(path, mode='wb'):
    """Open a file that appears at `path` complete, or not at all.

    The bytes go to a hidden neighbour first, which is renamed once they are on the disk, so that
    neither a kill nor a full disk nor a power cut leaves half a file or loses the old one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f'.{path.name}.partial')
    text = {} if 'b' in mode else {'encoding': 'utf-8', 'newline': ''}
    try:
        with open(aside, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException as error:
        aside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk does not say for whom
        raise
    _sync_folder(path.parent)


def read_regular_file(path, most_bytes):
    """The bytes of a regular file that has at most `most_bytes`.

    A FIFO would wait for its writer for ever, a device may never end. Raises OSError, whose text
    and file name are fit to be shown, for these, a folder, and a path that cannot be one.
    """
    try:
        with open(path, 'rb', opener=_open_without_waiting) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, 'is not a regular file', str(path))
            if found.st_size > most_bytes:
                text = f'has {found.st_size:,} bytes; at most {most_bytes:,} are read'
                raise OSError(errno.EFBIG, text, str(path))
            return file.read(found.st_size)
    except ValueError as error:  # a zero byte in the path, say
        raise OSError(errno.EINVAL, str(error), str(path)) from None


def _open_without_waiting(path, flags):
    return os.open(path, flags | getattr(os, 'O_NONBLOCK', 0))


def _sync_folder(folder):
    """Make a rename durable (POSIX: the folder's entry is data of its own)."""
    if os.name == 'posix':
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
