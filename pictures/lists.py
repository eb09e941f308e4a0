"""Lists of pictures with their labels: UTF-8 text, a line `path label` for each picture.

Class names stand in classes.txt beside a list, one a line. folders.py makes both from a folder.
"""

import io
import os
import re
from array import array
from pathlib import Path

import numpy as np

from common.console import UserError

MAX_CLASSES = 100_000  # a larger label is a slip, and its conv10 would not fit into memory


class ListError(UserError):
    """A list or a folder that cannot be used; the text says where and why."""


class PictureList:
    """The pictures of a list in its order; `len()` tells how many.

    It holds the file's bytes and three arrays, so a million lines cost about 100 MB in all and the
    loaders' forked processes share them instead of copying a million Python strings.
    `labels` is an int32 array [N], `class_num` the largest label + 1.
    """

    def __init__(self, source, data_dir, text, starts, lengths, labels):
        self.source = str(source)
        self.data_dir = str(data_dir)
        self._text = text
        self._starts = np.asarray(starts)
        self._lengths = np.asarray(lengths)
        self.labels = np.asarray(labels)
        self.class_num = int(self.labels.max()) + 1

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

    def class_counts(self):
        """Pictures of each class: int64 [class_num]."""
        return np.bincount(self.labels, minlength=self.class_num)


def read_list(path, data_dir=None, class_num=None):
    """Read a list of lines `path label`; blank lines do not count.

    The label is what follows the last white space, so a path may hold spaces. Relative paths start
    from `data_dir`, by default the folder of the list. `class_num` bounds the labels, where known.
    Raises ListError, which names the line, and OSError.
    """
    path = Path(path)
    if path.is_char_device() or path.is_block_device():
        raise ListError(f'{path}: is a device, not a list')
    text = path.read_bytes().removeprefix(b'\xef\xbb\xbf')
    _check_text(path, text)
    starts, lengths, labels = _parse(path, text, class_num)
    if not labels:
        raise ListError(f'{path}: the list is empty')
    return PictureList(path, data_dir or path.parent, text, starts, lengths, labels)


def _check_text(path, text):
    try:
        text.decode()
        position, complaint = text.find(b'\0'), 'a zero byte; a list is plain text'
    except UnicodeDecodeError as error:
        position, complaint = error.start, 'not UTF-8; save the list as UTF-8 text'
    if position >= 0:
        raise ListError(f'{_line_name(path, text, position)}: {complaint}')


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
                raise ListError(f'{_line_name(path, text, start)}: {_complaint(fields, class_num)}')
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
    """Raises ListError with the number of missing files and the first one's line."""
    missing = [i for i in range(len(pictures)) if not os.path.isfile(pictures.path(i))]
    if missing:
        first = missing[0]
        raise ListError(
            f'{pictures.where(first)}: {pictures.path(first):.400}: no such file'
            f' ({len(missing)} of {len(pictures)} files of this list are missing)'
        )


def count_shared(pictures, others):
    """How many of `pictures` are in the list `others`, too, by their paths."""
    paths = {others.path(i) for i in range(len(others))}
    return sum(pictures.path(i) in paths for i in range(len(pictures)))


def read_class_names(list_path):
    """The names in classes.txt beside a list, in the labels' order, or None without that file."""
    path = Path(list_path).parent / 'classes.txt'
    return read_names_file(path) if path.exists() else None


def read_names_file(path):
    """Class names, one a line; of synset_words.txt's 'n01440764 tench' the text after the number.

    Raises ListError for a blank line in the middle, which would shift the names, and OSError.
    """
    try:
        lines = Path(path).read_text(encoding='utf-8-sig').rstrip().split('\n')
    except UnicodeDecodeError:
        raise ListError(f'{path}: not UTF-8; save the class names as UTF-8 text') from None
    names = [re.sub(r'^n\d{8}\s+', '', line.strip()) for line in lines]
    if '' in names:
        raise ListError(f'{path}, line {names.index("") + 1}: a class name is missing')
    return names
