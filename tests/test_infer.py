"""infer.py by its command line: Caffe's probabilities, its files, and how it fails."""

import csv
import json
import os
import shutil

import cv2
import numpy as np
import pytest
from conftest import GOLDEN, ROOT

import infer
from models import parameters
from network.preprocessing import Preprocessing

OFFICIAL = ROOT / 'data' / 'squeezenet_v1.1.caffemodel'
CAT, COFFEE = GOLDEN / 'cat_227.png', GOLDEN / 'coffee_227.png'
COLUMNS = 'path,label,class0,prob0,class1,prob1,class2,prob2,class3,prob3,class4,prob4'


def run(*arguments):
    """The command in this process: its exit status."""
    return infer.main([str(argument) for argument in arguments])


def one_error_line(capsys):
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert 'Traceback' not in error
    return error


def read_rows(path):
    """Rows of a csv: (path, label, {class: probability})."""
    with open(path, encoding='utf-8', newline='') as file:
        rows = list(csv.DictReader(file))
    pairs = [[(row[f'class{k}'], row[f'prob{k}']) for k in range(5)] for row in rows]
    tops = [{int(c): float(p) for c, p in pair if c} for pair in pairs]
    return [(row['path'], row['label'], top) for row, top in zip(rows, tops)]


@pytest.fixture(scope='module')
def model(tmp_path_factory, seeded_tensors):
    """Function (version, bypass, class_num, **make_config's) -> a parameter directory."""

    def write(version='1.1', bypass=None, class_num=3, **options):
        directory = tmp_path_factory.mktemp('model')
        config = parameters.make_config(version, bypass, class_num, **options)
        parameters.write_model(directory, seeded_tensors(version, bypass, class_num), config)
        return directory

    return write


@pytest.fixture(scope='module')
def three_classes(model):
    return model(class_names=['red brick', 'gräs', '砾石'])


@pytest.fixture
def pair(tmp_path):
    """A list of the two golden pictures with labels 0 and 1; one path holds spaces."""
    shutil.copy(CAT, tmp_path / 'a cat.png')
    shutil.copy(COFFEE, tmp_path / 'coffee.png')
    (tmp_path / 'val.txt').write_text('a cat.png 0\ncoffee.png 1\n')
    return tmp_path / 'val.txt'


# --- the numbers -----------------------------------------------------------------------------


@pytest.mark.parametrize(('version', 'bypass'), [('1.1', None), ('1.0', None)])
def test_probabilities_of_a_list_are_caffes(version, bypass, model, pair, tmp_path, activations):
    """Ten classes, so that the golden data holds every probability."""
    key = f'seeded_v{version}_{bypass or "none"}|prob|'
    caffe = np.zeros(20)
    caffe[activations[key + 'index']] = activations[key + 'value']
    caffe = caffe.reshape(2, 10)
    output = tmp_path / 'out.csv'
    directory = model(version, bypass, 10)
    arguments = ('--val_list', pair, '--resize', 'none', '--num_workers', 0, '--output', output)
    assert run('--model', directory, *arguments) == 0
    for (_, _, top), expected in zip(read_rows(output), caffe):
        assert next(iter(top)) == expected.argmax()
        assert list(top.values()) == sorted(top.values(), reverse=True)
        assert list(top.values()) == pytest.approx(expected[list(top)], abs=1e-5)
        assert np.delete(expected, list(top)).max() <= min(top.values()) + 1e-5


def test_probabilities_of_the_official_weights_are_caffes(pair, tmp_path, activations):
    output = tmp_path / 'out.csv'
    arguments = ('--val_list', pair, '--resize', 'none', '--num_workers', 0, '--output', output)
    assert run('--model', OFFICIAL, *arguments) == 0
    tops = [top for _, _, top in read_rows(output)]
    key = 'official_v1.1|prob|'
    for index, value in zip(activations[key + 'index'], activations[key + 'value']):
        row, number = divmod(int(index), 1000)
        least = min(tops[row].values())
        assert tops[row].get(number, min(value, least)) == pytest.approx(value, abs=1e-5)
    largest = activations[key + 'sum_l2_max'][2]
    assert max(p for top in tops for p in top.values()) == pytest.approx(largest, abs=1e-5)
    assert [next(iter(top)) for top in tops] == [285, 967]  # Egyptian cat, espresso


def test_summary_is_what_the_probabilities_say(model, pair, tmp_path, capsys, activations):
    """The labels: the cat's likeliest class, the coffee's second, and the cat's least likely."""
    key = 'seeded_v1.1_none|prob|'
    caffe = np.zeros(20)
    caffe[activations[key + 'index']] = activations[key + 'value']
    caffe = caffe.reshape(2, 10)
    labels = caffe[0].argmax(), caffe[1].argsort()[-2], caffe[0].argmin()
    loss = -np.mean(np.log(caffe[[0, 1, 0], labels]))
    pair.write_text('a cat.png {}\n\ncoffee.png {}\na cat.png {}'.format(*labels))
    output = tmp_path / 'out.json'
    arguments = ('--val_list', pair, '--resize', 'none', '--num_workers', 0, '--output', output)
    assert run('--model', model(class_num=10), *arguments) == 0
    assert f'3 images: top-1 33.33%, top-5 66.67%, loss {loss:.4f}, ' in capsys.readouterr().out
    found = json.loads(output.read_text(encoding='utf-8'))
    assert (found['images'], found['top1'], found['top5']) == (3, 1 / 3, 2 / 3)
    assert found['loss'] == pytest.approx(loss, rel=1e-4)
    assert found['images_per_second'] > 0
    assert [row['label'] for row in found['pictures']] == list(labels)
    assert found['pictures'][0]['top'][0]['class'] == labels[0]


