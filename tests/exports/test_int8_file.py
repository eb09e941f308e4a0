"""int8: what ONNX Runtime's quantiser makes, and what the command says of it."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
from conftest import GOLDEN, ROOT
from onnx import numpy_helper

import export
from common.console import UserError
from exports import int8, onnx_file
from models import model_io
from network.preprocessing import Preprocessing

OFFICIAL = ROOT / 'data' / 'squeezenet_v1.1.caffemodel'
CAT, COFFEE = 285, 967  # Egyptian cat, espresso


@pytest.fixture(scope='module')
def official(tmp_path_factory):
    """(what the command prints, its file) of the official network, shown the four photos."""
    folder = tmp_path_factory.mktemp('int8')
    photos = sorted((ROOT / 'data' / 'photos').glob('*.jpg'))
    (folder / 'photos.txt').write_text(''.join(f'{path} 0\n' for path in photos))
    for name in ('cat_227.png', 'coffee_227.png'):
        shutil.copy(GOLDEN / name, folder / name)
    (folder / 'val.txt').write_text(f'cat_227.png {CAT}\ncoffee_227.png 1\n')
    command = [sys.executable, ROOT / 'export.py', '--model', OFFICIAL, '--to', 'onnx_int8']
    lists = ['--calibrate', 'photos.txt', '--val_list', 'val.txt', '--output', 'int8.onnx']
    done = subprocess.run(
        [*command, *lists], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, folder / 'int8.onnx'


def test_command_says_how_it_compares(official):
    printed, path = official
    assert 'calibrating with 4 of 4 pictures' in printed
    assert f'{path.stat().st_size:,} bytes' in printed
    assert re.search(r'float32 [\d.]+ ms, int8 [\d.]+ ms', printed)
    assert '2 images: float32 top-1 50.00%, top-5 50.00%; int8 top-1 50.00%' in printed
    assert float(re.search('probabilities within (.*)', printed)[1]) < 0.3


def test_file_is_a_quarter_and_steps_are_for_each_filter(official):
    _, path = official
    model = onnx.load(path)
    assert path.stat().st_size < OFFICIAL.stat().st_size / 3
    constants = {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer}
    assert constants['conv10.weight_quantized'].dtype == np.int8
    assert constants['conv10.weight_scale'].shape == (1000,)
    assert constants['fire5.expand3x3.weight_scale'].shape == (128,)
    assert constants['conv1.weight_quantized'].dtype == np.int8
    kept = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(kept['class_names'])[CAT] == 'Egyptian cat'


def test_int8_sees_what_float32_sees(official, images):
    _, path = official
    logits = onnx_file.session(str(path))(images)
    assert logits.argmax(axis=1).tolist() == [CAT, COFFEE]


@pytest.mark.parametrize('bypass', [None, 'simple', 'complex'])
@pytest.mark.parametrize('preprocessing', [False, True])
def test_every_variant_is_near_to_float32(bypass, preprocessing, seeded_tensors, pixels):
    wanted = Preprocessing(crop=115, scale=0.5)
    config = model_io.make_config('1.1', bypass, 10, conv10_pad=1, preprocessing=wanted)
    tensors = seeded_tensors('1.1', bypass, 10)
    crops = pixels[:, 50:165, 50:165].astype(np.uint8)
    feed = crops[..., ::-1].copy() if preprocessing else export.reader.network_input(crops, wanted)
    content = int8.quantise(tensors, config, preprocessing, [feed])
    found = onnx_file.session(content)(feed)
    right = onnx_file.build(tensors, config, preprocessing).SerializeToString()
    wanted = onnx_file.session(right)(feed)
    assert np.abs(found - wanted).max() < 0.1 * np.abs(wanted).max()
    assert np.abs(found - wanted).max() > 0


def dimensions(model):
    """The sizes of input and output; None where one is open."""
    return [
        [size.dim_value or None for size in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]


@pytest.mark.parametrize('options', [[], ['--preprocessing', '--batch', '2']])
def test_the_number_of_pictures_is_open_or_fixed(options, model, tmp_path):
    (tmp_path / 'list.txt').write_text(f'{GOLDEN / "cat_227.png"} 0\n')
    lists = ['--calibrate', tmp_path / 'list.txt', '--val_list', tmp_path / 'list.txt']
    output = tmp_path / 'int8.onnx'
    arguments = ['--model', model(), '--to', 'onnx_int8', '--output', output, *lists, *options]
    assert export.main([str(argument) for argument in arguments]) == 0
    sizes = {False: [[None, 3, 227, 227], [None, 3]], True: [[2, 227, 227, 3], [2, 3]]}
    assert dimensions(onnx.load(output)) == sizes[bool(options)]


@pytest.mark.parametrize('factor', [1e12, np.nan])
def test_a_network_whose_numbers_are_none_is_refused(factor, seeded_tensors, images):
    config = model_io.make_config('1.1', None, 10, conv10_relu=False)
    tensors = {name: value * np.float32(factor) for name, value in seeded_tensors('1.1').items()}
    with pytest.raises(UserError, match='NaN or infinite numbers; its weights are too large'):
        int8.quantise(tensors, config, False, [images])


def test_a_label_beyond_the_classes_is_refused_before_anything_is_done(tmp_path, capsys):
    (tmp_path / 'val.txt').write_text('x.png 1000\n')
    (tmp_path / 'train.txt').write_text('x.png 0\n')
    lists = ['--calibrate', tmp_path / 'train.txt', '--val_list', tmp_path / 'val.txt']
    arguments = ['--model', OFFICIAL, '--to', 'onnx_int8', '--output', tmp_path / 'x', *lists]
    assert export.main([str(argument) for argument in arguments]) == 1
    assert 'val.txt, line 1' in capsys.readouterr().err
