"""The recipe for one's own pictures: a folder is enough, and what comes of it."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import train
from models import model_io
from network.preprocessing import Preprocessing
from pictures import lists
from pictures.class_names import class_names_beside
from runs import run_lists, setup, summary
from runs.options import parse_options
from runs.state import RunState
from training.head import Views, basis, fit, minimise

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / 'data'


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """A folder of class folders: grass 9 pictures, gravel 6, brick 3."""
    folder = tmp_path_factory.mktemp('photos')
    for name, count in (('grass', 9), ('gravel', 6), ('brick', 3)):
        (folder / name).mkdir()
        for path in sorted((DATA / 'textures' / 'train' / name).iterdir())[: 3 * count : 3]:
            shutil.copy(path, folder / name)
    return folder


def run(folder, *arguments, script='train.py'):
    command = [sys.executable, ROOT / script, *arguments]
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=200, cwd=folder
    )


def succeed(*arguments, **options):
    done = run(*arguments, **options)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope='module')
def taught(photos, tmp_path_factory):
    """(output of `train.py PHOTOS`, what it printed)."""
    place = tmp_path_factory.mktemp('run')
    flags = '--epochs', 2, '--batch_size', 8, '--unknown', 0.9
    return place / 'my out', succeed(place, photos, '--output', 'my out', *flags)


def test_a_folder_is_enough(taught, photos):
    output, text = taught
    assert 'the classes have 2 to 7 pictures' in text and 'conv10 is made anew' in text
    tensors, config = model_io.read_model(output / 'best')
    assert config['class_names'] == ['brick', 'grass', 'gravel']
    assert config['conv10_relu'] is False
    told = json.loads((output / 'run.json').read_text())
    assert told['results']['val']['top1'] == 1.0  # the textures are an easy task
    assert (output / 'lists' / 'train.txt').exists()
    assert not (photos / 'train.txt').exists()  # the user's folder is left as it is
    assert "next: python infer.py --model 'my out/best' PICTURES" in text
    assert 'that is 4 of 4 right' in text
    before, _ = model_io.read_model(DATA / 'squeezenet_v1.1.caffemodel')
    for name, value in tensors.items():
        frozen = name.split('.')[0] in ('conv1', 'fire2', 'fire3', 'fire4', 'fire5')
        assert np.array_equal(value, before[name]) == frozen, name


def test_what_is_learned_answers_pictures_and_other_things_with_unknown(taught, tmp_path):
    output, text = taught
    assert 'it answers `unknown`' in text
    picture = sorted((DATA / 'textures' / 'val' / 'brick').iterdir())[0]
    assert 'brick' in succeed(tmp_path, '--model', output / 'best', picture, script='infer.py')


def test_more_epochs_after_the_end(taught, tmp_path):
    output = tmp_path / 'longer'
    shutil.copytree(taught[0], output)
    shutil.copytree(taught[0] / 'lists', tmp_path / 'my out' / 'lists')
    text = succeed(tmp_path, '--resume', '--output', output, '--epochs', 3)
    assert 'the learning rate begins again at 0.0003' in text
    with open(output / 'log.csv') as file:
        assert [row['epoch'] for row in csv.DictReader(file)] == ['0', '1', '2', '3']
    done = run(tmp_path, '--resume', '--output', output, '--epochs', 1)
    assert done.returncode == 1 and 'it has made' in done.stderr


def test_overwrite_makes_new_lists_and_a_new_run_and_fails_without_a_loss(taught, photos, tmp_path):
    shutil.copytree(taught[0], tmp_path / 'out')
    arguments = photos, '--output', 'out', '--overwrite', '--batch_size', 8, '--seed', 3
    (photos / 'brick' / 'note.jpg').write_text('no picture')
    before = (tmp_path / 'out' / 'lists' / 'train.txt').read_text()
    failed = run(tmp_path, *arguments, '--model', 'nowhere')
    assert failed.returncode == 1 and 'nowhere: No such file' in failed.stderr
    assert (tmp_path / 'out' / 'lists' / 'train.txt').read_text() == before
    assert model_io.read_model(tmp_path / 'out' / 'best')
    succeed(tmp_path, *arguments, '--epochs', 0)
    (photos / 'brick' / 'note.jpg').unlink()
    assert (tmp_path / 'out' / 'lists' / 'train.txt').read_text() != before
    with open(tmp_path / 'out' / 'log.csv') as file:
        assert [row['epoch'] for row in csv.DictReader(file)] == ['0']


def test_show_batch_draws_what_training_sees_and_trains_nothing(tmp_path):
    text = succeed(tmp_path, '--show_batch', tmp_path / 'sheet.png')
    assert 'what training sees of 24 pictures' in text
    assert cv2.imread(str(tmp_path / 'sheet.png')).shape[0] > 500
    assert [path.name for path in tmp_path.iterdir()] == ['sheet.png']


def test_show_batch_draws_the_folder_that_is_named_and_leaves_nothing(
    photos, tmp_path, monkeypatch
):
    sheets = []
    monkeypatch.setattr(
        summary.image_grid, 'draw_image_grid', lambda cells, path: sheets.append(cells)
    )
    monkeypatch.chdir(tmp_path)
    before = sorted(photos.rglob('*'))
    assert train.main([str(photos), '--show_batch', 'sheet.png', '--device', 'cpu']) == 0
    assert train.main([str(photos), '--show_batch', 'sheet.png', '--resize', 'warp']) == 0
    for cells in sheets:
        assert {title for _, title, _ in cells} == {'grass', 'gravel', 'brick'}
    assert list(tmp_path.iterdir()) == [] and sorted(photos.rglob('*')) == before


@pytest.mark.parametrize('flag', ['--train_list', '--val_list', '--data_dir'])
def test_a_folder_and_lists_of_ones_own_are_not_both_taken(photos, flag, capsys):
    assert train.main([str(photos), flag, 'somewhere']) == 1
    assert f'and {flag}: a folder brings its own lists' in capsys.readouterr().err


def test_a_test_list_beside_a_folder_counts(photos, tmp_path):
    options = parse_options([str(photos), '--test_list', 'my_test.txt'])
    assert options.train_list is None  # so nothing takes the demo for it
    run_lists.make_lists(options, tmp_path)
    assert options.train_list == str(tmp_path / 'train.txt') and options.test_list == 'my_test.txt'


def test_another_folder_is_not_resumed_into_a_run(taught, photos, tmp_path, capsys):
    output, _ = taught
    (tmp_path / 'other').mkdir()
    resume = '--resume', '--output', str(output)
    assert train.main([str(tmp_path / 'other'), *resume]) == 1
    assert 'is not what the run that --resume continues is of' in capsys.readouterr().err
    stored = setup.stored_options(parse_options(resume))
    assert parse_options([str(photos), *resume], stored).train_list == stored['train_list']


def test_a_test_list_is_used_once_at_the_end(photos, tmp_path):
    succeed(tmp_path, photos, '--output', tmp_path / 'lists', '--test', 0.2, script='reader.py')
    flags = '--train_list', tmp_path / 'lists' / 'train.txt', '--epochs', 0, '--output', 'out'
    text = succeed(tmp_path, *flags)
    told = json.loads((tmp_path / 'out' / 'run.json').read_text())
    assert set(told['results']['test']) == {'top1', 'top5', 'balanced', 'loss'}
    assert 'test top-1' in text


def test_skip_bad_names_what_it_leaves_out(photos, tmp_path):
    folder = tmp_path / 'photos'
    shutil.copytree(photos, folder)
    succeed(tmp_path, folder, script='reader.py')
    line = (folder / 'train.txt').read_text().splitlines()[0]
    (folder / line.rsplit(' ', 1)[0]).write_bytes(b'no picture')
    flags = folder, '--epochs', 0, '--output', 'out', '--num_workers', 0
    done = run(tmp_path, *flags)
    assert done.returncode == 1 and 'train.txt, line 1' in done.stderr
    assert 'left out' in succeed(tmp_path, *flags, '--skip_bad')
    (folder / line.rsplit(' ', 1)[0]).unlink()
    assert 'No such file' in succeed(tmp_path, *flags, '--skip_bad', '--overwrite')
    told = json.loads((tmp_path / 'out' / 'run.json').read_text())
    assert told['pictures']['train'] == len((folder / 'train.txt').read_text().splitlines()) - 1


# --- conv10 ---------------------------------------------------------------------------------------


def test_lbfgs_finds_the_bottom_of_a_quadratic():
    rng = np.random.default_rng(2)
    root = rng.normal(size=(30, 30))
    matrix, target = root @ root.T + np.eye(30), rng.normal(size=30)

    def function(x):
        away = x - target
        return 0.5 * away @ matrix @ away, matrix @ away

    np.testing.assert_allclose(minimise(function, np.zeros(30)), target, atol=1e-3)


def test_a_rare_class_counts_as_much_as_a_common_one():
    """300 pictures of one class and 10 of another on a line: the border is in the middle."""
    rng = np.random.default_rng(3)
    features = rng.normal(size=(310, 512)).astype(np.float32) * 0.1
    labels = np.array([0] * 300 + [1] * 10)
    features[:, 0] += np.where(labels == 1, 1.0, -1.0)
    weight, bias = fit(Views(features, labels), 2, np.zeros((1, 512)))
    middle = np.zeros(512)
    score = (weight @ middle + bias) @ [1, -1]
    assert abs(score) < 0.2 * abs((weight @ np.eye(512)[0]) @ [1, -1])


def test_the_basis_is_scaled_to_its_features():
    rng = np.random.default_rng(4)
    features = rng.normal(size=(50, 512))
    for old in (rng.normal(size=(1000, 512)), rng.normal(size=(3, 512))):
        base = basis(old, features)
        assert np.square(features @ base).sum(axis=1).mean() == pytest.approx(1)


# --- when it ends, and what it says ---------------------------------------------------------------


def state(top1s, seconds=10.0, cycle_start=0):
    rows = [
        {'epoch': i, 'iteration': 5 * i, 'val_top1': v, 'val_loss': 1.0, 'seconds': seconds * i}
        for i, v in enumerate(top1s)
    ]
    return RunState({}, {}, {}, 9, rows=rows, cycle_start=cycle_start)


def test_patience_and_time_end_a_run():
    options = parse_options(['--patience', '3'])
    assert summary.should_stop(state([0.5, 0.6, 0.6, 0.5]), options) is None
    assert '--patience' in summary.should_stop(state([0.5, 0.6, 0.6, 0.5, 0.4]), options)
    assert summary.should_stop(state([0.5, 0.6, 0.6, 0.5, 0.4], cycle_start=20), options) is None
    options = parse_options(['--time', '1m', '--patience', '0'])
    assert summary.should_stop(state([0.5] * 5), options) is None
    assert '--time' in summary.should_stop(state([0.5] * 7), options)


def test_a_network_that_answers_alike_is_noticed():
    class Found:
        labels = np.array([0, 1, 2])
        classes = np.array([[1, 0, 2]] * 3)
        probabilities = np.array([[0.4, 0.3, 0.3]] * 3)

    assert summary.answers_alike(Found)
    Found.probabilities = np.add(Found.probabilities, [[0], [1e-3], [0]])
    assert not summary.answers_alike(Found)
    assert 'ln 3' in summary.collapse_warning({'train_loss': np.log(3)}, Found, 3)
    assert summary.collapse_warning({'train_loss': 0.9}, Found, 3) is None
    assert summary.collapse_warning({}, Found, 3) is None


def test_class_weights_make_classes_alike(tmp_path):
    (tmp_path / 'l.txt').write_text('a 0\n' * 6 + 'b 1\n' * 2)
    found = run_lists.class_weights(lists.read_list(tmp_path / 'l.txt'), {'class_num': 3}).numpy()
    assert found[:2] * np.array([6, 2]) == pytest.approx(4)


@pytest.mark.parametrize(
    ('recipe', 'expected'),
    [
        ('own', {'head': 'fit', 'freeze': 'fire5', 'crop': 'area', 'mirror': None}),
        ('caffe', {'head': 'filler', 'freeze': 'none', 'crop': 'five', 'lr': 0.0002}),
        ('paper', {'crop': 'random', 'resize': 'warp', 'mirror': False, 'iter_size': 16}),
    ],
)
def test_recipes_are_defaults_that_flags_change(recipe, expected):
    options = parse_options(['--recipe', recipe])
    assert expected.items() <= vars(options).items()
    options = parse_options(['--recipe', recipe, '--no-mirror', '--crop', 'random'])
    assert (options.mirror, options.crop) == (False, 'random')


def test_imagenets_numbers_keep_imagenets_conv10(tmp_path):
    """Folders called n01440764 ... are the bundled model's classes, in whatever order."""
    names = [line.split()[0] for line in (DATA / 'synset_words.txt').read_text().splitlines()]
    (tmp_path / 'classes.txt').write_text('\n'.join(names[::-1]) + '\n')
    found = class_names_beside(tmp_path / 'train.txt')
    config = model_io.make_config('1.1', None, 1000, preprocessing=Preprocessing())
    assert setup._knows(config, 1000, found)
    assert not setup._knows(config, 1000, [*found[:-1], 'my dog'])


def test_few_val_pictures_give_an_interval_and_no_verdict():
    """Wilson's interval of 6 of 8 is 0.409 to 0.929 (Newcombe's formula by hand)."""
    (line,) = summary.val_remarks(0.75, 0.75, 8, True)
    assert line.startswith('that is 6 of 8 right') and 'from 41% to 93%' in line
    (line,) = summary.val_remarks(0.8, 0.8, 50, True)
    assert line.startswith('training brought nothing') and '--no-mirror' in line
    (line,) = summary.val_remarks(0.8, 0.8, 50, False)
    assert '--no-mirror' not in line
    assert summary.val_remarks(0.8, 0.9, 50, True) == summary.val_remarks(1.0, 1.0, 50, True) == []
