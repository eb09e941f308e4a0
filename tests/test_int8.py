"""infer.py --precision int8: made on the spot, by ONNX Runtime."""

import json
import re
import sys

import numpy as np
import pytest
from conftest import ROOT
from inferring import one_error_line, run

import exports
from common.console import UserError
from common.device import CPU
from evaluation import evaluator
from exports import int8, int8_calibration, onnx_file
from infer import Classifier
from models import model_io
from network.preprocessing import preprocessing_of
from pictures.lists import read_list
from reader import eval_loader, network_input

PHOTOS = sorted((ROOT / 'data' / 'photos').glob('*.jpg'))


@pytest.fixture
def photos(tmp_path):
    """A list of the bundled photos, with some labels."""
    path = tmp_path / 'photos.txt'
    path.write_text(''.join(f'{photo} {i}\n' for i, photo in enumerate(PHOTOS * 2)))
    return path


def logits_by_hand(tensors, config, path):
    """What ONNX Runtime computes of a list, its ranges measured on the same list."""
    pictures = read_list(path)
    _, crops, _ = next(eval_loader(pictures, preprocessing_of(config), len(pictures)))
    images = network_input(crops, preprocessing_of(config))
    feeds = np.split(images, range(int8_calibration.BATCH, len(images), int8_calibration.BATCH))
    return onnx_file.session(int8.quantise(tensors, config, False, feeds))(images)


def test_results_are_onnx_runtimes_with_and_without_workers(tmp_path, photos, capsys):
    found = []
    for workers in (0, 2):
        output = tmp_path / f'{workers}.json'
        flags = '--precision', 'int8', '--calibrate', photos, '--num_workers', workers
        assert run('--val_list', photos, *flags, '--output', output) == 0
        printed = capsys.readouterr().out
        assert f'device: CPU, int8, workers: {workers} (by ONNX Runtime)' in printed
        assert float(re.search(r'that of float32 on ([\d.]+)%', printed)[1]) >= 75
        found.append(json.loads(output.read_text()))
    assert found[0]['precision'] == 'int8'
    assert found[0]['pictures'] == found[1]['pictures']

    tensors, config = model_io.read_model(ROOT / 'data' / 'squeezenet_v1.1.caffemodel')
    right = evaluator.score(None, logits_by_hand(tensors, config, photos))
    top = [picture['top'][0] for picture in found[0]['pictures']]
    assert [entry['class'] for entry in top] == right.classes[:, 0].tolist()
    assert [entry['probability'] for entry in top] == pytest.approx(right.probabilities[:, 0])


def test_a_picture_alone_is_computed_in_int8_too(photos, capsys):
    """As few as float32 leaves to NumPy."""
    flags = '--precision', 'int8', '--calibrate', photos
    assert run(PHOTOS[0], *flags) == 0
    in_int8 = capsys.readouterr().out
    assert 'device: CPU, int8' in in_int8
    assert run(PHOTOS[0]) == 0
    in_float32 = capsys.readouterr().out
    shares = [re.findall(r'([\d.]+)%  ', text)[-5:] for text in (in_int8, in_float32)]
    assert shares[0] != shares[1]


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (['--precision', 'int8'], 'go together'),
        (['--calibrate', 'photos.txt'], 'go together'),
        (['--precision', 'int8', '--calibrate', 'a', '--device', 'gpu'], 'leave out --device gpu'),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags, words, capsys):
    with pytest.raises(SystemExit):
        run(PHOTOS[0], *flags)
    assert words in capsys.readouterr().err


def test_without_onnx_a_line_says_what_to_install(photos, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnx', None)  # importing it fails
    for name in ('int8_network', 'onnx_file', 'int8'):
        monkeypatch.delitem(sys.modules, f'exports.{name}', raising=False)
        monkeypatch.delattr(exports, name, raising=False)
    assert run(PHOTOS[0], '--precision', 'int8', '--calibrate', photos) == 1
    line = one_error_line(capsys)
    assert 'onnx is not installed: pip install -r requirements-export.txt' in line


def test_bad_lists_are_found_before_anything_is_computed(photos, tmp_path, capsys):
    flags = '--precision', 'int8', '--calibrate', photos
    (tmp_path / 'val.txt').write_text('x.png 1000\n')
    assert run('--val_list', tmp_path / 'val.txt', *flags) == 1
    captured = capsys.readouterr()
    assert 'val.txt, line 1: ' in captured.err
    assert 'calibrating' not in captured.out
    photos.write_text('missing.jpg 0\n')
    assert run(PHOTOS[0], *flags) == 1
    assert 'photos.txt, line 1: ' in one_error_line(capsys)


def test_whoever_has_no_pictures_is_not_given_float32_in_its_place(official_tensors):
    config = model_io.make_config('1.1', None, 1000)
    with pytest.raises(UserError, match='int8 needs pictures'):
        evaluator.Evaluator(official_tensors, config, CPU, precision='int8')
    with pytest.raises(UserError, match='int8 needs pictures'):
        Classifier(precision='int8')