def test_resizing_follows_the_models_config_unless_a_flag_says_otherwise(model, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'a.png'), picture)
    tops = {}
    for recorded, flag in [('warp', None), ('short', 'warp'), ('short', None), ('none', None)]:
        output = tmp_path / f'{recorded}{flag}.csv'
        flags = ('--resize', flag) if flag else ()
        directory = model(class_num=3, preprocessing=Preprocessing(recorded))
        assert run('--model', directory, tmp_path / 'a.png', *flags, '--output', output) == 0
        tops[recorded, flag] = read_rows(output)[0][2]
    assert tops['warp', None] == tops['short', 'warp']
    assert len({str(top) for top in tops.values()}) == 3


# --- the files -------------------------------------------------------------------------------


def test_csv_has_these_columns_and_fewer_than_five_classes_leave_them_empty(
    three_classes, pair, tmp_path
):
    output = tmp_path / 'new' / 'out.csv'
    arguments = ('--val_list', pair, '--num_workers', 0, '--output', output)
    assert run('--model', three_classes, *arguments) == 0
    header, cat, coffee, end = output.read_text(encoding='utf-8').split('\n')
    assert header == COLUMNS
    assert cat.startswith('a cat.png,0,')
    assert coffee.startswith('coffee.png,1,')
    assert end == ''
    for line in (cat, coffee):
        assert len(line.split(',')) == 12
        assert line.endswith(',,,,')
        _, _, *pairs = line.split(',')
        assert sorted(pairs[0:6:2]) == ['0', '1', '2']
        assert sum(map(float, pairs[1:6:2])) == pytest.approx(1, abs=1e-7)


def test_workers_do_not_change_the_results(three_classes, tmp_path, run_script):
    """From another process, as users do; with more pictures than a batch holds."""
    lines = [f'{path} {n % 3}\n' for n, path in enumerate([CAT, COFFEE] * 5)]
    (tmp_path / 'val.txt').write_text(''.join(lines))
    arguments = ('--model', three_classes, '--val_list', 'val.txt', '--output')
    done = run_script('infer.py', *arguments, 'two.csv', '--num_workers', 2)
    assert (done.returncode, done.stderr) == (0, '')
    assert '10 images: top-1 ' in done.stdout
    list_flags = ('--val_list', tmp_path / 'val.txt', '--num_workers', 0)
    output = tmp_path / 'none.csv'
    assert run('--model', three_classes, *list_flags, '--output', output) == 0
    assert output.read_bytes() == (tmp_path / 'two.csv').read_bytes()
    assert len(read_rows(output)) == 10


def test_json_names_the_classes(three_classes, pair, tmp_path):
    output = tmp_path / 'out.json'
    arguments = ('--val_list', pair, '--num_workers', 0, '--output', output)
    assert run('--model', three_classes, *arguments) == 0
    text = output.read_text(encoding='utf-8')
    assert '砾石' in text
    names = {0: 'red brick', 1: 'gräs', 2: '砾石'}
    for row in json.loads(text)['pictures']:
        assert set(row) == {'path', 'label', 'top'}
        assert [guess['name'] for guess in row['top']] == [names[g['class']] for g in row['top']]
        assert sum(guess['probability'] for guess in row['top']) == pytest.approx(1)


def test_plot_and_report_are_real_pictures_and_tables(three_classes, pair, tmp_path, capsys):
    sheet, report = tmp_path / 'sheet.png', tmp_path / 'report'
    arguments = ('--val_list', pair, '--num_workers', 0, '--plot', sheet, '--report', report)
    assert run('--model', three_classes, *arguments) == 0
    drawn = cv2.imread(str(sheet))
    assert min(drawn.shape[:2]) > 200
    assert drawn.std() > 10
    confusion = cv2.imread(str(report / 'confusion.png'))
    assert min(confusion.shape[:2]) > 100
    rows = (report / 'per_class.csv').read_text(encoding='utf-8').splitlines()
    assert len(rows) == 4
    assert 'gräs' in rows[2]
    assert 'most often taken for' in capsys.readouterr().out


# --- pictures and folders --------------------------------------------------------------------


