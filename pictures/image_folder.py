"""A folder of class folders: where its classes and splits are, and which pictures they hold.

The class names are the subfolders' names. What is left out, passed over or assumed is added to
`remarks`, a line each.
"""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common.console import UserError, progress
from pictures.class_names import NAMES_FILES
from pictures.folder_tree import (
    describe_others,
    find_pictures,
    is_junk,
    is_picture_file,
    leads_back,
    subfolders,
)
from pictures.lists import LIST_NAMES, lists_in
from pictures.splits import SIDES, Picture

# What people call the folders of a set that is divided already.
SPLIT_NAME = re.compile(
    r'(?:(?P<train>train|training|trn)|(?P<val>val|valid|validation|eval|evaluation|dev)'
    r'|(?P<test>test|testing|tst))(?:[-_ ]?(?:set|data|images|split|\d+))?',
    re.IGNORECASE,
)
OWN = {*LIST_NAMES, *NAMES_FILES}
MOST_LINES = 3  # on pictures that are left out for one reason
FLAT = 'hold pictures, not a folder of pictures per class'


# --------------------------------------------------------------------------------------------------
# Where the classes are
# --------------------------------------------------------------------------------------------------


def descend(folder: Path, remarks: list[str]) -> Path:
    """The folder of class folders in `folder`: below folders that hold nothing but another one."""
    place = folder
    while not lists_in(place) and (inner := _only_folder(place)):
        place = inner
    if place != folder:
        remarks.append(f'{folder} holds one folder alone; its classes are taken from {place}')
    return place


def _only_folder(place: Path) -> Path | None:
    """The one folder in `place`, where it is neither a split nor a class."""
    names = [name for name in subfolders(place) if not leads_back(place / name, place)]
    if len(names) != 1 or SPLIT_NAME.fullmatch(names[0]):
        return None
    inner = place / names[0]
    return inner if subfolders(inner) and not _loose_pictures(inner) else None


def _loose_pictures(place: Path) -> list[str]:
    """The pictures in `place` itself."""
    with os.scandir(place) as entries:
        files = [e.path for e in entries if not is_junk(e.name) and not os.path.isdir(e.path)]
    return sorted(filter(is_picture_file, files))


def find_sides(folder: Path, remarks: list[str]) -> dict[str, Path]:
    """{side: its folder}; where the set is not divided yet, all of it is {'train': folder}.

    Raises UserError where folders with the names of splits hold no class folders, and no others
    hold pictures.
    """
    names, sides = subfolders(folder), {}
    splits = {name: match.lastgroup for name in names if (match := SPLIT_NAME.fullmatch(name))}
    for name, side in splits.items():
        if subfolders(folder / name):
            sides.setdefault(side, []).append(name)
    others = [name for name in names if not any(name in group for group in sides.values())]
    if 'train' not in sides and splits:
        classes = [name for name in others if find_pictures(folder / name)[0]]
        if classes and not set(classes) - splits.keys():
            raise UserError(_flat_splits(folder, {name: splits[name] for name in classes}))
        if classes or not sides:
            for name in splits:
                remarks.append(f'{name!r} is taken for a class; a split would hold class folders')
            return {'train': folder}
    if not sides:
        return {'train': folder}
    for side, group in sides.items():
        if len(group) > 1:
            raise UserError(
                f'{folder}: {" and ".join(group)} could both be for {side}.txt; '
                'move all but one elsewhere'
            )
    for name in others:
        remarks.append(f'not used: {folder / name}, which is no split that holds class folders')
    return {side: folder / sides[side][0] for side in SIDES if side in sides}


def _flat_splits(folder: Path, splits: dict[str, str]) -> str:
    """The error on `splits`, {folder: side}, that hold no classes, with what would work."""
    what = f'{folder}: the folders {", ".join(splits)} {FLAT}'
    tables = {side: path for name, side in splits.items() if (path := _table(folder / name))}
    if {'train', 'val'} <= tables.keys():
        flags = [
            f'--{side}_list {shlex.quote(str(tables[side]))}' for side in SIDES if side in tables
        ]
        return f'{what}; their labels are in lists: python train.py {" ".join(flags)}'
    name = next((name for name, side in splits.items() if side == 'train'), next(iter(splits)))
    words = _first_words(_loose_pictures(folder / name))
    if words:
        example = f'{name}/{words[0]}*'
        return (
            f'{what}; the names of the files in {name} begin with {", ".join(words)}: if these are '
            f'the classes, move them into folders, {example} into {name}/{words[0]}, and so on'
        )
    if table := _table(folder):
        return (
            f'{what}; if {table} has their labels, divide its lines between train.csv and val.csv '
            f'beside it, each with the header: python train.py {shlex.quote(str(folder))}'
        )
    return (
        f'{what}; move the pictures of each class into a folder of its own, or write lists (lines '
        '`path label`, or a CSV file) and give them as --train_list and --val_list'
    )


