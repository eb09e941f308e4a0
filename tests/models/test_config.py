"""The configuration of a model: what cannot be followed is refused in one line, and what a file
leaves open is what the user says, or is assumed aloud.
"""

import argparse
import json

import model_checks
import paddle
import pytest
import safetensors.numpy
from model_checks import assert_bits, assert_refused

from caffe_format.proto import NetParameter
from caffe_format.writing import write_caffemodel
from common.console import UserError
from models import model_io
from models.model_io import make_config, read_model
from network.config import ModelOverrides, add_model_flags, told

tensors, config, model = model_checks.tensors, model_checks.config, model_checks.model


@pytest.fixture
def silent_model(tmp_path, tensors):
    """A directory whose model.safetensors carries no configuration, as other programs write it."""
    (tmp_path / 'silent').mkdir()
    safetensors.numpy.save_file(tensors, tmp_path / 'silent' / 'model.safetensors')
    return tmp_path / 'silent'


# --- config.json -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('', 'is not JSON'),
        ('{"version": "1.1",}', 'is not JSON'),
        ('[' * 100_000, 'is not JSON'),
        ('{"a":' * 100_000 + '1' + '}' * 100_000, 'is not JSON'),
        ('{"class_num": ' + '9' * 5000 + '}', 'is not JSON'),
        ('[]', 'is not a JSON object'),
        ('null', 'is not a JSON object'),
        (b'\xff\xfe{}', 'is not UTF-8 text'),
    ],
)
def test_config_that_is_no_json_object_is_refused(text, words, model):
    (model / 'config.json').write_bytes(text if isinstance(text, bytes) else text.encode())
    assert_refused(model, model / 'config.json', words)


@pytest.mark.parametrize(
    'wrong',
    [
        ({'version': None}, 'version is missing'),
        ({'class_num': None}, 'class_num is missing'),
        ({'version': '1.2'}, "version is '1.2'; it must be one of 1.0, 1.1"),
        ({'version': 1.1}, 'version is 1.1'),
        ({'version': ['1.1']}, "version is ['1.1']"),
        ({'bypass': 'double'}, "bypass is 'double'"),
        ({'bypass': {}}, 'bypass is {}'),
        ({'class_num': 0}, 'class_num is 0'),
        ({'class_num': -3}, 'class_num is -3'),
        ({'class_num': '3'}, "class_num is '3'"),
        ({'class_num': True}, 'class_num is True'),
        ({'class_num': 3.0}, 'class_num is 3.0'),
        ({'conv10_pad': 2}, 'conv10_pad is 2'),
        ({'conv10_pad': [1]}, 'conv10_pad is [1]'),
        ({'preprocessing': []}, 'preprocessing is not a JSON object'),
        ({'preprocessing': {'resize': 'long'}}, "resize is 'long', not short, warp, none"),
        ({'preprocessing': {'resize': ['short']}}, "resize is ['short']"),
        ({'preprocessing': {'mean': [103.9, 116.8]}}, 'mean is (103.9, 116.8); it must be three'),
        ({'preprocessing': {'crop': 257}}, 'crop is 257, larger than resize_size 256'),
        ({'preprocessing': {'crop': 10}}, 'crop is 10; the network needs 17 pixels at least'),
        ({'preprocessing': {'channel_order': 'GRB'}}, "channel_order is 'GRB', not BGR or RGB"),
        ({'preprocessing': {'scale': 0}}, 'scale is 0; it must be a number other than 0'),
        ({'preprocessing': {'scale': True}}, 'scale is True; it must be a number'),
        ({'preprocessing': {'scale': 1e-320}}, 'scale is 1e-320; it must be 1e-06 to 1e+06'),
        ({'preprocessing': {'scale': 10**400}}, 'scale is 1000', '(401 digits); it must be'),
        ({'preprocessing': {'mean': [0, 0, -(10**400)]}}, 'mean is -1000', '(402 digits); it'),
        ({'preprocessing': {'mean': [0, 0, '1']}}, "mean is '1'; it must be a number"),
        ({'preprocessing': {'crop': 10**400}}, 'crop is 1000', 'it must be 1 to 4096 pixels'),
        ({'class_num': -(10**400)}, 'class_num is -1000', 'it must be a whole number'),
        ({'temperature': 0}, 'temperature is 0; it must be 1e-06 to 1e+06'),
        ({'temperature': 1e-320}, 'temperature is 1e-320; it must be 1e-06 to 1e+06'),
        ({'temperature': 10**400}, 'temperature is 1000', '(401 digits); it must be'),
        ({'temperature': float('nan')}, 'temperature is nan; it must be'),
        ({'temperature': False}, 'temperature is False; it must be a number'),
        ({'threshold': 1.5}, 'threshold is 1.5; it must be 0 to 1'),
        ({'threshold': 'high'}, "threshold is 'high'; it must be a number"),
        ({'preprocessing': {'std': 0.2}}, 'std: 0.2 is not supported'),
        ({'class_names': ['a', 'b']}, 'class_names must be 3 strings'),
        ({'class_names': ['a', 'b', 3]}, 'class_names must be 3 strings'),
        ({'class_names': 'abc'}, 'class_names must be 3 strings'),
        ({'class_names': ['a', 'b', '\ud800']}, 'surrogates not allowed'),
    ],
)
def test_config_that_cannot_be_followed_is_refused(wrong, model, config):
    change, *words = wrong
    changed = {key: value for key, value in {**config, **change}.items() if value is not None}
    (model / 'config.json').write_text(json.dumps(changed))
    assert_refused(model, model / 'config.json', *words)


