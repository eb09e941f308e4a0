"""infer.py by its command line: Caffe's probabilities, its files, and what it prints."""

import csv
import errno
import json
import os
import shutil

import cv2
import numpy as np
import pytest
from conftest import CAT, COFFEE, ROOT
from inferring import one_error_line, run

import infer
from network.preprocessing import Preprocessing

OFFICIAL = ROOT / 'data' / 'squeezenet_v1.1.caffemodel'
COLUMNS = 'path,label,' + ','.join(f'class{k},name{k},prob{k}' for k in range(5))


def read_rows(path):
    """Rows of a csv: (path, label, {class: probability})."""
    with open(path, encoding='utf-8', newline='') as file:
        rows = list(csv.DictReader(file))
    pairs = [[(row[f'class{k}'], row[f'prob{k}']) for k in range(5)] for row in rows]
    tops = [{int(c): float(p) for c, p in pair if c} for pair in pairs]
    return [(row['path'], row['label'], top) for row, top in zip(rows, tops)]


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


def test_fast_decode_is_said_and_gives_nearly_the_same(model, pair, tmp_path, capsys):
    photo = cv2.imread(str(COFFEE))
    cv2.imwrite(str(tmp_path / 'big.jpg'), cv2.resize(photo, (1300, 1200)))
    cv2.imwrite(str(tmp_path / 'small.jpg'), cv2.resize(photo, (500, 400)))
    pair.write_text('big.jpg 0\nsmall.jpg 1\n')
    found, said = [], []
    for flags in [], ['--fast_decode']:
        out = tmp_path / 'out.json'
        assert run('--model', model(), '--val_list', pair, '--output', out, *flags) == 0
        said.append(capsys.readouterr().out)
        found.append(json.loads(out.read_text()))
    full, fast = found
    assert 'fast_decode' not in full and 'reduced scale' not in said[0]
    assert fast['fast_decode'] is True and 'big JPEGs at a reduced scale' in said[1]
    big, small = zip(*(each['pictures'] for each in found))
    assert small[0] == small[1]
    (a, b) = ({top['class']: top['probability'] for top in each['top']} for each in big)
    assert 0 < max(abs(a[number] - b[number]) for number in a) < 0.02


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
        assert len(line.split(',')) == 17
        assert line.endswith(',,,,,,')
        _, _, *cells = line.split(',')
        names = dict(zip(cells[0:9:3], cells[1:9:3]))
        assert names == {'0': 'red brick', '1': 'gräs', '2': '砾石'}
        assert sum(map(float, cells[2:9:3])) == pytest.approx(1, abs=1e-7)


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


def test_a_second_report_leaves_no_mistakes_of_the_first(three_classes, pair, tmp_path):
    output, report = tmp_path / 'out.csv', tmp_path / 'report'
    flags = ('--model', three_classes, '--num_workers', 0, '--report', report, '--output', output)
    assert run(*flags, '--val_list', pair) == 0
    first = [next(iter(top)) for _, _, top in read_rows(output)]
    for labels, mistakes in [([(c + 1) % 3 for c in first], True), (first, False)]:
        pair.write_text('a cat.png {}\ncoffee.png {}\n'.format(*labels))
        assert run(*flags, '--val_list', pair) == 0
        assert (report / 'mistakes.png').exists() == mistakes


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
    note, first, last = captured.err.splitlines()
    assert note.endswith('1 file or folder that is no picture: notes.txt')
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
    except OSError as error:
        if error.errno != errno.EILSEQ:
            raise
        pytest.skip('this file system knows UTF-8 names alone')
    for kind in ('csv', 'json'):
        output = tmp_path / f'out.{kind}'
        assert run('--model', three_classes, os.fsdecode(path), '--output', output) == 0
        assert 'caf\ufffd.png' in output.read_text(encoding='utf-8')
    assert 'caf\ufffd.png' in capsys.readouterr().out