def _table(place: Path) -> Path | None:
    """The only CSV file in a folder."""
    files = [path for path in place.iterdir() if path.suffix.lower() == '.csv' and path.is_file()]
    return files[0] if len(files) == 1 else None


def _first_words(paths: Iterable[str]) -> list[str]:
    """What file names such as cat.0.jpg and dog_12.jpg begin with, where these may be classes."""
    matches = [re.match(r'([^\W\d_]+)[\W\d_]', os.path.basename(path)) for path in paths]
    counts = Counter(match[1] for match in matches if match)
    if not all(matches) or not 2 <= len(counts) <= 20 or min(counts.values()) < 2:
        return []
    return sorted(counts)


# --------------------------------------------------------------------------------------------------
# The pictures of each class
# --------------------------------------------------------------------------------------------------


def read_classes(
    folder: Path, place: Path, check: Callable[[str], str], remarks: list[str]
) -> dict[str, list[Picture]]:
    """{class name: [Picture]} of the class folders in `place` that hold pictures.

    Their paths are relative to `folder`. `check` gives a file's sha256, or raises UserError.
    """
    names = _usable_names(place, remarks)
    files = {name: find_pictures(place / name) for name in names}
    _remark_others(place, [path for _, others in files.values() for path in others], remarks)
    _remark_groups(place, files, remarks)
    classes = {}
    total = sum(len(paths) for paths, _ in files.values())
    with progress(total=total, desc='reading', unit='picture') as bar, ThreadPoolExecutor() as pool:
        for name, (paths, _) in files.items():
            results = []
            for result in pool.map(lambda path: _examine(path, folder, check), paths):
                results.append(result)
                bar.update()
            _remark_left_out([r for r in results if not isinstance(r, Picture)], remarks)
            classes[name] = [picture for picture in results if isinstance(picture, Picture)]
            if not classes[name]:
                remarks.append(f'class {name!r} is left out: {place / name} has no picture')
    return {name: pictures for name, pictures in classes.items() if pictures}


def _usable_names(place: Path, remarks: list[str]) -> list[str]:
    """The class folders in `place`."""
    usable = []
    for name in subfolders(place):
        if not _fits_a_line(name) or not name.strip():
            remarks.append(f'class {name!r} is left out: classes.txt cannot hold its name')
        elif leads_back(place / name, place):
            remarks.append(f'class {name!r} is left out: it is a link to a folder that holds it')
        else:
            usable.append(name)
    return usable


def _remark_others(place: Path, others: list[str], remarks: list[str]) -> None:
    """On what is in the class folders, `others`, and beside them."""
    loose = _loose_pictures(place)
    if loose:
        remarks.append(
            f'not used: {len(loose)} pictures in {place} itself, such as '
            f'{os.path.basename(loose[0])}, which are of no class'
        )
    with os.scandir(place) as entries:
        beside = {e.path for e in entries if is_junk(e.name) or not os.path.isdir(e.path)}
    others = [*(beside - set(loose)), *others]
    others = [path for path in others if os.path.basename(path) not in OWN]
    if others:
        remarks.append(f'ignored in {place}: {describe_others(others)}')


def _remark_groups(place: Path, files: dict, remarks: list[str]) -> None:
    """group/class/picture: are the groups the classes, or what they hold?"""
    for name, (paths, _) in files.items():
        inner = {os.path.relpath(path, place / name).split(os.sep)[0] for path in paths}
        inner = sorted(inner - {os.path.basename(path) for path in paths})
        if inner and all(os.path.dirname(path) != str(place / name) for path in paths):
            remarks.append(
                f'{name!r} is one class with all that its subfolders hold ({", ".join(inner[:3])}'
                f'{", ..." if len(inner) > 3 else ""}); if these are the classes, move them up '
                f'into {place}'
            )


def _remark_left_out(complaints: list[tuple[str, str]], remarks: list[str]) -> None:
    """On pictures of a class, (path, why): a line each, or one on many of the same reason."""
    reasons = {}
    for path, why in complaints:
        reasons.setdefault(why, []).append(path)
    for why, paths in reasons.items():
        if len(paths) > MOST_LINES:
            remarks.append(f'left out: {len(paths)} files such as {paths[0]}: {why}')
        else:
            remarks.extend(f'left out: {path}: {why}' for path in paths)


def _examine(path: str, folder: Path, check: Callable[[str], str]) -> Picture | tuple[str, str]:
    """The Picture at `path`, or (path, why there is none)."""
    relative = os.path.relpath(path, folder)
    if not _fits_a_line(relative):
        return repr(relative), 'its name cannot be written on a line of a list'
    try:
        return Picture(relative, check(path))
    except UserError as error:
        return path, str(error).removeprefix(f'{path:.400}: ')


def _fits_a_line(text: str) -> bool:
    try:
        return not set('\r\n') & set(text) and bool(text.encode())
    except UnicodeEncodeError:  # bytes that are not UTF-8 come from the disk as lone surrogates
        return False
