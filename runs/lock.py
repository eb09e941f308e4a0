"""The lock on a run's output directory, held by every process that may write there.

It belongs to an open file (flock), which the trainers inherit: whatever becomes of the process that
took it, nobody else gets it before the last of them has ended.
"""

import errno
import os
import stat
import time
from contextlib import suppress
from multiprocessing import reduction
from pathlib import Path
from typing import Optional

from common.console import UserError, notice

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt

NAME = '.lock'
WAIT_SECONDS = 5.0  # a run that was ended just now saves, and its processes end
TAKEN = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}  # what a lock that is held answers


class OutputTaken(UserError):
    """Another run is at work in the output directory."""


class RunLock:
    """The lock on `output`; `descriptor` is None where there are no locks to be had.

    Pickled for a process that is being started, it is the same lock there. `made`: the folders that
    were not there before.
    """

    def __init__(
        self, output: Path, descriptor: Optional[int], made: tuple[Path, ...] = ()
    ) -> None:
        self.output, self.descriptor, self.made = Path(output), descriptor, made

    def check(self) -> None:
        """Raises UserError where `output` is no longer the directory that was locked."""
        if self.descriptor is not None and not _is_open(self.output / NAME, self.descriptor):
            raise UserError(
                f'{self.output}: was deleted or replaced while the run went on; nothing more is '
                'written there, since it may be another run that is there now'
            )

    def close(self) -> None:
        """Let go of it. A directory that `acquire` made goes where nobody has written there."""
        if self.descriptor is not None:
            os.close(self.descriptor)
        with suppress(OSError):
            if self.made and os.listdir(self.output) == [NAME]:
                self._remove()

    def _remove(self) -> None:
        descriptor = _open(self.output / NAME)
        try:
            _lock(descriptor)  # OSError: a trainer holds it still
            os.unlink(self.output / NAME)
            for folder in self.made:
                folder.rmdir()
        finally:
            os.close(descriptor)

    def __reduce__(self) -> tuple:
        inherited = None
        if self.descriptor is not None and fcntl:
            inherited = reduction.DupFd(self.descriptor)
        return _inherit, (self.output, inherited)


def _inherit(output: Path, duplicate: Optional[object]) -> RunLock:
    return RunLock(output, duplicate.detach() if duplicate else None)


def acquire(output: Path, seconds: float = WAIT_SECONDS) -> RunLock:
    """Make the directory `output` and keep other runs out of it. Waits for at most `seconds`.

    Raises OutputTaken where another run is at work there, and OSError. Where the file system knows
    no locks, a note says so.
    """
    path, made = Path(output) / NAME, _make_folders(Path(output))
    deadline = time.monotonic() + seconds
    while True:
        descriptor = _open(path)
        try:
            _lock(descriptor)
        except OSError as error:
            os.close(descriptor)
            if error.errno not in TAKEN:
                notice(
                    f'{output}: this file system has no locks ({error.strerror}), so see to it '
                    'that no second run writes there'
                )
                return RunLock(output, None, made)
            if time.monotonic() >= deadline:
                raise OutputTaken(
                    f'{output}: another run is writing here; wait for its end, or choose another '
                    '--output'
                ) from None
            time.sleep(0.1)
        else:
            if _is_open(path, descriptor):
                return RunLock(output, descriptor, made)
            os.close(descriptor)  # whoever held it has taken the file away


def _make_folders(folder: Path) -> tuple[Path, ...]:
    """Make `folder`; returns what was made, the innermost first."""
    missing = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(missing)


def _open(path: Path) -> int:
    """A descriptor of the lock's file, whatever lies at its place: a FIFO would wait for ever."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, 'O_NONBLOCK', 0), 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, 'is not a regular file; delete it', str(path))
    return descriptor


def _lock(descriptor: int) -> None:
    if fcntl:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)


def _is_open(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except (FileNotFoundError, NotADirectoryError):
        return False
