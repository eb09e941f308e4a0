"""torchvision's SqueezeNets: from safetensors they compute what they did there; pickles are refused
with the line that converts them.
"""

import io
import shlex
import zipfile

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
import safetensors.numpy
from model_checks import assert_refused

from caffe_format.blobs import PYTORCH_BEFORE_1_6
from common.console import UserError
from models.model_io import read_model
from network.config import ModelOverrides
from network.numpy_network import NumpyNetwork
from network.preprocessing import preprocessing_of

# torchvision/models/squeezenet.py: 'M' is a max-pool, numbers are (squeeze, expand) of a Fire.
FEATURES = {
    '1.0': [(96, 7), 'M', (16, 64), (16, 64), (32, 128), 'M', (32, 128), (48, 192), (48, 192),
            (64, 256), 'M', (64, 256)],
    '1.1': [(64, 3), 'M', (16, 64), (16, 64), 'M', (32, 128), (32, 128), 'M', (48, 192), (48, 192),
            (64, 256), (64, 256)],
}  # fmt: skip
CLASSES = 5


def state_dict(version):
    """Random weights under torchvision's names."""
    random, tensors = np.random.default_rng(3), {}

    def convolution(name, outputs, inputs, kernel):
        shape = (outputs, inputs, kernel, kernel)
        scale = np.sqrt(2 / np.prod(shape[1:]))
        tensors[f'{name}.weight'] = (random.standard_normal(shape) * scale).astype(np.float32)
        tensors[f'{name}.bias'] = (random.standard_normal(outputs) * 0.1).astype(np.float32)

    (channels, kernel), *rows = FEATURES[version]
    convolution('features.0', channels, 3, kernel)
    for number, row in enumerate(rows, 2):
        if row != 'M':
            squeeze, expand = row
            convolution(f'features.{number}.squeeze', squeeze, channels, 1)
            convolution(f'features.{number}.expand1x1', expand, squeeze, 1)
            convolution(f'features.{number}.expand3x3', expand, squeeze, 3)
            channels = 2 * expand
    convolution('classifier.1', CLASSES, channels, 1)
    return tensors


def logits_there(version, tensors, pixels):
    """What torchvision's modules make of uint8 RGB pixels [N, 3, 224, 224], in float64."""

    def convolve(x, name, stride=1, padding=0):
        weight, bias = (paddle.to_tensor(tensors[f'{name}.{k}'], 'float64') for k in kinds)
        return F.relu(F.conv2d(x, weight, bias, stride, padding))

    kinds = ('weight', 'bias')
    mean, std = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).reshape(2, 1, 3, 1, 1)
    x = convolve(paddle.to_tensor((pixels / 255 - mean) / std), 'features.0', stride=2)
    for number, row in enumerate(FEATURES[version][1:], 2):
        if row == 'M':
            x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        else:
            x = convolve(x, f'features.{number}.squeeze')
            wide = convolve(x, f'features.{number}.expand3x3', padding=1)
            x = paddle.concat([convolve(x, f'features.{number}.expand1x1'), wide], axis=1)
    return convolve(x, 'classifier.1').mean(axis=(2, 3)).numpy()


def save(path, tensors, prefix=''):
    named = {prefix + name: value for name, value in tensors.items()}
    safetensors.numpy.save_file(named, path, metadata={'format': 'pt'})
    return path


@pytest.mark.parametrize('prefix', ['', 'module.'])
@pytest.mark.parametrize('version', ['1.0', '1.1'])
def test_torchvisions_network_computes_what_it_did_there(version, prefix, tmp_path):
    tensors, lines = state_dict(version), []
    path = save(tmp_path / 'squeezenet.safetensors', tensors, prefix)
    found, config = read_model(path, say=lines.append)
    assert (config['version'], config['bypass'], config['class_num']) == (version, None, CLASSES)
    assert (config['conv10_pad'], config['conv10_relu']) == (0, True)
    wanted = preprocessing_of(config)
    assert (wanted.resize, wanted.resize_size, wanted.crop) == ('short', 256, 224)
    assert (wanted.channel_order, wanted.mean) == ('RGB', (123.675, 116.28, 103.53))
    assert len(lines) == 1 and 'assuming its preprocessing' in lines[0]

    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 224, 224), np.uint8)
    expected = logits_there(version, tensors, pixels)
    images = (pixels - np.reshape(wanted.mean, (3, 1, 1))).astype(np.float32)
    assert np.abs(expected).max() > 0.1
    assert np.abs(NumpyNetwork(found, config)(images) - expected).max() < 1e-5


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'features.0.weight': np.zeros((64, 3, 5, 5), np.float32)}, 'features.0.weight is [64, 3'),
        ({'features.0.weight': np.zeros((64, 1, 3, 3), np.float32)}, 'features.0.weight is [64, 1'),
        ({'features.13.squeeze.weight': np.zeros(2, np.float32)}, 'features.13.squeeze.weight is'),
        ({'features.3.squeeze.bias': np.zeros(2, np.float32)}, 'fire2.squeeze1x1.bias has shape'),
        ({'features.5.weight': np.zeros(2, np.float32)}, 'features.5.weight is no parameter'),
    ],
)
def test_other_networks_under_its_names_are_refused(change, words, tmp_path):
    path = save(tmp_path / 'a.safetensors', {**state_dict('1.1'), **change})
    assert_refused(path, path, words)


def test_a_part_of_it_is_refused(tmp_path):
    tensors = state_dict('1.1')
    del tensors['classifier.1.bias']
    path = save(tmp_path / 'a.safetensors', tensors)
    assert_refused(path, path, 'conv10.bias')
    with pytest.raises(UserError, match='leave out --conv10_pad 1'):
        read_model(save(path, state_dict('1.1')), ModelOverrides(conv10_pad=1), lambda _: None)


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('squeezenet1_1/data.pkl', b'\x80\x02}.')
    return file.getvalue()


@pytest.mark.parametrize('content', [zipped(), PYTORCH_BEFORE_1_6 + b'.'])
def test_a_pytorch_file_is_refused_with_the_line_that_converts_it(content, tmp_path):
    path = tmp_path / "it's mine.pth"
    path.write_bytes(content)
    with pytest.raises(UserError) as refusal:
        read_model(path)
    text = str(refusal.value)
    assert text.startswith(f'{path}: is a PyTorch file')
    command = shlex.split(text[text.index('python -c') :])
    assert command[3:] == [str(path), str(path.with_suffix('.safetensors'))]
    compile(command[2], 'line', 'exec')
