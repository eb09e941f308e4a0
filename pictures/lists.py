"""Lists of pictures with their labels: UTF-8 text, a line `path label` for each picture.

Class names stand in a file beside a list; see class_names.py. list_making.py makes both from a
folder. CSV files, and labels that are names, are turned into such lines; see list_tables.py.
"""

from __future__ import annotations

import copy
import io
import os
import re
from array import array
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from common.console import Meter, UserError
from common.files import read_regular_file, windows_hint
from pictures import list_tables
from pictures.class_names import class_names_beside, map_labels, names_file

MAX_CLASSES = 100_000  # a larger label is a slip, and its conv10 would not fit into memory
MAX_LIST_BYTES = 1 << 30  # ImageNet-21k's 14 million pictures take 600 MB
# What the lists of a divided set are called: ours; Paddle's tools'; tables.
LIST_FORMS = ('{}.txt', '{}_list.txt', '{}.csv')
LIST_NAMES = {form.format(side) for form in LIST_FORMS for side in ('train', 'val', 'test')}


class PictureList:
    """The pictures of a list in its order; `len()` tells how many.

    It holds the file's bytes and three arrays, so a million lines cost about 100 MB in all and the
    loaders' forked processes share them instead of copying a million Python strings.
    `labels` is an int32 array [N], `class_num` the largest label + 1. `remarks` are lines on what
    was assumed.
    """

    def __init__(self, source, data_dir, text, starts, lengths, labels, remarks=()):
        self.source = str(source)
        self.data_dir = str(data_dir)
        self._text = text
        self._starts = np.asarray(starts)
        self._lengths = np.asarray(lengths)
        self.labels = np.asarray(labels)
        self.class_num = int(self.labels.max()) + 1
        self.remarks = list(remarks)

    def __len__(self):
        return len(self.labels)

    def entry(self, i):
        """The path of picture i as the list has it."""
        start = self._starts[i]
        return self._text[start : start + self._lengths[i]].decode()

    def path(self, i):
        return os.path.join(self.data_dir, self.entry(i))

    def label(self, i):
        return int(self.labels[i])

    def where(self, i):
        """The list line of picture i, as error messages name it: 'val.txt, line 12'."""
        return _line_name(self.source, self._text, self._starts[i])

    def without(self, indices):
        """The PictureList but for those at `indices`; the others keep their lines."""
        rest = copy.copy(self)
        for name in ('_starts', '_lengths', 'labels'):
            setattr(rest, name, np.delete(getattr(self, name), indices))
        return rest

    def class_counts(self):
        """Pictures of each class: int64 [class_num]."""
        return np.bincount(self.labels, minlength=self.class_num)


def lists_in(folder: str | os.PathLike) -> dict[str, Path]:
    """{'train': path, 'val': path} of the lists that lie in `folder`, with 'test' if there is one.

    {} where there are not both of one form.
    """
    for form in LIST_FORMS:
        paths = {side: Path(folder, form.format(side)) for side in ('train', 'val', 'test')}
        paths = {side: path for side, path in paths.items() if path.is_file()}
        if {'train', 'val'} <= paths.keys():
            return paths
    return {}


def list_beside(train_list: str | os.PathLike, side: str) -> Path:
    """Where the list of another side is by default: val_list.txt beside train_list.txt."""
    path = Path(train_list)
    name = path.name.replace('train', side) if 'train' in path.name else f'{side}.txt'
    return path.with_name(name)


def class_names_of(list_path: str | os.PathLike) -> list[str] | None:
    """The class names of a list in its labels' order: from the file beside it, or else its labels,
    where these are names. None where there are neither. Raises UserError and OSError.
    """
    names = class_names_beside(list_path)
    if names is None and list_tables.may_be_table(list_path):
        table = list_tables.read_table(list_path, _read_text(list_path))
        names = table and table.names
    return names


def read_list(
    path: str | os.PathLike,
    data_dir: str | os.PathLike | None = None,
    class_num: int | None = None,
) -> PictureList:
    """Read a list of lines `path label`, or a table of such; blank lines do not count.

    The label is what follows the last white space, so a path may hold spaces. Relative paths start
    from `data_dir`, by default the folder of the list. `class_num` bounds the labels, where known.
    Labels that are names are numbered as class_names_of has them.
    Raises UserError, which names the line, and OSError.
    """
    path = Path(path)
    text, remarks = _read_text(path), []
    data_dir = data_dir or path.parent
    if table := list_tables.read_table(path, text):
        text = _as_lines(table, path, data_dir, remarks)
    starts, lengths, labels = _parse(path, text, class_num)
    if not labels:
        raise UserError(f'{path}: the list is empty')
    return PictureList(path, data_dir, text, starts, lengths, labels, remarks)


def _as_lines(table, path, data_dir, remarks):
    """The table as a list's bytes, line for line; what is assumed is added to `remarks`."""
    numbers = None
    if table.names:
        numbers = {name: number for number, name in enumerate(table.names)}
        if beside := names_file(path):
            owner = f"{beside.name}'s"
            mapping = map_labels(table.names, class_names_beside(path), owner)
            if mapping is not None:
                numbers = dict(zip(table.names, mapping.tolist()))
        else:
            shown = ', '.join(f'{name} {number}' for name, number in [*numbers.items()][:3])
            more = ', ...' if len(numbers) > 3 else ''
            remarks.append(f'{path}: its labels are names, which are numbered: {shown}{more}')
    before, after = list_tables.find_place(table, data_dir, path.stem)
    if before or after:
        remarks.append(f'{path}: its pictures are {before}NAME{after}')
    return table.lines(numbers, before, after)


