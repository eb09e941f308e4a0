"""From a folder of class folders to train.txt, val.txt, test.txt and classes.txt.

The class names are the subfolders' names; sorted, they give the labels.
"""

import os
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from common.console import UserError, printable, progress
from common.files import atomic_write, check_folder_writable
from pictures.class_names import imagenet_names
from pictures.folder_tree import describe_others, find_pictures, is_junk, subfolders
from pictures.splits import SIDES, Picture, divide, fit_names, remark_shared

OWN = {'classes.txt', *(f'{side}.txt' for side in SIDES)}

# What people call the folders of a set that is divided already.
SPLIT_NAME = re.compile(
    r'(?:(?P<train>train|training|trn)|(?P<val>val|valid|validation|eval|evaluation|dev)'
    r'|(?P<test>test|testing|tst))(?:[-_ ]?(?:set|data|images|split|\d+))?',
    re.IGNORECASE,
)


class FolderLists(NamedTuple):
    """What was written: class names; {'train': {class: [Picture]}, ...}; remarks, a line each."""

    class_names: list
    sides: dict
    remarks: list


def write_lists(folder, output, val, seed, check, test=0.0):
    """Write train.txt, val.txt, test.txt and classes.txt for `folder` into `output`.

    Subfolders called train, val and test (or otherwise, see SPLIT_NAME) that hold class folders are
    used as they are. A list without such a folder gets its share, `val` or `test`, of each class of
    the others, see divide(); with a share of 0 there is none, and where both make 1 there is none
    for training. `check(path)` returns the sha256 of a picture file or raises UserError for what
    does not decode: such files are left out and named in the remarks.
    All lists are written, or none. Raises UserError and OSError.
    """
    folder, output, remarks = Path(folder), Path(output), []
    places = _find_sides(folder, remarks)
    shares = _shares_to_divide(places, val, test)
    _check_output(output, set(shares) | places.keys() - ({'train'} if shares else set()), remarks)
    sides = {side: _read_classes(folder, place, check, remarks) for side, place in places.items()}
    if 'train' in places:
        sides = fit_names(sides, places, remarks)
    remark_shared(sides, remarks)
    if shares:
        sides.update(divide(sides.pop('train'), shares, seed, remarks))
    sides = {side: sides[side] for side in SIDES if side in sides}
    names = sorted({name for classes in sides.values() for name in classes})
    _check_sides(folder, names, sides)
    _write_all(folder, output, names, sides)
    return FolderLists(names, sides, remarks)


# --------------------------------------------------------------------------------------------------
# What is in a folder
# --------------------------------------------------------------------------------------------------


def _find_sides(folder, remarks):
    """{side: its folder}; where the set is not divided yet, all of it is {'train': folder}."""
    names, found = subfolders(folder), {}
    for name in names:
        match = SPLIT_NAME.fullmatch(name)
        if match and subfolders(folder / name):
            found.setdefault(match.lastgroup, []).append(name)
    others = sorted(set(names) - {name for group in found.values() for name in group})
    if not found or ('train' not in found and others):
        for name in filter(SPLIT_NAME.fullmatch, names):
            remarks.append(f'{name!r} is taken for a class; a split would hold class folders')
        return {'train': folder}
    for side, group in found.items():
        if len(group) > 1:
            raise UserError(
                f'{folder}: {" and ".join(group)} could both be for {side}.txt; '
                'move all but one elsewhere'
            )
    for name in others:
        remarks.append(f'not used: {folder / name}, which is no split that holds class folders')
    return {side: folder / found[side][0] for side in SIDES if side in found}


def _read_classes(folder, place, check, remarks):
    """{class name: [Picture]} of the class folders in `place` that hold pictures.

    Their paths are relative to `folder`.
    """
    names = _usable_names(subfolders(place), remarks)
    found = {name: find_pictures(place / name) for name in names}
    with os.scandir(place) as entries:
        others = [e.path for e in entries if is_junk(e.name) or not os.path.isdir(e.path)]
    others = [path for path in others if os.path.basename(path) not in OWN]
    _remark_others(place, others + [path for _, rest in found.values() for path in rest], remarks)
    _remark_groups(place, found, remarks)
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
                remarks.append(f'class {name!r} is left out: {place / name} has no picture')
    return {name: pictures for name, pictures in classes.items() if pictures}


def _usable_names(names, remarks):
    usable = [name for name in names if _fits_a_line(name) and name.strip()]
    for name in sorted(set(names) - set(usable)):
        remarks.append(f'class {name!r} is left out: classes.txt cannot hold its name')
    return usable


