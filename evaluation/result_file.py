"""--output of infer.py: what the network says of each picture, as .csv or .json."""

import csv
import json
from pathlib import Path

from common.files import atomic_write
from evaluation.csv_cells import path_cell, text_cell
from evaluation.predictions import UNKNOWN

KINDS = 'class', 'name', 'prob'
COLUMNS = ['path', 'label', *(f'{kind}{rank}' for rank in range(5) for kind in KINDS)]
SUFFIXES = '.csv', '.json'


class ResultFile:
    """`with ResultFile(path, names) as file:`, then `add` each picture and, last, `finish`.

    The file appears at the end, complete, or not at all. A model with a `threshold` gets a column
    `unknown`: 1 where the likeliest class is below it.
    """

    def __init__(self, path, names, threshold=0.0):
        self.names, self.threshold = names, threshold
        self.is_csv = Path(path).suffix.lower() == '.csv'
        self.opened, self.pictures = atomic_write(path, 'w', beside=True), 0

    def __enter__(self):
        self.file = self.opened.__enter__()
        if self.is_csv:
            self.writer = csv.writer(self.file, lineterminator='\n')
            self.writer.writerow(COLUMNS + [UNKNOWN] * bool(self.threshold))
        else:
            self.file.write('{\n "pictures": [')
        return self

    def __exit__(self, *error):
        return self.opened.__exit__(*error)

    def add(self, path, label, classes, probabilities):
        """`label` is None where there is none."""
        unknown = bool(probabilities[0] < self.threshold)
        if self.is_csv:
            row = [path_cell(readable(path)), '' if label is None else label]
            for c, p in zip(classes, probabilities):
                row += [c, text_cell(self.names[c]), f'{p:.9g}']
            row += [''] * (len(COLUMNS) - len(row)) + [int(unknown)] * bool(self.threshold)
            self.writer.writerow(row)
            return
        top = [
            {'class': int(c), 'name': self.names[c], 'probability': float(p)}
            for c, p in zip(classes, probabilities)
        ]
        row = {'path': readable(path), 'label': None if label is None else int(label), 'top': top}
        if self.threshold:
            row[UNKNOWN] = unknown
        text = json.dumps(row, indent=1, ensure_ascii=False).replace('\n', '\n  ')
        self.file.write(f'{"," * bool(self.pictures)}\n  {text}')
        self.pictures += 1

    def finish(self, summary):
        """`summary`, a dict, stands in a .json beside the pictures."""
        if not self.is_csv:
            text = json.dumps(summary, indent=1, ensure_ascii=False)
            self.file.write('\n ],' + text[1:] + '\n')


def readable(path):
    """A path as text that can be written: Linux lets file names hold bytes that are no UTF-8."""
    return str(path).encode(errors='surrogateescape').decode(errors='replace')
