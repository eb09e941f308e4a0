"""Files that appear complete or not at all, and that are read within bounds; the project's own."""

import errno
import glob
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Optional, Union

from common.console import notice

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

CLAIMED_WITHIN = 5  # seconds: after so many, a partial file without a lock has no writer
STOPPED_SECONDS = 10.0  # after so many, a writer that holds a lock is passed by
HELD_SECONDS = 2.0  # how long a virus scanner or an indexer may hold a file that is replaced
# What the fsync of a folder answers where the file system has none (CIFS, VirtualBox, DrvFs, FUSE)
# or, on Windows, where a folder cannot be opened.
NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}
NO_FOLDER_SYNC |= {errno.EACCES, errno.EISDIR}
_kept_beside = {}  # path as text: where its new content lies, since a program holds the old file
DATA = Path(__file__).resolve().parents[1] / 'data'


@contextmanager
def atomic_write(path: Path, mode: str = 'wb', beside: bool = False) -> Iterator[IO]:
    """Open a file that appears at `path` complete, or not at all.

    The bytes go to a hidden neighbour first, which is renamed once they are on the disk, so that
    neither a kill nor a full disk nor a power cut leaves half a file or loses the old one. Of two
    writers at once, the last one's file stays, whole.

    Windows does not replace a file that a program holds (Excel a CSV). After HELD_SECONDS this is a
    PermissionError, or with `beside`, for results, the new content stays under another name, which
    one note gives; see `current_path`.
    """
    path = Path(path)
    _check_replaceable(path)
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
        _replace(aside, path, beside)
    except BaseException as error:
        aside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(aside)):
            error.filename = str(path)  # a full disk does not say for whom
        raise
    sync_folder(path.parent)


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together: what a full disk or a folder in a file's place prevents
    for one of them leaves all of them as they were."""
    with ExitStack() as stack:
        files = [stack.enter_context(atomic_write(path)) for path in contents]
        for file, content in zip(files, contents.values()):
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # a full disk shows here, before any file is replaced


def _replace(aside: Path, path: Path, beside: bool) -> None:
    deadline = time.monotonic() + HELD_SECONDS
    while True:
        try:
            os.replace(aside, path)
            break
        except PermissionError:
            if beside and str(path) in _kept_beside:  # it has been held for longer already
                os.replace(aside, _kept_beside[str(path)])
                return
            if time.monotonic() < deadline:
                time.sleep(0.1)
            elif beside:
                _keep_beside(aside, path)
                return
            else:
                raise
    if old := _kept_beside.pop(str(path), None):
        with suppress(OSError):
            old.unlink()


def _keep_beside(aside: Path, path: Path) -> None:
    numbers = ('', *(f'-{n}' for n in range(2, 1000)))
    names = (path.with_name(f'{path.stem}.new{number}{path.suffix}') for number in numbers)
    free = next(name for name in names if not os.path.lexists(name))
    os.replace(aside, free)
    _kept_beside[str(path)] = free
    notice(f'{path} cannot be replaced; is it open in another program? Written to {free} instead')


def current_path(path: Path) -> Path:
    """Where this process wrote `path` last: there, or beside it (see `atomic_write`)."""
    return _kept_beside.get(str(path), Path(path))


def partial_neighbour(path):
    """A path in the same folder that nobody else writes to."""
    return path.with_name(f'.{path.name}.{secrets.token_hex(6)}.partial')


def _claim(file):
    """Lock a file for as long as it is open: the kernel tells whether its writer lives."""
    if fcntl:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Of several processes that write the files of `folder`, which belong together, one at a time.

    A writer that stands still is waited for for STOPPED_SECONDS; and a file system without locks
    has several at once.
    """
    if not fcntl:  # Windows
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        deadline = time.monotonic() + STOPPED_SECONDS
        while _is_locked_by_another(descriptor) and time.monotonic() < deadline:
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _is_locked_by_another(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no locks here
        return False
    return False


def _clear_partials(path):
    """Delete what killed writers of `path` left, each as large as a model."""
    for left in path.parent.glob(f'.{glob.escape(path.name)}.*.partial') if fcntl else ():
        with suppress(OSError), open(left, 'rb', opener=_open_without_waiting) as file:
            if time.time() - os.fstat(file.fileno()).st_mtime > CLAIMED_WITHIN:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError: its writer lives
                left.unlink()


@contextmanager
def open_regular_file(path: Union[str, Path]) -> Iterator[IO[bytes]]:
    """Open a file to read its bytes, unless it is none.

    A FIFO would wait for its writer for ever, a device may never end. Raises OSError, whose text
    and file name are fit to be shown, for these, a folder, and a path that cannot be one.
    """
    try:
        file = open(path, 'rb', opener=_open_without_waiting)  # noqa: SIM115 - closed below
    except ValueError as error:  # a zero byte in the path, say
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise _not_regular(path)
        yield file


def read_regular_file(path: Union[str, Path], most_bytes: int) -> bytes:
    """The bytes of a regular file that has at most `most_bytes`.

    Raises OSError as open_regular_file does, and where something else lies in the file's place:
    see stand_in.
    """
    with open_regular_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            text = f'has {size:,} bytes; at most {most_bytes:,} are read'
            raise OSError(errno.EFBIG, text, str(path))
        content = file.read(size)
    if what := stand_in(content):
        raise OSError(errno.EINVAL, f'is {what}', str(path))
    return content


def read_head(path: Union[str, Path], size: int) -> bytes:
    """The first `size` bytes of a regular file, or fewer. Raises OSError as open_regular_file."""
    with open_regular_file(path) as file:
        return file.read(size)


def stand_in(content: bytes) -> Optional[str]:
    """What lies in the place of a file that was not fetched, as a message names it; else None.

    Without Git LFS a clone holds pointers; what a browser or curl saves of a download page is HTML.
    """
    start = content[:200].removeprefix(b'\xef\xbb\xbf').lstrip().lower()
    if start.startswith(b'version https://git-lfs'):
        return 'a Git LFS pointer; fetch the file itself with git lfs pull'
    if start.startswith((b'<!doctype html', b'<html')):
        return 'a saved web page; download the file itself'
    return None


def windows_hint(path: Union[str, Path]) -> str:
    """What a message on a missing file adds, where the path seems to be one of Windows."""
    if os.name == 'nt' or not re.search(r'\\|(^|/)[A-Za-z]:/', str(path)):
        return ''
    return '; is it a path of Windows? Write / for \\, and a folder of this machine for the drive'


def _not_regular(path: Union[str, Path]) -> OSError:
    return OSError(errno.EINVAL, 'is not a regular file', str(path))


def _open_without_waiting(path, flags):
    return os.open(path, flags | getattr(os, 'O_NONBLOCK', 0))


def sync_folder(folder: Path) -> None:
    """Make a rename durable (POSIX: the folder's entry is data of its own), where that is known."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise


def check_writable(path: Union[str, Path]) -> None:
    """Raises OSError where `path` could not be written: before the work, not after it."""
    path = Path(path)
    _check_replaceable(path)
    check_folder_writable(path.parent)


def _check_replaceable(path: Path) -> None:
    """Raises OSError where `path` is a folder, a FIFO or a device, which no file is to replace."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        raise _not_regular(path)


def check_folder_writable(folder: Union[str, Path]) -> None:
    """The same for a folder, which need not be there yet."""
    folder = Path(folder)
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    number = 0 if os.access(there, os.W_OK | os.X_OK) else errno.EACCES
    number = number if there.is_dir() else errno.ENOTDIR
    if number:
        place = '' if there == folder else f': {there}'
        raise OSError(number, os.strerror(number) + place, str(folder))
