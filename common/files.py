"""Files that appear complete or not at all, and that are read within bounds; the project's own."""

import errno
import glob
import os
import secrets
import stat
import time
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

CLAIMED_WITHIN = 5  # seconds: after so many, a partial file without a lock has no writer
DATA = Path(__file__).resolve().parents[1] / 'data'


@contextmanager
def atomic_write(path, mode='wb'):
    """Open a file that appears at `path` complete, or not at all.

    The bytes go to a hidden neighbour first, which is renamed once they are on the disk, so that
    neither a kill nor a full disk nor a power cut leaves half a file or loses the old one. Of two
    writers at once, the last one's file stays, whole.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear_partials(path)
    aside = partial_neighbour(path)
    text = {} if 'b' in mode else {'encoding': 'utf-8', 'newline': ''}
    try:
        with open(aside, mode.replace('w', 'x'), **text) as file:
            _claim(file)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException as error:
        aside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(aside)):
            error.filename = str(path)  # a full disk does not say for whom
        raise
    sync_folder(path.parent)


def partial_neighbour(path):
    """A path in the same folder that nobody else writes to."""
    return path.with_name(f'.{path.name}.{secrets.token_hex(6)}.partial')


def _claim(file):
    """Lock a file for as long as it is open: the kernel tells whether its writer lives."""
    if fcntl:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _clear_partials(path):
    """Delete what killed writers of `path` left, each as large as a model."""
    for left in path.parent.glob(f'.{glob.escape(path.name)}.*.partial') if fcntl else ():
        with suppress(OSError), open(left, 'rb', opener=_open_without_waiting) as file:
            if time.time() - os.fstat(file.fileno()).st_mtime > CLAIMED_WITHIN:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError: its writer lives
                left.unlink()


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


def sync_folder(folder):
    """Make a rename durable (POSIX: the folder's entry is data of its own)."""
    if os.name == 'posix':
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_writable(path):
    """Raises OSError where `path` could not be written: before the work, not after it."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    check_folder_writable(path.parent)


def check_folder_writable(folder):
    """The same for a folder, which need not be there yet."""
    folder = Path(folder)
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(there))