def _read_text(path):
    text = read_regular_file(path, MAX_LIST_BYTES).removeprefix(b'\xef\xbb\xbf')
    _check_text(path, text)
    return text


def _check_text(path, text):
    try:
        text.decode()
        position, complaint = text.find(b'\0'), 'a zero byte; a list is plain text'
    except UnicodeDecodeError as error:
        position, complaint = error.start, 'not UTF-8; save the list as UTF-8 text'
    if position >= 0:
        raise UserError(f'{_line_name(path, text, position)}: {complaint}')


def _parse(path, text, class_num):
    """Where each line's path starts in `text`, its length, and its label, as three arrays."""
    starts, lengths, labels = array('q'), array('i'), array('i')
    limit = class_num or MAX_CLASSES
    start = 0
    for line in io.BytesIO(text):
        fields = line.rsplit(None, 1)
        if fields:
            label = int(fields[1]) if len(fields) == 2 and _is_label(fields[1]) else -1
            if not 0 <= label < limit:
                raise UserError(f'{_line_name(path, text, start)}: {_complaint(fields, class_num)}')
            starts.append(start)
            lengths.append(len(fields[0]))
            labels.append(label)
        start += len(line)
    return starts, lengths, labels


def _is_label(field):
    return field.isdigit() and len(field) < 19  # Python refuses to convert thousands of digits


def _complaint(fields, class_num):
    last = fields[-1].decode()
    shown = last if len(last) <= 40 else f'{last[:40]}...'
    if len(fields) == 1:
        return f'{shown!r} stands alone; a line is: path label'
    if last.isascii() and last.isdigit():
        known = f'there are {class_num} classes' if class_num else f'at most {MAX_CLASSES} classes'
        return f'label {shown} is too large; {known}, and labels count from 0'
    if re.fullmatch(r'-\d+', last):
        return f'label {shown} is negative; labels count from 0'
    return f'label {shown!r} is no whole number; a line is: path label'


def _line_name(path, text, position):
    return f'{path}, line {text.count(10, 0, int(position)) + 1}'


def check_files_exist(pictures):
    """Raises UserError with the number of missing files and the first one's line."""
    missing = [i for i in range(len(pictures)) if not os.path.isfile(pictures.path(i))]
    if missing:
        path = pictures.path(missing[0])
        hint = windows_hint(path)
        if (more := re.fullmatch(r'(.+)\s\d+', path, re.DOTALL)) and os.path.isfile(more[1]):
            hint = '; are there two labels on the line?'
        raise UserError(
            f'{pictures.where(missing[0])}: {path:.400}: no such file{hint}'
            f' ({len(missing)} of {len(pictures)} files of this list are missing)'
        )


def bad_pictures(pictures, check, most_share=0.1):
    """(indices of the pictures that cannot be used, a line for each of them), for --skip_bad.

    `check(path)` raises UserError for such a picture; it runs in threads, over every picture once,
    before anything else, so that what is made of the rest depends on files alone. Raises UserError
    where more than `most_share` of the pictures are bad.
    """

    def complaint(i):
        try:
            check(pictures.path(i))
        except UserError as error:
            return f'{pictures.where(i)}: {error}'
        return None

    numbers, complaints = range(len(pictures)), []
    meter = Meter(f'checking {pictures.source}', len(pictures))
    with meter, ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(pictures), 1000):  # a future each would need gigabytes
            for line in pool.map(complaint, numbers[start : start + 1000]):
                complaints.append(line)
                meter.count(1)
    bad = [i for i, line in enumerate(complaints) if line]
    if len(bad) > most_share * len(pictures):
        raise UserError(
            f'{complaints[bad[0]]} ({len(bad)} of {len(pictures)} pictures of this list cannot be '
            f'read; at most {most_share:.0%} may be left out)'
        )
    return bad, [complaints[i] for i in bad]


def label_gaps(pictures, names=None):
    """A line about the classes that a list has no pictures of; None where there are none.

    `names` are those of all classes, where they are known.
    """
    counts = np.bincount(pictures.labels, minlength=len(names or ()))
    empty = np.flatnonzero(counts == 0).tolist()
    if not empty:
        return None
    shown = [f'{label} {names[label]!r}' if names else str(label) for label in empty[:5]]
    hint = '; labels count from 0, do these count from 1?' if empty == [0] else ''
    return (
        f'{pictures.source}: no pictures of {len(empty)} of {len(counts)} classes: '
        f'{", ".join(shown)}{", ..." if len(empty) > 5 else ""}{hint}'
    )


def count_shared(pictures, others):
    """How many of `pictures` are in the list `others`, too, by their paths."""
    paths = {others.path(i) for i in range(len(others))}
    return sum(pictures.path(i) in paths for i in range(len(pictures)))
