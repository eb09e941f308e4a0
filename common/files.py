"""Files that appear complete or not at all; and where the project's own are."""

import os
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


def _sync_folder(folder):
    """Make a rename durable (POSIX: the folder's entry is data of its own)."""
    if os.name == 'posix':
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
