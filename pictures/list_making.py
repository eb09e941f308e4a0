"""From a folder of class folders to train.txt, val.txt, test.txt and classes.txt.

The class names are the subfolders' names; sorted, they give the labels.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from common.console import UserError, printable
from common.files import atomic_write, check_folder_writable
from pictures.class_names import imagenet_names
from pictures.image_folder import descend, find_sides, read_classes
from pictures.splits import SIDES, divide, fit_names, remark_shared


class FolderLists(NamedTuple):
    """What was written: class names; {'train': {class: [Picture]}, ...}."""

    class_names: list[str]
    sides: dict


def write_lists(
    folder: str | os.PathLike,
    output: str | os.PathLike,
    val: float,
    seed: int,
    check: Callable[[str], str],
    log: Callable[[str], None],
    test: float = 0.0,
) -> FolderLists:
    """Write train.txt, val.txt, test.txt and classes.txt for `folder` into `output`.

    Subfolders called train, val and test (or otherwise, see SPLIT_NAME) that hold class folders are
    used as they are. A list without such a folder gets its share, `val` or `test`, of each class of
    the others, see divide(); with a share of 0 there is none, and where both make 1 there is none
    for training. `check(path)` returns the sha256 of a picture file or raises UserError for what
    does not decode: such files are left out. `log` gets a line about everything that is left out,
    passed over or assumed, also before an error is raised.
    All lists are written, or none. Raises UserError and OSError.
    """
    remarks = []
    try:
        return _write_lists(Path(folder), Path(output), (val, test), seed, check, remarks)
    finally:
        for remark in remarks:
            log(remark)


def _write_lists(folder, output, parts, seed, check, remarks):
    folder = descend(folder, remarks)
    places = find_sides(folder, remarks)
    shares = _shares_to_divide(places, *parts)
    _check_output(output, set(shares) | places.keys() - ({'train'} if shares else set()), remarks)
    sides = {side: read_classes(folder, place, check, remarks) for side, place in places.items()}
    if 'train' in places:
        sides = fit_names(sides, places, remarks)
    remark_shared(sides, remarks)
    if shares:
        sides.update(divide(sides.pop('train'), shares, seed, remarks))
    sides = {side: sides[side] for side in SIDES if side in sides}
    names = sorted({name for classes in sides.values() for name in classes})
    _check_sides(folder, names, sides)
    _write_all(folder, output, names, sides)
    return FolderLists(names, sides)


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
