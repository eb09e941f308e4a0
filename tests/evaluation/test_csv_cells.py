"""CSV files that a spreadsheet opens: names and paths stay text."""

import csv
import json
import shutil
from pathlib import Path

from conftest import CAT
from inferring import run


def test_no_cell_of_a_csv_is_a_formula(model, pair, tmp_path, monkeypatch):
    """A spreadsheet would run it; and ESC would steer a terminal."""
    evil = model(class_names=['=cmd()', '-1', 'x\x1b[31m\ty'])
    monkeypatch.chdir(tmp_path)
    for name in ('=cmd.png', '@x\x1b.png'):
        shutil.copy(CAT, name)
    assert run('--model', evil, '=cmd.png', '@x\x1b.png', '--output', 'o.csv') == 0
    assert run('--model', evil, '--val_list', pair, '--report', 'r', '--output', 'o.json') == 0
    with open('o.csv', encoding='utf-8', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['path'] for row in rows] == ['./=cmd.png', './@x\ufffd.png']
    names = {"'=cmd()", "'-1", 'x\ufffd[31m\ufffdy'}
    assert all({row['name0'], row['name1'], row['name2']} == names for row in rows)
    with open('r/per_class.csv', encoding='utf-8', newline='') as file:
        assert {row['name'] for row in csv.DictReader(file)} == names
    top = json.loads(Path('o.json').read_text(encoding='utf-8'))['pictures'][0]['top']
    assert {guess['name'] for guess in top} == {'=cmd()', '-1', 'x\x1b[31m\ty'}