@pytest.mark.parametrize('class_num', [2, 4, 10**30])
def test_config_for_other_classes_than_the_tensors_is_refused(class_num, silent_model):
    (silent_model / 'config.json').write_text(json.dumps(make_config('1.1', None, class_num)))
    words = 'conv10.weight has shape [3, 512, 1, 1]'
    assert_refused(silent_model, silent_model / 'model.safetensors', words)


def test_config_of_another_version_than_the_tensors_is_refused(silent_model):
    (silent_model / 'config.json').write_text(json.dumps(make_config('1.0', None, 3)))
    words = 'conv1.weight has shape [64, 3, 3, 3]; it should be [96, 3, 7, 7]'
    assert_refused(silent_model, words)


def test_short_config_gets_the_defaults_aloud(silent_model, capsys):
    (silent_model / 'config.json').write_text('{"version": "1.1", "class_num": 3}')
    assert read_model(silent_model)[1] == make_config('1.1', None, 3)
    assert 'assuming --bypass none --conv10_pad 0 --conv10_relu 1\n' in capsys.readouterr().err


def test_config_with_padding_as_true_builds(silent_model, config):
    (silent_model / 'config.json').write_text(json.dumps({**config, 'conv10_pad': True}))
    network = model_io.build_network(*read_model(silent_model))
    assert network(paddle.zeros([1, 3, 35, 35])).shape == [1, 3]


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'bypass': 'simple'}, "bypass is 'simple', but model.safetensors says None"),
        ({'conv10_pad': 1}, 'conv10_pad is 1, but model.safetensors says 0'),
        ({'conv10_relu': False}, 'conv10_relu is False, but model.safetensors says True'),
        ({'class_names': list('abc')}, "class_names is ['a', 'b', 'c'], but"),
        ({'class_names': None, 'class_num': 4}, 'class_num is 4, but model.safetensors says 3'),
        ({'preprocessing': {'crop': 128}}, 'crop is 128, but model.safetensors says 227'),
        ({'source': {'file': 'other'}}, "source is {'file': 'other'}, but model.safetensors says"),
    ],
)
def test_config_json_that_contradicts_its_model_is_refused(change, words, model, config):
    (model / 'config.json').write_text(json.dumps({**config, **change}))
    assert_refused(model, model / 'config.json', words, 'delete config.json')


def test_model_is_whole_without_config_json_or_with_a_short_one(model, tensors, config, capsys):
    for text in ('{"version": "1.1", "class_num": 3, "preprocessing": {"crop": 227}}', None):
        (model / 'config.json').unlink()
        if text:
            (model / 'config.json').write_text(text)
            found, found_config = read_model(model)
            assert_bits(found, tensors)
            assert found_config == config
    assert read_model(model)[1] == config
    assert capsys.readouterr().err == ''


# --- what a file leaves open -----------------------------------------------------------------


