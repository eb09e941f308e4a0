"""Lists in other forms: CSV files with or without a header, and labels that are names.

Kaggle's `id,breed`, with ids that lack a suffix; Roboflow's `_classes.csv`, which has a column of
0 and 1 per class; tables with a column for the path and one for the label.
"""

from __future__ import annotations

import csv
import io
import os
import re
from pathlib import Path
from typing import NamedTuple

from common.console import UserError
from common.files import read_head
from pictures.kinds import SUFFIXES

TABLE_SUFFIXES = ('.csv', '.tsv')
# Headers of the columns that matter, the surest first.
PATH_HEADERS = ('path', 'filepath', 'file_path', 'image_path', 'filename', 'file_name', 'file')
PATH_HEADERS += ('image', 'img', 'picture', 'image_id', 'id', 'name')
LABEL_HEADERS = ('label', 'class', 'category', 'target', 'class_name', 'label_name', 'breed')
LABEL_HEADERS += ('species', 'labels', 'class_id')
BOX_HEADERS = {'xmin', 'x_min', 'bbox', 'xmax'}
# Where a table's pictures are, besides beside it and in a folder of its name.
PLACES = ('', 'train', 'train_images', 'images', 'image', 'img', 'pictures')
WORDS = re.compile(rf'(.+?(?:{"|".join(map(re.escape, SUFFIXES))}))\s+(\S.*)', re.IGNORECASE)


class Table(NamedTuple):
    """The pictures of a list, with `None` for lines that have none."""

    rows: list[tuple[str, str] | None]  # path, label
    names: list[str] | None  # in the order of their labels; None where labels are numbers

    def lines(self, numbers: dict[str, int] | None, before: str, after: str) -> bytes:
        """A list of lines `path label`, each where it is in the file."""
        texts = []
        for row in self.rows:
            if row:
                path, label = row
                label = label if numbers is None else numbers[label]
                texts.append(f'{before}{path}{"" if _has_suffix(path) else after} {label}')
            else:
                texts.append('')
        return '\n'.join(texts).encode()


def may_be_table(path: str | os.PathLike) -> bool:
    """Whether the beginning of a list looks like one, so that all of it is worth reading."""
    head = read_head(path, 4096).removeprefix(b'\xef\xbb\xbf').decode(errors='replace')
    return _delimiter(path, head) is not None or _words(_first_line(head)) is not None


def read_table(path: str | os.PathLike, text: bytes) -> Table | None:
    """The Table in a list's bytes; None for lines `path number`. Raises UserError."""
    head = text[:4096].decode(errors='replace')
    delimiter = _delimiter(path, head)
    if delimiter:
        return _from_cells(path, _read_cells(path, text.decode(), delimiter))
    return _words(text.decode().split('\n')) if _words(_first_line(head)) else None


def find_place(table: Table, data_dir: str | os.PathLike, stem: str) -> tuple[str, str]:
    """What to put before and after a table's paths, so that the first one is a file.

    ('', '') where none is.
    """
    first = next((row[0] for row in table.rows if row), '')
    afters = ('',) if _has_suffix(first) else ('', *SUFFIXES, *map(str.upper, SUFFIXES))
    for place in (*PLACES[:1], stem, *PLACES[1:]):
        for after in afters:
            before = place and f'{place}/'
            if os.path.isfile(os.path.join(data_dir, f'{before}{first}{after}')):
                return before, after
    return '', ''


def _first_line(head: str) -> list[str]:
    return head.strip().splitlines()[:1]


def _has_suffix(path: str) -> bool:
    return path.lower().endswith(SUFFIXES)


# --------------------------------------------------------------------------------------------------
# Lines `path name`
# --------------------------------------------------------------------------------------------------


def _words(lines: list[str]) -> Table | None:
    """Of lines such as 'a b.jpg big dog', if all are such and no label is a number."""
    rows = []
    for line in lines:
        match = WORDS.fullmatch(line.strip())
        if line.strip() and (not match or _is_number(match[2]) or _has_suffix(match[2])):
            return None
        rows.append(match and (match[1], match[2]))
    names = sorted({row[1] for row in rows if row})
    return Table(rows, names) if names else None


def _is_number(text: str) -> bool:
    return re.fullmatch(r'[-+]?[\d_.]+', text) is not None


# --------------------------------------------------------------------------------------------------
# CSV
# --------------------------------------------------------------------------------------------------


def _delimiter(path: str | os.PathLike, head: str) -> str | None:
    """What divides the columns of a CSV file; None for any other list."""
    first, *rest = [line for line in head.splitlines() if line.strip()][:2] or ['']
    delimiter = max(',;\t', key=first.count)
    cells = [cell.strip(' "') for cell in first.split(delimiter)]
    if len(cells) < 2:
        return None
    if Path(path).suffix.lower() in TABLE_SUFFIXES:
        return delimiter
    if re.search(r'\s\d+\s*$', first) and delimiter != '\t':  # `path label`, with a comma in it
        return None
    is_header = cells[0].lower() in PATH_HEADERS and rest and delimiter in rest[0]
    is_row = _has_suffix(cells[0]) and not _has_suffix(cells[1])
    return delimiter if is_header or (is_row and delimiter != '\t') else None