def test_without_flags_the_bundled_network_names_imagenets_classes(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(CAT) == 0
    device, *lines = capsys.readouterr().out.splitlines()
    assert device.startswith('device: CPU, float32, workers: ')
    assert lines[0] == str(CAT)
    assert len(lines) == 6
    assert lines[1].endswith('%  Egyptian cat')
    assert lines[2].endswith('%  tabby, tabby cat')


def test_pictures_and_folders_are_shown_in_order_and_an_unreadable_one_does_not_stop_them(
    three_classes, tmp_path, capsys
):
    folder = tmp_path / 'folder'
    folder.mkdir()
    shutil.copy(COFFEE, folder / 'b.png')
    (folder / 'a.png').write_bytes(b'no picture')
    (folder / 'notes.txt').write_text('no picture either')
    output, sheet = tmp_path / 'out.csv', tmp_path / 'sheet.png'
    arguments = (CAT, folder, CAT, '--output', output, '--plot', sheet)
    assert run('--model', three_classes, *arguments) == 1
    captured = capsys.readouterr()
    good = [str(CAT), str(folder / 'b.png'), str(CAT)]
    assert [line for line in captured.out.splitlines()[1:] if line[0] != ' '] == good
    first, last = captured.err.splitlines()
    assert f': {folder / "a.png"}: cannot decode' in first
    assert last.endswith('1 of 4 pictures cannot be read')
    rows = read_rows(output)
    assert [(path, label) for path, label, _ in rows] == [(path, '') for path in good]
    assert rows[0][2] == rows[2][2]
    assert cv2.imread(str(sheet)) is not None


def test_file_names_that_are_no_utf8_are_written_readably(three_classes, tmp_path, capsys):
    path = os.fsencode(tmp_path) + b'/caf\xe9.png'
    try:
        shutil.copy(CAT, path)
    except OSError:
        pytest.skip('this file system knows UTF-8 names alone')
    for kind in ('csv', 'json'):
        output = tmp_path / f'out.{kind}'
        assert run('--model', three_classes, os.fsdecode(path), '--output', output) == 0
        assert 'caf\ufffd.png' in output.read_text(encoding='utf-8')
    assert 'caf\ufffd.png' in capsys.readouterr().out


# --- what goes wrong -------------------------------------------------------------------------


def test_broken_picture_in_a_list_names_the_line_and_leaves_the_old_results(
    three_classes, pair, tmp_path, run_script
):
    """From another process and with workers, through whose hands the error goes."""
    (tmp_path / 'coffee.png').write_bytes(COFFEE.read_bytes()[:5000])
    (tmp_path / 'old.csv').write_text('of the last run')
    before = sorted(tmp_path.iterdir())
    arguments = ('--val_list', 'val.txt', '--num_workers', 2, '--output', 'old.csv')
    done = run_script('infer.py', '--model', three_classes, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith('infer.py: val.txt, line 2: ')
    assert 'coffee.png: cannot decode' in done.stderr
    assert done.stderr.count('\n') == 1
    assert (tmp_path / 'old.csv').read_text() == 'of the last run'
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ('a cat.png 0\ncoffee.png 3\n', 'val.txt, line 2: label 3 is too large; there are 3 class'),
        ('', 'val.txt: the list is empty'),
        ('\n\n', 'val.txt: the list is empty'),
        ('a cat.png\n', 'val.txt, line 1'),
        ('missing.png 1\n', 'missing.png: No such file'),
        ('coffee.png 0\n\na cat.png 1\nval.txt 2\n', 'val.txt, line 4: '),
    ],
)
def test_wrong_list_gets_one_line(content, words, three_classes, pair, tmp_path, capsys):
    pair.write_text(content)
    output = tmp_path / 'out.csv'
    arguments = ('--val_list', pair, '--num_workers', 0, '--output', output)
    assert run('--model', three_classes, *arguments) == 1
    assert words in one_error_line(capsys)
    assert not output.exists()


def test_missing_files_get_one_line(three_classes, tmp_path, pair, capsys):
    nowhere = tmp_path / 'nowhere'
    for arguments in (
        ('--model', nowhere, CAT),
        ('--model', three_classes, '--val_list', nowhere),
        ('--model', three_classes, '--val_list', tmp_path),
        ('--model', three_classes, nowhere),
    ):
        assert run(*arguments) == 1
        assert str(tmp_path) in one_error_line(capsys)


def test_folder_without_pictures_gets_one_line(three_classes, tmp_path, capsys):
    assert run('--model', three_classes, tmp_path) == 1
    assert f'{tmp_path}: holds no pictures' in one_error_line(capsys)


def test_output_that_cannot_be_written_gets_one_line(three_classes, tmp_path, capsys):
    (tmp_path / 'file').write_text('mine')
    assert run('--model', three_classes, CAT, '--output', tmp_path / 'file' / 'out.csv') == 1
    assert str(tmp_path / 'file') in one_error_line(capsys)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ((), 'give pictures, or --val_list LIST'),
        (('a.png', '--val_list', 'val.txt'), 'give pictures, or --val_list LIST'),
        (('a.png', '--report', 'report'), '--report needs a --val_list'),
        (('a.png', '--output', 'out.txt'), 'must end in .csv or .json'),
        (('a.png', '--num_workers', '-1'), '--num_workers must be 0 or more'),
        (('a.png', '--resize', 'long'), "invalid choice: 'long'"),
    ],
)
def test_flags_that_do_not_fit_are_refused(arguments, words, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    assert words in capsys.readouterr().err