@pytest.fixture
def bare(tmp_path, tensors):
    """A .pdparams file, which says nothing of its configuration."""
    values = {name: paddle.to_tensor(value) for name, value in tensors.items()}
    paddle.save(values, str(tmp_path / 'bare.pdparams'))
    return tmp_path / 'bare.pdparams'


def test_what_the_user_says_is_obeyed_without_a_word(bare, capsys):
    found = read_model(bare, ModelOverrides('simple', 1, 0))[1]
    assert found == {**make_config('1.1', 'simple', 3, 1), 'conv10_relu': False}
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize(
    ('told', 'line'),
    [
        (
            ModelOverrides(),
            'bypass, conv10_pad, conv10_relu; assuming --bypass none --conv10_pad 0',
        ),
        (
            ModelOverrides('simple'),
            'does not tell conv10_pad, conv10_relu; assuming --conv10_pad 0',
        ),
        (ModelOverrides('none', 1), 'does not tell conv10_relu; assuming --conv10_relu 1'),
    ],
)
def test_what_nobody_says_is_assumed_aloud_in_one_line(told, line, bare):
    lines = []
    read_model(bare, told, lines.append)
    assert len(lines) == 1
    assert str(bare) in lines[0]
    assert line in lines[0]


def test_complex_bypass_needs_no_word(tmp_path, seeded_tensors):
    lines, path = [], tmp_path / 'a.safetensors'
    safetensors.numpy.save_file(seeded_tensors('1.1', 'complex', 3), path)
    assert read_model(path, ModelOverrides(None, 0, 1), lines.append)[1]['bypass'] == 'complex'
    assert lines == []
    with pytest.raises(UserError, match='its bypass is complex; leave out --bypass none'):
        read_model(path, ModelOverrides('none'))


@pytest.mark.parametrize(
    ('told', 'words'),
    [
        (ModelOverrides('simple'), 'its bypass is none; leave out --bypass simple'),
        (ModelOverrides('none', 1), 'its conv10_pad is 0; leave out --conv10_pad 1'),
        (ModelOverrides(None, 0, 0), 'its conv10_relu is 1; leave out --conv10_relu 0'),
    ],
)
def test_user_who_contradicts_the_file_is_refused(told, words, model):
    with pytest.raises(UserError, match=words):
        read_model(model, told)


def test_flags_become_what_is_told():
    parser = argparse.ArgumentParser()
    add_model_flags(parser)
    assert told(parser.parse_args([])).said() == {}
    args = parser.parse_args(['--bypass', 'none', '--conv10_pad', '1', '--conv10_relu', '0'])
    assert told(args).said() == {'bypass': None, 'conv10_pad': 1, 'conv10_relu': False}


def test_damaged_configuration_inside_a_lone_file_names_the_file(tmp_path, tensors):
    path = tmp_path / 'a.safetensors'
    safetensors.numpy.save_file(tensors, path, metadata={'config': '{"version": '})
    assert_refused(path, path, 'its configuration: is not JSON')


def test_weights_alone_of_caffe_leave_open_what_the_user_may_say(tmp_path, seeded_tensors):
    """A caffemodel without wiring: neither the sums of simple bypass nor conv10's padding show."""
    path, lines = tmp_path / 'a.caffemodel', []
    write_caffemodel(path, seeded_tensors('1.0', class_num=3), make_config('1.0', None, 3))
    net = NetParameter.FromString(path.read_bytes())
    for layer in net.layer:
        for field in ('type', 'bottom', 'top', 'convolution_param'):
            layer.ClearField(field)
    path.write_bytes(net.SerializeToString())
    assert read_model(path, say=lines.append)[1]['conv10_pad'] == 0
    assert 'assuming' in '\n'.join(lines)
    assert '--bypass none' in '\n'.join(lines)
    assert '--conv10_pad 0' in '\n'.join(lines)
    lines.clear()
    config = read_model(path, ModelOverrides('simple', 1, 0), lines.append)[1]
    assert '--conv10_pad' not in '\n'.join(lines)  # of the pictures there is still a line
    assert [config[name] for name in ('bypass', 'conv10_pad', 'conv10_relu')] == [
        'simple',
        1,
        False,
    ]
