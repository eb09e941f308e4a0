"""From a folder of class folders to train.txt, val.txt and classes.txt.

The class names are the subfolders' names; sorted, they give the labels.
"""

import hashlib
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from common.console import UserError, progress
from common.files import atomic_write
from pictures.lists import ListError

# What cameras, phones and the web produce; .heic is here to be named, not to be passed over.
SUFFIXES = ('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.gif', '.bmp', '.webp', '.tif', '.tiff')
SUFFIXES += ('.jp2', '.avif', '.heic', '.heif', '.ppm', '.pgm', '.pbm', '.pnm')
SUFFIXES += ('.tga', '.ico', '.pcx', '.qoi')


class Picture(NamedTuple):
    """A picture file that decodes: its path below the folder, and the sha256 of its bytes."""

    path: str
    digest: str


class FolderLists(NamedTuple):
    """What was written: class names, {class: [Picture]} twice, and remarks of one line each."""

    class_names: list
    train: dict
    val: dict
    remarks: list


def write_lists(folder, output, fraction, seed, check):
    """Write train.txt, val.txt and classes.txt for the class folders in `folder` into `output`.

    Where `folder` has the subfolders train/ and val/ with class folders, these are the two sides.
    Otherwise about `fraction` of each class goes to val.txt, chosen by `seed` and the files'
    contents alone: neither names nor the disk's order matter, and identical files share a side.
    `check(path)` returns the sha256 of a picture file or raises UserError for what does not decode:
    such files are left out and named in the remarks. Raises ListError and OSError.
    """
    folder, output = Path(folder), Path(output)
    _class_folders(folder)  # a folder that is not there must not be made as its own output
    output.mkdir(parents=True, exist_ok=True)
    if not os.access(output, os.W_OK):
        raise ListError(f'{output}: cannot write here; choose another folder with --output')
    remarks = []
    if all(_class_folders(folder / side, missing_ok=True) for side in ('train', 'val')):
        train = _read_classes(folder, 'train', check, remarks)
        val = _read_classes(folder, 'val', check, remarks)
        _compare_sides(folder, train, val, remarks)
    else:
        train, val = _split(_read_classes(folder, '.', check, remarks), fraction, seed, remarks)
    names = sorted(train)
    if len(names) < 2:
        found = f'only the class {names[0]!r}' if names else 'no class with pictures'
        raise ListError(f'{folder}: {found}; each class needs a subfolder with its pictures')
    if not any(val.values()):
        raise ListError(f'{folder}: no class has pictures enough for both train.txt and val.txt')
    for side, classes in (('train', train), ('val', val)):
        _write_list(output / f'{side}.txt', folder, names, classes)
    with atomic_write(output / 'classes.txt', 'w') as file:
        file.writelines(f'{name}\n' for name in names)
    return FolderLists(names, train, val, remarks)


def find_pictures(folder):
    """(sorted paths of the picture files below `folder`, number of other and of hidden files).

    What is a picture is told by its suffix. Raises OSError for a folder that cannot be read.
    """
    pictures, others = [], 0
    for place, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith('.')]
        for name in files:
            if name.startswith('.') or os.path.splitext(name)[1].lower() not in SUFFIXES:
                others += 1
            else:
                pictures.append(os.path.join(place, name))
    return sorted(pictures), others


def _raise(error):
    raise error


def _class_folders(folder, missing_ok=False):
    if missing_ok and not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith('.'))


def _read_classes(folder, side, check, remarks):
    """{class name: [Picture]} of the class folders in `folder`/`side` that hold pictures."""
    names = _class_folders(folder / side)
    found = {name: find_pictures(folder / side / name) for name in names}
    others = sum(count for _, count in found.values())
    others += sum(entry.is_file() for entry in (folder / side).iterdir())
    if others:
        remarks.append(f'ignored {others} files in {folder / side} that are no pictures by name')
    classes = {}
    total = sum(len(paths) for paths, _ in found.values())
    with progress(total=total, desc='reading', unit='picture') as bar, ThreadPoolExecutor() as pool:
        for name, (paths, _) in found.items():
            results = []
            for result in pool.map(lambda path: _examine(path, folder, check), paths):
                results.append(result)
                bar.update()
            remarks.extend(f'left out: {text}' for text in results if isinstance(text, str))
            classes[name] = [picture for picture in results if isinstance(picture, Picture)]
            if not classes[name]:
                remarks.append(f'class {name!r} is left out: {folder / side / name} has no picture')
    return {name: pictures for name, pictures in classes.items() if pictures}


