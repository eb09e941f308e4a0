"""Numbers of an evaluation as tables: what was taken for what, and how well each class is told."""

import csv

import numpy as np

from common.console import printable
from common.files import atomic_write
from evaluation.csv_cells import text_cell
from figures.plotting import columns_of, shorten_to_columns

CLASS_COLUMNS = (
    *('class', 'name', 'pictures', 'recall', 'precision', 'f1'),
    *('most_confused_with', 'count'),
)


def write_csv(rows, columns, path):
    """Write dicts `rows` as csv; floats get 6 significant digits, None becomes empty, and no text
    a formula."""
    with atomic_write(path, 'w', beside=True) as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(columns)
        writer.writerows([_csv_value(row.get(key)) for key in columns] for row in rows)


def _csv_value(value):
    if value is None:
        return ''
    if isinstance(value, str):
        return text_cell(value)
    return f'{value:.6g}' if isinstance(value, (float, np.floating)) else value


def confusion_matrix(labels, predicted, class_num):
    """int64 [class_num, class_num]: how many pictures of class `row` were taken for `column`."""
    labels, predicted = np.asarray(labels, np.int64), np.asarray(predicted, np.int64)
    for classes in (labels, predicted):
        if classes.size and not 0 <= classes.min() <= classes.max() < class_num:
            raise ValueError(f'classes {classes.min()} to {classes.max()}, of {class_num}')
    pairs = np.bincount(labels * class_num + predicted, minlength=class_num**2)
    return pairs.reshape(class_num, class_num)


def per_class(labels, predicted, class_names):
    """A dict a class with the keys CLASS_COLUMNS.

    recall: share of the class's pictures that were recognised; precision: share of the pictures
    taken for the class that are of it; f1: their harmonic mean; None where there is nothing to
    divide by. most_confused_with: the other class for which most of its pictures, `count`, were
    taken ('' if none was).
    """
    matrix = confusion_matrix(labels, predicted, len(class_names))
    right, pictures, taken = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    rows = []
    for c, name in enumerate(class_names):
        other = int(wrong[c].argmax())
        count = int(wrong[c, other])
        numbers = (
            int(pictures[c]),
            _ratio(right[c], pictures[c]),
            _ratio(right[c], taken[c]),
            _ratio(2 * right[c], pictures[c] + taken[c]),
        )
        row = (c, name, *numbers, class_names[other] if count else '', count)
        rows.append(dict(zip(CLASS_COLUMNS, row)))
    return rows


def _ratio(part, whole):
    return float(part / whole) if whole else None


def write_per_class(rows, path):
    """Write the rows of `per_class` as csv; None becomes empty."""
    write_csv(rows, CLASS_COLUMNS, path)


def format_per_class(rows, most=20):
    """The classes with pictures as lines for a terminal; the worst, of more than `most`."""
    note, rows = '', [row for row in rows if row['pictures']]
    if len(rows) > most:
        note = f'\n(the {most} classes with the lowest recall, of {len(rows)})'
        rows = sorted(rows, key=lambda row: row['recall'])[:most]
    lines = [('class', 'pictures', 'recall', 'precision', 'f1', 'most often taken for')]
    for row in rows:
        other = f'{_short(row["most_confused_with"])} ({row["count"]})' if row['count'] else ''
        shares = (_percent(row[key]) for key in ('recall', 'precision', 'f1'))
        lines.append((_short(row['name']), str(row['pictures']), *shares, other))
    width = max(columns_of(line[0]) for line in lines)
    return '\n'.join(_table_line(line, width) for line in lines) + note


def _short(name):
    return shorten_to_columns(printable(name), 28)


def _table_line(line, width):
    name, *numbers, other = line
    numbers = ''.join(f'{number:>11}' for number in numbers)
    return f'{name}{" " * (width - columns_of(name))}{numbers}   {other}'.rstrip()


def _percent(share):
    return '-' if share is None else f'{share:.1%}'