def _remark_others(place, others, remarks):
    if others:
        remarks.append(f'ignored in {place}: {describe_others(others)}')


def _remark_groups(place, found, remarks):
    """group/class/picture: are the groups the classes, or what they hold?"""
    for name, (paths, _) in found.items():
        inner = {os.path.relpath(path, place / name).split(os.sep)[0] for path in paths}
        inner = sorted(inner - {os.path.basename(path) for path in paths})
        if inner and all(os.path.dirname(path) != str(place / name) for path in paths):
            remarks.append(
                f'{name!r} is one class with all that its subfolders hold ({", ".join(inner[:3])}'
                f'{", ..." if len(inner) > 3 else ""}); if these are the classes, move them up '
                f'into {place}'
            )


def _examine(path, folder, check):
    """The Picture at `path`, or the line that says why there is none."""
    relative = os.path.relpath(path, folder)
    if not _fits_a_line(relative):
        return f'{relative!r}: its name cannot be written on a line of a list'
    try:
        return Picture(relative, check(path))
    except UserError as error:
        return str(error)


def _fits_a_line(text):
    try:
        return not set('\r\n') & set(text) and bool(text.encode())
    except UnicodeEncodeError:  # bytes that are not UTF-8 come from the disk as lone surrogates
        return False


# --------------------------------------------------------------------------------------------------
# What goes into which list
# --------------------------------------------------------------------------------------------------


def _shares_to_divide(places, val, test):
    """{side: share} of what must be divided, without those that get nothing; see divide()."""
    if 'train' not in places:
        return {}
    others = {'val': val, 'test': test}
    shares = {side: share for side, share in others.items() if side not in places and share}
    rest = 1 - sum(shares.values())
    return {'train': rest, **shares} if rest > 1e-9 else shares


def _check_output(output, sides, remarks):
    """Raises OSError where no list could be written, before hours of reading."""
    check_folder_writable(output)
    for side in sorted(set(SIDES) - sides):
        if (output / f'{side}.txt').exists():
            remarks.append(
                f'{output / side}.txt was there before and is not written: '
                'it may not fit the new lists'
            )


def _check_sides(folder, names, sides):
    if len(names) < (2 if 'train' in sides else 1):
        found = f'only the class {names[0]!r}' if names else 'no class with pictures'
        raise UserError(f'{folder}: {found}; each class needs a subfolder with its pictures')
    for side, classes in sides.items():
        if not any(classes.values()):
            raise UserError(f'{folder}: no class has pictures enough for {side}.txt, too')
    line, uses = Counter(map(_class_line, names)).most_common(1)[0]
    if uses > 1:
        raise UserError(f'{folder}: {uses} class folders are called {line!r}; rename them')


def _class_line(name):
    """A folder's line in classes.txt: of ImageNet's numbers, its name behind the number."""
    number = re.match(r'(n\d{8})(?![^\W_])', name)
    known = number and imagenet_names().get(number[1])
    return f'{number[1]} {known}' if known else name.strip()


def _write_all(folder, output, names, sides):
    """Paths are relative to the list, which may then move with its pictures."""
    start = os.path.relpath(os.path.realpath(folder), os.path.realpath(output))
    with ExitStack() as stack:  # nothing is renamed before everything is written
        for side, classes in sides.items():
            file = stack.enter_context(atomic_write(output / f'{side}.txt', 'w'))
            for label, name in enumerate(names):
                for picture in classes.get(name, []):
                    path = os.path.normpath(os.path.join(start, picture.path))
                    file.write(f'{path} {label}\n')
        file = stack.enter_context(atomic_write(output / 'classes.txt', 'w'))
        file.writelines(f'{_class_line(name)}\n' for name in names)


def print_counts(lists):
    """Print how many pictures each class has; of many classes the smallest ones."""
    rows = [
        (printable(name), *(len(classes.get(name, [])) for classes in lists.sides.values()))
        for name in lists.class_names
    ]
    total = ('total', *(sum(column) for column in list(zip(*rows))[1:]))
    if len(rows) > 40:
        print(f'{len(rows)} classes; the ten with the fewest pictures:')
        rows = sorted(rows, key=lambda row: sum(row[1:]))[:10]
    width = max(len(name) for name, *_ in [*rows, total])
    for name, *counts in [('class', *lists.sides), *rows, total]:
        print(f'{name:{width}} ' + ' '.join(f'{count:>8}' for count in counts))