def test_a_folder_is_looked_at_by_workers_in_its_order(three_classes, tmp_path, capsys):
    folder = tmp_path / 'folder'
    folder.mkdir()
    for n in range(11):  # more than two batches
        shutil.copy((CAT, COFFEE)[n % 2], folder / f'{n:02}.png')
    found = {}
    for workers in (0, 2):
        output = tmp_path / f'{workers}.json'
        assert (
            run('--model', three_classes, folder, '--num_workers', workers, '--output', output) == 0
        )
        found[workers] = json.loads(output.read_text(encoding='utf-8'))['pictures']
    assert found[0] == found[2]
    assert [row['path'] for row in found[0]] == [str(folder / f'{n:02}.png') for n in range(11)]
    shown = [line for line in capsys.readouterr().out.splitlines() if line.endswith('.png')]
    assert shown == [row['path'] for row in found[0]] * 2


def test_where_the_network_looked_is_drawn(three_classes, tmp_path):
    plain, looked = tmp_path / 'plain.png', tmp_path / 'looked.png'
    assert run('--model', three_classes, CAT, '--plot', plain, '--cam', looked) == 0
    plain, looked = (cv2.imread(str(path)).astype(int) for path in (plain, looked))
    assert plain.shape == looked.shape
    assert np.abs(plain - looked).max() > 50


# --- names instead of positions --------------------------------------------------------------


def test_labels_are_mapped_by_the_classes_names(three_classes, model, pair, tmp_path, capsys):
    """The same list with its classes in another order, and with two of the model's three."""
    results = {}
    for names, labels in [(['red brick', 'gräs', '砾石'], (2, 1)), (['gräs', '砾石'], (1, 0))]:
        (tmp_path / 'classes.txt').write_text('\n'.join(names), encoding='utf-8')
        pair.write_text('a cat.png {}\ncoffee.png {}\n'.format(*labels))
        output = tmp_path / 'out.json'
        assert run('--model', three_classes, '--val_list', pair, '--output', output) == 0
        results[len(names)] = json.loads(output.read_text(encoding='utf-8'))
    assert [row['label'] for row in results[2]['pictures']] == [2, 1]
    for name in ('pictures', 'top1', 'top5', 'loss'):
        assert results[2][name] == results[3][name]
    assert 'are found by their names' in capsys.readouterr().out


def test_classes_that_the_model_does_not_know_are_refused(three_classes, pair, tmp_path, capsys):
    (tmp_path / 'classes.txt').write_text('ants\nbees\n')
    assert run('--model', three_classes, '--val_list', pair) == 1
    assert "the list's class 'ants' is none of the model's" in one_error_line(capsys)


def test_a_list_without_class_names_is_taken_by_positions_aloud(three_classes, pair, capsys):
    assert run('--model', three_classes, '--val_list', pair) == 0
    assert "its labels are taken as the model's" in capsys.readouterr().out


# --- how sure ----------------------------------------------------------------------------------


def test_temperature_and_threshold_of_the_configuration_are_obeyed(model, pair, tmp_path, capsys):
    tops = {}
    for name, options in {
        'plain': {},
        'warm': {'temperature': 4.0},
        'unsure': {'temperature': 4.0, 'threshold': 0.99},
    }.items():
        directory = model(class_num=3, class_names=['a', 'b', 'c'], **options)
        output = tmp_path / f'{name}.csv'
        assert run('--model', directory, CAT, '--output', output) == 0
        tops[name] = read_rows(output)[0][2]
    cold = np.array([tops['plain'][c] for c in range(3)])
    expected = cold**0.25 / (cold**0.25).sum()
    assert [tops['warm'][c] for c in range(3)] == pytest.approx(expected, rel=1e-5)
    assert tops['unsure'] == tops['warm']
    assert (tmp_path / 'unsure.csv').read_text().splitlines()[1].endswith(',1')
    printed = capsys.readouterr().out
    assert printed.count('unknown') == 1
    assert printed.splitlines()[-4].endswith('%  unknown')
    assert infer.Classifier(directory)(CAT)[0] == ('unknown', pytest.approx(1 - max(expected)))
    assert run('--model', directory, '--val_list', pair) == 0
    assert '2 unknown' in capsys.readouterr().out


@pytest.mark.parametrize('wrong', [{'temperature': 10**400}, {'threshold': 1.5}])
def test_a_wrong_temperature_or_threshold_is_refused(wrong, model, capsys):
    assert run('--model', model(class_num=3, **wrong), CAT) == 1
    assert next(iter(wrong)) in one_error_line(capsys)
