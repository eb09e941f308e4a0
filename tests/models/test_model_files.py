"""Model files: what is written is read bit for bit, and what is wrong gets one line."""

import json
import os

import model_checks
import numpy as np
import paddle
import pytest
import safetensors.numpy
from conftest import ROOT
from model_checks import assert_bits, assert_refused, contents

from common.console import UserError
from models import model_io
from models.model_io import make_config, read_model, write_model
from network import architecture
from network.preprocessing import Preprocessing

VARIANTS = [(v, b) for v in architecture.VERSIONS for b in architecture.BYPASSES]
OFFICIAL = ROOT / 'data' / 'squeezenet_v1.1.caffemodel'
tensors, config, model = model_checks.tensors, model_checks.config, model_checks.model


# --- what is written is read -----------------------------------------------------------------


@pytest.mark.parametrize(('version', 'bypass'), VARIANTS)
@pytest.mark.parametrize('pad', [0, 1])
def test_directory_comes_back_bit_for_bit(version, bypass, pad, tmp_path, seeded_tensors):
    tensors = seeded_tensors(version, bypass, 4)
    source = {'file': 'x.caffemodel', 'sha256': 'ab' * 32}
    config = make_config(
        version,
        bypass,
        4,
        pad,
        preprocessing=Preprocessing('warp'),
        class_names=['a', 'é', '猫', ''],
        source=source,
    )
    write_model(tmp_path / 'new' / 'model', tensors, config)
    found, found_config = read_model(tmp_path / 'new' / 'model')
    assert_bits(found, tensors)
    assert found_config == config
    assert sorted(contents(tmp_path / 'new' / 'model')) == ['config.json', 'model.safetensors']


def test_config_json_is_text_that_a_person_can_read(model):
    text = (model / 'config.json').read_text(encoding='utf-8')
    assert '"砾石"' in text
    assert text.endswith('}\n')
    assert json.loads(text)['preprocessing'] == {
        'resize': 'short',
        'resize_size': 256,
        'crop': 227,
        'mean': [104, 117, 123],
        'scale': 1.0,
        'channel_order': 'BGR',
    }


def test_lone_safetensors_carries_its_configuration(tmp_path, seeded_tensors):
    """Simple bypass, the padding and the resizing leave no trace in names and shapes."""
    tensors = seeded_tensors('1.0', 'simple', 3)
    config = make_config(
        '1.0', 'simple', 3, 1, preprocessing=Preprocessing('warp'), class_names=['a', 'b', 'c']
    )
    write_model(tmp_path / 'model', tensors, config)
    (tmp_path / 'model' / 'model.safetensors').rename(tmp_path / 'lone.safetensors')
    found, found_config = read_model(tmp_path / 'lone.safetensors')
    assert_bits(found, tensors)
    assert found_config == config


@pytest.mark.parametrize(('version', 'bypass'), [('1.0', None), ('1.1', 'complex')])
def test_bare_safetensors_are_recognised_by_names_and_shapes(
    version, bypass, tmp_path, seeded_tensors
):
    tensors = seeded_tensors(version, bypass, 6)
    safetensors.numpy.save_file(tensors, tmp_path / 'bare.safetensors')
    found, config = read_model(tmp_path / 'bare.safetensors')
    assert_bits(found, tensors)
    assert config == make_config(version, bypass, 6)


@pytest.mark.parametrize('kind', [np.float64, np.float16])
def test_other_floats_become_float32(kind, tmp_path, tensors):
    path = tmp_path / 'a.safetensors'
    safetensors.numpy.save_file({n: t.astype(kind) for n, t in tensors.items()}, path)
    assert_bits(read_model(path)[0], {n: t.astype(kind).astype('f4') for n, t in tensors.items()})


def test_pdparams_of_paddle_save_come_back_bit_for_bit(tmp_path, tensors):
    network = model_io.build_network(tensors, make_config('1.1', None, 3))
    paddle.save(network.state_dict(), str(tmp_path / 'a.pdparams'))
    found, config = read_model(tmp_path / 'a.pdparams')
    assert_bits(found, tensors)
    assert config == make_config('1.1', None, 3)


def test_config_json_beside_a_pdparams_file_is_heeded(tmp_path, tensors):
    config = make_config('1.1', 'simple', 3, preprocessing=Preprocessing('none'))
    (tmp_path / 'config.json').write_text(json.dumps(config))
    paddle.save({n: paddle.to_tensor(t) for n, t in tensors.items()}, str(tmp_path / 'a.pdparams'))
    assert read_model(tmp_path / 'a.pdparams')[1] == config


def test_caffemodel_is_read_with_its_source(official_tensors):
    found, config = read_model(OFFICIAL)
    assert_bits(found, official_tensors)
    digest = '33daaf1cea77eb1ee99565a4692ae2e132b2a7568fcb2c7521c75cd5a2a661bb'
    source = {'file': OFFICIAL.name, 'sha256': digest}
    assert config == make_config('1.1', None, 1000, source=source)


def test_built_network_has_the_parameters_and_the_configuration(tensors):
    config = make_config('1.1', 'simple', 3, conv10_pad=1)
    network = model_io.build_network(tensors, config, dropout=0.25)
    assert_bits({n: p.numpy() for n, p in network.named_parameters()}, tensors)
    assert network.fire3.bypass == 'simple'
    assert network.dropout.p == 0.25
    x = paddle.zeros([1, 3, 35, 35])
    assert network.conv10(network.features(x)).shape[2:] == [4, 4]  # 2x2, and the padding


