"""The names of classes: read from a file, and found among a model's own."""

from __future__ import annotations

import functools
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np

from common.console import UserError
from common.files import DATA, read_regular_file

MAX_NAMES_BYTES = 1 << 24
# Ours; PaddleX 2, PaddleLabel and Teachable Machine; PaddleX 3; PaddleClas.
NAMES_FILES = ('classes.txt', 'labels.txt', 'label.txt', 'label_list.txt')


def class_names_beside(list_path: str | os.PathLike) -> list[str] | None:
    """The names in the file of names beside a list, in the labels' order; None without one."""
    path = names_file(list_path)
    return path and read_class_names(path)


def names_file(list_path: str | os.PathLike) -> Path | None:
    """classes.txt beside a list, or else what Paddle's tools call it.

    Raises UserError where several of the latter differ.
    """
    paths = [Path(list_path).with_name(name) for name in NAMES_FILES]
    paths = [path for path in paths if os.path.lexists(path)]
    if len(paths) > 1 and paths[0].name != NAMES_FILES[0]:
        for other in paths[1:]:
            if read_class_names(other) != read_class_names(paths[0]):
                raise UserError(
                    f'{paths[0]} and {other.name} beside it have different class names; '
                    f'{NAMES_FILES[0]} would count more than both'
                )
    return paths[0] if paths else None


def read_class_names(path: str | os.PathLike, class_num: int | None = None) -> list[str]:
    """The class names in a text file, one a line in the labels' order.

    Where the file is called otherwise than classes.txt, and each line begins with another of the
    numbers from 0 on ('0 circle'), these are the labels and no part of the names.
    ImageNet's numbers are turned into its names: 'n01440764 tench, Tinca tinca' and 'n01440764'
    are both 'tench, Tinca tinca'. The number stays where ImageNet or the file has the name twice
    ('n02012849 crane') and where it is not ImageNet's. Blank lines at the end do not count.
    Raises UserError, also where there are not `class_num` names, and OSError.
    """
    try:
        text = read_regular_file(path, MAX_NAMES_BYTES).decode('utf-8-sig')
    except UnicodeDecodeError:
        raise UserError(f'{path}: not UTF-8; save the class names as UTF-8 text') from None
    lines = [line.strip() for line in text.replace('\r\n', '\n').rstrip().split('\n')]
    if lines == ['']:
        raise UserError(f'{path}: there are no class names')
    if '' in lines:
        raise UserError(f'{path}, line {lines.index("") + 1}: a class name is missing')
    if class_num is not None and len(lines) != class_num:
        raise UserError(f'{path}: has {len(lines)} names; the network has {class_num} classes')
    return _plain_names(lines if Path(path).name == NAMES_FILES[0] else _without_labels(lines))


def _without_labels(lines: list[str]) -> list[str]:
    """The names in lines such as '1 square' in the order of their numbers, if all are such."""
    matches = [re.fullmatch(r'(\d{1,7})[\s:,;]+(\S.*)', line) for line in lines]
    if not all(matches):
        return lines
    names = {int(match[1]): match[2] for match in matches}
    return [names[i] for i in sorted(names)] if names.keys() == set(range(len(lines))) else lines


def _plain_names(lines):
    """What each line calls its class, without the ImageNet number where that says enough."""
    parts = [_split_name(line) for line in lines]
    numbered = {part for part in parts if part[0]} | set(imagenet_names().items())
    uses = Counter(name for _, name in numbered)
    return [f'{wnid} {name}' if wnid and uses[name] > 1 else name for wnid, name in parts]


def _split_name(text):
    """(ImageNet number or '', name) of 'n01440764 tench', 'n01440764' or 'tench'."""
    match = re.fullmatch(r'(n\d{8})(?:\s+(.+))?', text, re.DOTALL)
    if not match:
        return '', text
    return match[1], match[2] or imagenet_names().get(match[1], match[1])


@functools.cache
def imagenet_names():
    """{number: name} of ImageNet's 1000 classes in the labels' order: {'n01440764': 'tench, ...'}.

    Empty where data/synset_words.txt is not there.
    """
    path = DATA / 'synset_words.txt'
    lines = path.read_text(encoding='utf-8').splitlines() if path.exists() else []
    return dict(line.split(' ', 1) for line in lines)


def map_labels(
    names: list[str], model_names: list[str], owner: str = "the model's"
) -> np.ndarray | None:
    """The model's label of each class of a list, by the names: int64 [len(names)], or None.

    None means that the labels are the same. Names match by their ImageNet number, to the letter,
    without regard to case, spaces and underscores, or as one of ImageNet's synonyms ('tench' is
    'tench, Tinca tinca'), whichever comes first, where that fits one class alone.
    Raises UserError, which calls the others `owner`, where a class is not found among them, or two
    are the same.
    """
    if list(names) == list(model_names):
        return None
    finder = _Finder(model_names)
    labels = np.array([finder.find(name) for name in names], np.int64)
    if (labels < 0).any():
        raise UserError(_unknown_names(names, labels, model_names, owner))
    first = {}
    for name, label in zip(names, labels.tolist()):
        if label in first:
            raise UserError(
                f"the list's classes {first[label]!r} and {name!r} are one of {owner},"
                f' {model_names[label]!r}'
            )
        first[label] = name
    return None if (labels == np.arange(len(labels))).all() else labels


class _Finder:
    """Finds the labels of names among a model's."""

    def __init__(self, model_names):
        parts = [_split_name(name) for name in model_names]
        if [name for _, name in parts] == list(imagenet_names().values()):
            parts = list(imagenet_names().items())
        self.wnids = [wnid for wnid, _ in parts]
        self.tables = [_where_unique(keys) for keys in zip(*(_keys(*part) for part in parts))]

    def find(self, text):
        """The label of a name; -1 for one that no class or more than one class could have."""
        wnid, name = _split_name(text)
        for table, keys in zip(self.tables, _keys(wnid, name)):
            labels = {table[key] for key in keys if key in table}
            if labels:
                label = labels.pop()
                other = wnid and self.wnids[label] not in ('', wnid)  # of ImageNet's two cranes
                return -1 if labels or other else label
        return -1


def _keys(wnid, name):
    """What a class can be found by: four sets, the surest first."""
    synonyms = set(map(_fold, name.split(',')))
    return {wnid} - {''}, {name}, {_fold(name)}, synonyms


def _fold(name):
    return ' '.join(name.casefold().replace('_', ' ').split())


def _where_unique(keys):
    """{key: i} of the sets keys[i]; -1 for a key that stands in several."""
    found = {}
    for i, group in enumerate(keys):
        for key in group:
            found[key] = -1 if key in found else i
    return found


def _unknown_names(names, labels, model_names, owner):
    missing = [name for name, label in zip(names, labels) if label < 0]
    known = ', '.join(map(repr, model_names[:3])) + (', ...' if len(model_names) > 3 else '')
    return (
        f"the list's class {missing[0]!r} is none of {owner}, or could be several"
        f' ({len(missing)} of {len(names)} classes do not fit; {owner} are {known})'
    )