def _read_cells(path: str | os.PathLike, text: str, delimiter: str) -> list[list[str]]:
    """A row per line of the file; [] for a blank one."""
    rows = []
    reader = csv.reader(
        io.StringIO(text, newline=''), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    try:
        for row in reader:
            if reader.line_num > len(rows) + 1:
                raise UserError(f'{path}, line {len(rows) + 1}: a line break within quotes')
            rows.append([cell.strip() for cell in row] if any(map(str.strip, row)) else [])
    except csv.Error as error:
        raise UserError(f'{path}, line {len(rows) + 1}: {error}') from None
    return rows


def _from_cells(path: str | os.PathLike, rows: list[list[str]]) -> Table:
    start = next((i for i, row in enumerate(rows) if row), None)
    if start is None:
        raise UserError(f'{path}: the list is empty')
    header = [cell.lower() for cell in rows[start]]
    if len(header) < 2:
        raise UserError(f'{path}, line {start + 1}: one column; a list has a path and a label')
    if BOX_HEADERS & set(header):
        raise UserError(f'{path}: a table of boxes in pictures; a list has one label per picture')
    for number, row in enumerate(rows, 1):
        if row and len(row) != len(header):
            raise UserError(
                f'{path}, line {number}: {len(row)} columns; the first line has {len(header)}'
            )
    body = [row for row in rows[start + 1 :] if row]
    is_header = _is_header(header, body)
    if is_header and not body:
        raise UserError(f'{path}: the list is empty')
    if not is_header:
        if len(header) > 2:
            raise UserError(
                f'{path}: has {len(header)} columns and no header; a list is path,label'
            )
        return _labelled(path, rows, *_two_columns([], [rows[start], *body]))
    at, label = _column(header, PATH_HEADERS), _column(header, LABEL_HEADERS)
    if at is not None and _is_one_hot(body, at):
        return _one_hot(path, rows, start, at)
    if len(header) == 2:
        at, label = _two_columns(header, body)
    if at is None or label is None:
        raise UserError(
            f'{path}: which columns are path and label? Call them so in the header, which is '
            f'{", ".join(rows[start])}'
        )
    return _labelled(path, _without(rows, start), at, label)


def _is_header(cells: list[str], body: list[list[str]]) -> bool:
    if any(map(_has_suffix, cells)):
        return False
    if cells[0] in PATH_HEADERS or set(cells) & set(LABEL_HEADERS):
        return True
    columns = list(zip(*body))
    for kind in (_has_suffix, _is_number):  # what all cells of a column are but its first
        if any(all(map(kind, column)) and not kind(cell) for cell, column in zip(cells, columns)):
            return True
    return False


def _two_columns(header: list[str], body: list[list[str]]) -> tuple[int, int]:
    """Which of two columns is the path, the first unless all else contradicts, which the label."""
    suffixes = [all(_has_suffix(row[i]) for row in body) for i in (0, 1)]
    named = [_column(header, PATH_HEADERS), _column(header, LABEL_HEADERS)]
    return (1, 0) if named == [1, 0] or suffixes == [False, True] else (0, 1)


def _column(header: list[str], names: tuple[str, ...]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _without(rows: list[list[str]], header: int) -> list[list[str]]:
    return [*rows[:header], [], *rows[header + 1 :]]


def _labelled(path: str | os.PathLike, rows: list[list[str]], at: int, label: int) -> Table:
    pictures = [(row[at], row[label]) if row else None for row in rows]
    for number, picture in enumerate(pictures, 1):
        if picture and not all(picture):
            what = 'path' if picture[1] else 'label'
            raise UserError(f'{path}, line {number}: there is no {what}')
    labels = {picture[1] for picture in pictures if picture}
    numbers = sorted(filter(_is_number, labels))
    if len(numbers) == len(labels):
        return Table(pictures, None)
    if numbers:
        other = min(labels - set(numbers))
        raise UserError(f'{path}: of its labels, {numbers[0]} is a number and {other!r} a name')
    return Table(pictures, sorted(labels))


def _is_one_hot(body: list[list[str]], at: int) -> bool:
    cells = {cell for row in body for i, cell in enumerate(row) if i != at}
    return len(body[0]) > 2 and cells <= {'0', '1'}


def _one_hot(path: str | os.PathLike, rows: list[list[str]], header: int, at: int) -> Table:
    """A column of 0 and 1 per class: Roboflow's export."""
    names = [name for i, name in enumerate(rows[header]) if i != at]
    if len(set(names)) < len(names):
        raise UserError(f'{path}: two of its columns have the same name')
    pictures = []
    for number, row in enumerate(_without(rows, header), 1):
        ones = [i for i, cell in enumerate(row) if i != at and cell == '1']
        if row and len(ones) != 1:
            raise UserError(
                f'{path}, line {number}: {len(ones)} classes; a picture here has one label'
            )
        pictures.append((row[at], rows[header][ones[0]]) if row else None)
    return Table(pictures, names)
