"""The picture files in a folder and all below it, linked folders too; shared by the commands."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from common.console import UserError
from common.files import read_head
from pictures.kinds import HEAD_BYTES, SUFFIXES, picture_kind

# Folders that systems and programs leave behind, besides hidden ones.
JUNK = {'__macosx', '__pycache__', '@eadir', '$recycle.bin', 'system volume information'}
JUNK |= {'lost+found'}
MOST_NAMED = 6
# Of a data set's other files, which may be as many as its pictures. All other unknown suffixes, and
# none, have the first bytes looked at.
DATA_SUFFIXES = {'.txt', '.xml', '.json', '.csv', '.yaml', '.yml', '.npy', '.mat'}
ARCHIVES = {'.zip', '.tar', '.tgz', '.gz', '.7z', '.rar', '.bz2', '.xz'}


def expand_paths(paths: Iterable[str], note: Callable[[str], None]) -> Iterator[str]:
    """Every file of `paths`, and the picture files of every folder among them, in order.

    `note` gets a line per folder on what is passed over there, but for junk. Raises UserError for a
    folder without pictures, OSError for one that cannot be read.
    """
    for path in paths:
        if not os.path.isdir(path):
            yield path
            continue
        pictures, others = find_pictures(path)
        others = [other for other in others if not is_junk(os.path.basename(other))]
        if not pictures:
            but = f', but {describe_others(others)}' if others else ''
            raise UserError(f'{path}: holds no pictures{but}')
        if others:
            note(f'{path}: passed over {describe_others(others)}')
        yield from pictures


def find_pictures(folder: os.PathLike) -> tuple[list[str], list[str]]:
    """(sorted paths of the picture files below `folder`, paths of other files and of junk).

    The suffix says what is a picture, or the content where the suffix is unknown. Links to folders
    are followed; a folder that several lead to is read once, by its own place if that is below
    `folder`. A link to `folder` itself or to a folder around it is among the others. Raises OSError
    for a folder that cannot be read.
    """
    pictures, others = [], []
    folder = os.fspath(folder)
    around = _with_parents(folder)
    seen, linked, waiting = set(), deque(), deque([folder])
    while waiting or linked:  # no recursion, which a deep tree would end
        place = waiting.popleft() if waiting else linked.popleft()
        if (identity := _identity(place)) in seen:
            continue
        seen.add(identity)
        with os.scandir(place) as entries:
            for entry in entries:
                if is_junk(entry.name):
                    others.append(entry.path)
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.is_symlink() and os.path.isdir(entry.path):
                    is_around = _identity(entry.path) in around
                    (others if is_around else linked).append(entry.path)
                else:
                    (pictures if is_picture_file(entry.path) else others).append(entry.path)
    return sorted(pictures), sorted(others)


def subfolders(folder: os.PathLike) -> list[str]:
    """Sorted names of the folders in `folder`, and of links to some, without junk."""
    return sorted(
        name
        for name in os.listdir(folder)
        if not is_junk(name) and os.path.isdir(os.path.join(folder, name))
    )


def is_picture_file(path: str) -> bool:
    """Whether `path`, which is no folder, has a picture's suffix, or else its content."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in SUFFIXES or suffix in DATA_SUFFIXES:
        return suffix in SUFFIXES
    try:
        return picture_kind(read_head(path, HEAD_BYTES)) is not None
    except OSError:  # a link to nowhere, a FIFO
        return False


def is_junk(name: str) -> bool:
    """Whether systems or programs left the file or folder `name` behind."""
    return name.startswith('.') or name.casefold() in JUNK


def describe_others(others: Iterable[str]) -> str:
    """How many files and folders are no pictures, and which."""
    packed = any(os.path.splitext(path)[1].lower() in ARCHIVES for path in others)
    hint = '; pictures in archives count once they are unpacked' if packed else ''
    names = sorted({os.path.basename(path) + '/' for path in others if os.path.isdir(path)})
    names += sorted({os.path.basename(path) for path in others if not os.path.isdir(path)})
    more = ', ...' if len(names) > MOST_NAMED else ''
    what = '1 file or folder' if len(others) == 1 else f'{len(others)} files or folders'
    which = 'is no picture' if len(others) == 1 else 'are no pictures'
    return f'{what} that {which}: {", ".join(names[:MOST_NAMED])}{more}{hint}'


def leads_back(link: os.PathLike, folder: os.PathLike) -> bool:
    """Whether `link` in `folder` is a link to `folder` or to one around it."""
    return os.path.islink(link) and _identity(link) in _with_parents(folder)


def _with_parents(folder):
    """The identities of a folder and of all that it lies in."""
    place, found = os.path.realpath(folder), set()
    while True:
        found.add(_identity(place))
        if place == os.path.dirname(place):
            return found
        place = os.path.dirname(place)


def _identity(path):
    status = os.stat(path)
    return status.st_dev, status.st_ino
