"""SqueezeNets of other Paddle projects: read where ours computes the same, refused where not."""

import numpy as np
import paddle
import pytest
from model_checks import assert_bits, assert_refused
from paddle.vision.models import SqueezeNet

from common.console import UserError
from models import model_io
from models.formats.rgb_statistics import MEAN, STD
from models.inference import Predictor, build_program
from models.model_io import read_model
from network import architecture
from network.config import ModelOverrides, make_config
from network.preprocessing import preprocessing_of

SAID = ModelOverrides('none', 0, 1)


@pytest.fixture
def tensors(seeded_tensors):
    return seeded_tensors('1.1', class_num=3)


def save(path, arrays):
    paddle.save({name: paddle.to_tensor(value) for name, value in arrays.items()}, str(path))
    return path


def number(tensors):
    """The names that X2Paddle gives: convolutions in the order of the file."""
    layers = [name[: -len('.bias')] for name in tensors if name.endswith('.bias')]
    kinds = ('weight', 'bias')
    return {f'conv{i}.{k}': tensors[f'{name}.{k}'] for i, name in enumerate(layers) for k in kinds}


def test_numbered_convolutions_of_x2paddle_are_in_the_order_of_the_network(tmp_path, tensors):
    path = save(tmp_path / 'model.pdparams', number(tensors))
    lines = []
    found, config = read_model(path, SAID, lines.append)
    assert_bits(found, tensors)
    assert config == make_config('1.1', None, 3)
    assert len(lines) == 1
    assert "taken for X2Paddle's form of a Caffe network" in lines[0]


@pytest.mark.parametrize('mark', ['_', '/'])
def test_layers_by_caffes_names_are_taken_by_name(mark, tmp_path, tensors):
    spelt = {name[:5] + name[5:].replace('.', mark, name.count('.') - 1): value
             for name, value in reversed(tensors.items())}  # fmt: skip
    found, _ = read_model(save(tmp_path / 'model.pdparams', spelt), SAID)
    assert_bits(found, tensors)


def test_other_numbers_of_convolutions_are_refused(tmp_path, tensors):
    numbered = {n: v for n, v in number(tensors).items() if not n.startswith('conv9.')}
    path = save(tmp_path / 'model.pdparams', numbered)
    assert_refused(path, path, 'holds 25 numbered convolutions')


def test_numbers_in_another_order_than_the_networks_are_refused(tmp_path, tensors):
    numbered = number(tensors)
    for kind in ('weight', 'bias'):
        first, second = f'conv1.{kind}', f'conv2.{kind}'
        numbered[first], numbered[second] = numbered[second], numbered[first]
    assert_refused(save(tmp_path / 'a.pdparams', numbered), 'fire2.squeeze1x1.weight has shape')


def theirs(version, path):
    """A network of paddle.vision with its weights saved at `path`, whose biases are not zero."""
    paddle.seed(1)
    network = SqueezeNet(version, num_classes=5)
    for name, value in network.named_parameters():
        if name.endswith('bias'):
            value.set_value(paddle.randn(value.shape) * 0.1)
    network.eval()
    paddle.save(network.state_dict(), str(path))
    return network


def test_v1_0_of_paddle_vision_computes_what_it_did_there(tmp_path):
    """RGB, mean and deviation, and the dropout that halves: folded into mean, conv1 and conv10."""
    network, lines = theirs('1.0', tmp_path / 'a.pdparams'), []
    tensors, config = read_model(tmp_path / 'a.pdparams', say=lines.append)
    assert lines == []  # all is known
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 227, 227)).astype(np.float32)
    mean, std = (np.float32(v).reshape(3, 1, 1) for v in (MEAN, STD))
    expected = network(paddle.to_tensor((pixels / 255 - mean) / std)).numpy()
    wanted = preprocessing_of(config)
    assert (wanted.channel_order, wanted.scale, wanted.crop) == ('RGB', 1.0, 227)
    images = pixels - np.float32(wanted.mean).reshape(3, 1, 1)
    found = Predictor(build_program(tensors, config))(images)
    assert np.abs(expected).max() > 0.01
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_user_who_contradicts_what_is_known_is_refused(tmp_path):
    theirs('1.0', tmp_path / 'a.pdparams')
    with pytest.raises(UserError, match='its conv10_pad is 0; leave out --conv10_pad 1'):
        read_model(tmp_path / 'a.pdparams', ModelOverrides(conv10_pad=1))


def test_crop_of_paddle_vision_is_one_whose_pooling_needs_no_rounding():
    for name, (_, size, _) in architecture.output_shapes('1.0', 227).items():
        if name in ('conv1', 'fire4', 'fire8'):  # what a max-pool follows
            assert size % 2 == 1


def test_v1_1_of_paddle_vision_is_refused_for_what_differs(tmp_path):
    theirs('1.1', tmp_path / 'a.pdparams')
    words = 'its conv1 is padded and its max-pools round down'
    assert_refused(tmp_path / 'a.pdparams', tmp_path / 'a.pdparams', words)


def test_what_was_converted_is_written_and_read_as_any_model(tmp_path):
    theirs('1.0', tmp_path / 'a.pdparams')
    tensors, config = read_model(tmp_path / 'a.pdparams', ModelOverrides('none'))
    model_io.write_model(tmp_path / 'model', tensors, config)
    found, found_config = read_model(tmp_path / 'model')
    assert_bits(found, tensors)
    assert found_config == config