# --- damaged tensors -------------------------------------------------------------------------


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_nan_and_infinite_weights_are_refused(value, tmp_path, tensors, config):
    broken = tensors['fire7.expand1x1.weight'].copy()
    broken.flat[-1] = value
    broken = {**tensors, 'fire7.expand1x1.weight': broken}
    words = 'fire7.expand1x1.weight holds NaN or infinite numbers'
    path = tmp_path / 'a.safetensors'
    safetensors.numpy.save_file(broken, path)
    assert_refused(path, path, words)
    with pytest.raises(UserError, match=words):
        write_model(tmp_path / 'out', broken, config)
    assert not (tmp_path / 'out').exists()


@pytest.mark.filterwarnings('error')
def test_doubles_that_float32_cannot_hold_are_refused(tmp_path, tensors):
    doubles = {name: value.astype(np.float64) for name, value in tensors.items()}
    doubles['conv10.bias'][1] = 1e300
    safetensors.numpy.save_file(doubles, tmp_path / 'a.safetensors')
    assert_refused(tmp_path / 'a.safetensors', 'conv10.bias holds NaN or infinite numbers')


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'fire4.squeeze1x1.bias': None}, 'parameter fire4.squeeze1x1.bias is missing'),
        ({'conv1.weight': None}, 'has no conv1.weight and conv10.bias'),
        ({'conv1.weight': np.zeros((64, 3, 5, 5), 'f4')}, 'has no conv1.weight'),
        ({'conv10.bias': np.zeros((), 'f4')}, 'has no conv1.weight and conv10.bias'),
        ({'conv10.bias': np.zeros(0, 'f4')}, 'conv10.bias is empty'),
        ({'conv10.bias': np.zeros(4, 'f4')}, 'conv10.weight has shape [3, 512, 1, 1]'),
        ({'fire3.expand1x1.weight': np.zeros((16, 64, 1, 1), 'f4')}, 'has shape [16, 64, 1, 1]'),
        ({'conv11.weight': np.zeros(3, 'f4')}, 'conv11.weight is no parameter'),
        ({'fire2.squeeze1x1.bias': np.zeros(16, 'i4')}, 'holds int32 numbers'),
    ],
)
def test_tensors_of_no_squeezenet_are_refused(change, words, tmp_path, tensors):
    wrong = {name: value for name, value in {**tensors, **change}.items() if value is not None}
    path = tmp_path / 'a.safetensors'
    safetensors.numpy.save_file(wrong, path)
    assert_refused(path, path, words)


def test_damaged_safetensors_get_one_line(model):
    path = model / 'model.safetensors'
    content = path.read_bytes()
    for damaged in (b'', b'x', content[:1000], content[:-1], content + b'x', b'\xff' * 100):
        path.write_bytes(damaged)
        assert_refused(model, path, 'cannot be read as safetensors')


def test_pdparams_that_would_run_something_get_one_line(tmp_path):
    (tmp_path / 'a.pdparams').write_bytes(b'cos\nsystem\n(S"touch run"\ntR.')
    assert_refused(tmp_path / 'a.pdparams', tmp_path / 'a.pdparams', 'asks to run os.system')


def test_missing_and_giant_files_get_one_line(tmp_path):
    assert_refused(tmp_path / 'none', tmp_path / 'none', 'No such file or directory')
    giant = tmp_path / 'a.pdparams'
    with open(giant, 'wb') as file:
        file.truncate(model_io.MOST_BYTES + 1)  # sparse: takes no room
    assert_refused(giant, giant, 'at most 1,073,741,824 are read')


# --- what is no file, or no model of ours --------------------------------------------------------


@pytest.mark.parametrize('name', ['a.safetensors', 'a.pdparams', 'a.tar', 'a.caffemodel', 'a'])
def test_pipes_and_devices_are_refused_at_once(name, tmp_path):
    os.mkfifo(tmp_path / name)
    assert_refused(tmp_path / name, tmp_path / name, 'is not a regular file')
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to('/dev/zero')
    assert_refused(tmp_path / name, tmp_path / name, 'is not a regular file')


@pytest.mark.parametrize('name', ['config.json', 'model.safetensors'])
def test_pipe_in_a_directory_is_refused_at_once(name, model):
    (model / name).unlink()
    os.mkfifo(model / name)
    assert_refused(model, model / name, 'is not a regular file')


def test_pipe_among_v2_files_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / '_conv1.w0')
    assert_refused(tmp_path, tmp_path / '_conv1.w0', 'is not a regular file')


@pytest.mark.parametrize(
    ('files', 'words'),
    [
        (['inference.json', 'inference.pdiparams'], "Paddle's inference form"),
        (['__model__', 'conv1_weights'], 'holds a fluid model (Paddle 1.x)'),
        (['squeezenet.caffemodel', 'deploy.prototxt'], 'name squeezenet.caffemodel in it'),
        (['model.pdparams'], 'is no model itself; name model.pdparams in it'),
        (['photo.jpg'], 'is no model; it holds neither model.safetensors nor files of'),
    ],
)
def test_directories_of_other_kinds_are_named(files, words, tmp_path):
    for name in files:
        (tmp_path / name).write_bytes(b'x')
    assert_refused(tmp_path, tmp_path, words)


def test_fluid_directory_is_known_by_its_files_too(tmp_path):
    (tmp_path / 'conv1_weights').write_bytes(bytes(16) + b'\x04\x00\x00\x00\x08\x05')
    assert_refused(tmp_path, tmp_path, 'holds a fluid model')


def test_folder_of_a_run_names_its_models(tmp_path, tensors, config):
    write_model(tmp_path / 'best', tensors, config)
    assert_refused(tmp_path, 'is a run of train.py; name', tmp_path / 'best')