def _examine(path, folder, check):
    """The Picture at `path`, or the line that says why there is none."""
    relative = os.path.relpath(path, folder)
    if not _fits_a_list(relative):
        return f'{relative!r}: its name cannot be written on a line of a list'
    try:
        return Picture(relative, check(path))
    except UserError as error:
        return str(error)


def _fits_a_list(path):
    try:
        return not set('\r\n') & set(path) and bool(path.encode())
    except UnicodeEncodeError:  # bytes that are not UTF-8 come from the disk as lone surrogates
        return False


def _split(classes, fraction, seed, remarks):
    """Each class's pictures into (train, val), at least one in each where contents allow.

    A picture that lies in two classes goes to train: it must not be on both sides.
    """
    homes = Counter(d for pictures in classes.values() for d in {p.digest for p in pictures})
    shared = {digest for digest, count in homes.items() if count > 1}
    train, val = {}, {}
    for name, pictures in classes.items():
        contents = {picture.digest for picture in pictures}
        own = sorted(contents - shared, key=lambda digest: _shuffle_key(seed, digest))
        most = len(own) if contents & shared else len(own) - 1
        count = min(max(1, round(fraction * len(contents))), most)
        chosen = set(own[:count])
        train[name] = [picture for picture in pictures if picture.digest not in chosen]
        val[name] = [picture for picture in pictures if picture.digest in chosen]
        if not chosen:
            remarks.append(
                f'class {name!r} has too few pictures to divide ({len(contents)}):'
                ' train.txt has them, val.txt has none'
            )
    _remark_copies(classes, shared, remarks)
    return train, val


def _shuffle_key(seed, digest):
    return hashlib.sha256(f'{seed} {digest}'.encode()).digest()


def _remark_copies(classes, shared, remarks):
    total = sum(map(len, classes.values()))
    copies = total - len({p.digest for pictures in classes.values() for p in pictures})
    if copies:
        remarks.append(
            f'{copies} pictures are copies of others, byte for byte; copies share a side'
        )
    if shared:
        first = min(shared)
        paths = [p.path for pictures in classes.values() for p in pictures if p.digest == first]
        remarks.append(
            f'{len(shared)} pictures lie in more than one class, such as {" and ".join(paths[:2])};'
            ' train.txt has them under each of their labels'
        )


def _compare_sides(folder, train, val, remarks):
    """The classes of a val/ folder must be train/'s; pictures on both sides are remarked."""
    unknown = sorted(set(val) - set(train))
    if unknown:
        raise ListError(f'{folder / "val" / unknown[0]}: train/ has no pictures of this class')
    for name in sorted(set(train) - set(val)):
        remarks.append(f'class {name!r} has no pictures in {folder / "val"}')
    seen = {p.digest: p.path for pictures in train.values() for p in pictures}
    both = [(seen[p.digest], p.path) for ps in val.values() for p in ps if p.digest in seen]
    if both:
        remarks.append(
            f'{len(both)} pictures of val/ are in train/ too, byte for byte, such as'
            f' {" and ".join(both[0])}: accuracy on val.txt will flatter'
        )


def _write_list(path, folder, names, classes):
    """One line per picture, by class and path; paths relative to the list, which may then move."""
    start = os.path.relpath(os.path.realpath(folder), os.path.realpath(path.parent))
    with atomic_write(path, 'w') as file:
        for label, name in enumerate(names):
            for picture in classes.get(name, []):
                file.write(f'{os.path.normpath(os.path.join(start, picture.path))} {label}\n')


def print_counts(lists):
    """Print how many pictures each class has; of many classes the smallest ones."""
    rows = [
        (name, len(lists.train[name]), len(lists.val.get(name, []))) for name in lists.class_names
    ]
    if len(rows) > 40:
        print(f'{len(rows)} classes; the ten with the fewest pictures:')
        shown = sorted(rows, key=lambda row: row[1] + row[2])[:10]
    else:
        shown = rows
    total = ('total', sum(row[1] for row in rows), sum(row[2] for row in rows))
    width = max(len(name) for name, _, _ in [*shown, total])
    print(f'{"class":{width}} {"train":>8} {"val":>8}')
    for name, train, val in [*shown, total]:
        print(f'{name:{width}} {train:8} {val:8}')
