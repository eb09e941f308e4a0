"""What is no caffemodel, and files that are broken or meant to break their reader."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from small_nets import OFFICIAL, layer_called, message, refusal, save

from caffe_format import blobs
from caffe_format.caffemodel import read_net
from caffe_format.layers import build_net
from caffe_format.proto import NetParameter, name_of
from caffe_format.writing import write_caffemodel
from common.console import UserError
from models.model_io import make_config


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_nan_and_infinite_weights_are_named(tmp_path, value):
    net, _ = message()
    layer_called(net, 'fire7/expand1x1').blobs[0].data[5] = value
    assert "layer 'fire7/expand1x1' holds NaN" in refusal(save(net, tmp_path))


def test_doubles_beyond_float32_are_named(tmp_path):
    net, _ = message()
    blob = layer_called(net, 'conv10').blobs[1]
    blob.double_data.extend([1e300] * len(blob.data))
    assert "layer 'conv10' holds NaN or numbers beyond" in refusal(save(net, tmp_path))


@pytest.mark.parametrize(
    'dims', [[1 << 40], [1 << 62] * 32, [-1, -64], [64, 0], [1] * 40, [], [2, 64]]
)
def test_a_shape_that_lies_is_named(tmp_path, dims):
    net, _ = message()
    layer_called(net, 'conv1').blobs[1].shape.dim[:] = dims
    text = refusal(save(net, tmp_path))
    assert "layer 'conv1'" in text


def test_weights_in_an_unknown_field_are_refused(tmp_path):
    net, _ = message()
    layer_called(net, 'conv1').blobs[0].ClearField('data')
    text = refusal(save(net, tmp_path))
    assert "layer 'conv1': a blob of shape 64x3x3x3 holds 0 numbers" in text


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'', 'is empty'),
        (b'\x89HDF\r\n\x1a\n' + bytes(100), 'HDF5'),
        (b'PK\x03\x04' + bytes(100), 'zip archive'),
        (b'\x1f\x8b\x08' + bytes(100), 'gzip'),
        (b'\x80\x04\x95' + bytes(100), 'pickle'),
        (b'name: "SqueezeNet"\nlayer {\n  name: "conv1"\n}\n', 'is a prototxt'),
        ('<p>网页</p>'.encode() * 1000, 'web page'),
        (b'\xff' * 1000, 'no caffemodel'),
        (b'\x0a\x03net', 'holds no layers'),
        (b'\xa2\x06\x00' * 20_000, 'has 20000 layers'),
        (b'\x0b' * 5_000, 'no caffemodel'),  # groups in groups: protobuf's recursion limit
    ],
)
def test_what_is_no_caffemodel_gets_one_clear_line(tmp_path, content, words):
    path = save(content, tmp_path)
    text = refusal(path)
    assert words in text
    assert text.startswith(str(path))


def test_a_network_without_weights_is_refused(tmp_path):
    net = build_net('1.1', None, 10)
    assert 'holds no weights' in refusal(save(net, tmp_path))


def test_every_truncation_is_noticed(tmp_path):
    net, _ = message('1.1', 'simple')
    content = net.SerializeToString()
    between_layers = []
    for count in range(len(net.layer)):
        start = NetParameter(name=net.name, layer=net.layer[:count])
        between_layers.append(start.ByteSize())
    *cuts, before_prob = between_layers
    inside = np.linspace(cuts[0] + 1, before_prob - 1, 150, dtype=int)
    for cut in (*cuts, *inside):
        text = refusal(save(content[:cut], tmp_path))
        assert re.search('truncated|no layers|no weights', text), (cut, text)
    read_net(save(content[:before_prob], tmp_path))  # a softmax less is no loss


def test_truncation_between_layers_says_what_is_missing(tmp_path):
    net, _ = message()
    last = [name_of(layer) for layer in net.layer].index('fire7/expand1x1')
    del net.layer[last + 1 :]
    text = refusal(save(net, tmp_path))
    assert "ends after layer 'fire7/expand1x1'" in text
    assert 'fire7/expand3x3' in text
    assert 'probably truncated' in text


def test_flipped_bytes_end_in_a_clear_line_or_in_a_checked_network(tmp_path):
    net, _ = message('1.1', None, 2)
    content = net.SerializeToString()
    rng = np.random.default_rng(1)
    structure = content.index(b'fire3/squeeze1x1')
    for _ in range(150):
        broken = bytearray(content)
        at = rng.integers(structure - 40, structure + 120, size=2)
        for offset, value in zip(at, rng.integers(0, 256, size=2)):
            broken[offset] = value
        try:
            found = read_net(save(bytes(broken), tmp_path))
        except UserError as error:
            assert '\n' not in str(error)
        else:
            assert found.version == '1.1'
            assert all(np.isfinite(tensor).all() for tensor in found.tensors.values())


def test_sums_of_sums_take_no_exponential_time(tmp_path):
    net, _ = message()
    bomb = NetParameter()
    bomb.layer.add(name=b'x', type=b'Input', top=[b'x'])
    for _ in range(5_000):
        bomb.layer.add(type=b'Eltwise', bottom=[b'x'] * 30, top=[b'x'])
    bomb.MergeFrom(net)
    refusal(save(bomb, tmp_path))


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'fifo')
    for path in (tmp_path / 'fifo', Path('/dev/zero')):
        with pytest.raises(OSError, match='is not a regular file'):
            read_net(path)


def test_a_giant_file_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(blobs, 'MOST_BYTES', 1 << 20)
    with pytest.raises(OSError, match='at most 1,048,576 are read'):
        read_net(OFFICIAL)


def test_failed_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / 'out.caffemodel'
    path.write_bytes(b'old')
    with pytest.raises(KeyError):
        write_caffemodel(path, {}, make_config('1.1', None, 10))
    assert path.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [path]


# --- other files, named for what they are; and bombs ---------------------------------------------


class Proto(bytes):
    """Builds protobuf by hand: Proto().varint(1, 5).bytes(2, b'x')"""

    def varint(self, number, value):
        return Proto(self + _varint(number << 3) + _varint(value))

    def bytes(self, number, content):
        return Proto(self + _varint(number << 3 | 2) + _varint(len(content)) + content)


def _varint(value):
    out = b''
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


FLOATS = np.arange(12, dtype='<f4').tobytes()
BLOB = Proto().varint(1, 1).varint(2, 3).varint(3, 2).varint(4, 2).bytes(5, FLOATS)
SHAPED = Proto().bytes(5, FLOATS).bytes(7, Proto().bytes(1, b'\x01\x03\x02\x02'))


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (
            Proto().varint(1, 1000).bytes(2, b'net_iter_1000.caffemodel').bytes(3, BLOB),
            'solverstate',
        ),
        (Proto().varint(1, 1000).bytes(3, SHAPED).varint(4, 1), 'solverstate'),
        (BLOB, 'binaryproto'),
        (SHAPED, 'binaryproto'),
        (Proto().varint(1, 8).bytes(2, b'pytorch').bytes(7, b'\n\0').bytes(8, b'\x10\x0d'), 'ONNX'),
        (
            Proto().bytes(1, Proto().varint(1, 0).varint(2, 2**64 - 1)).bytes(4, b'\x08\0'),
            'pdmodel',
        ),
        (bytes(16) + b'\x18\0\0\0\x08\x05', 'pdiparams'),
        (b'{"base_code": {"magic": "pir"}}', 'JSON'),
        (b'\x89PNG\r\n\x1a\n' + bytes(100), 'picture'),
    ],
)
def test_other_files_are_named_for_what_they_are(tmp_path, content, words):
    assert words in refusal(save(bytes(content), tmp_path))


def test_a_detector_is_called_so(tmp_path):
    net, _ = message()
    net.layer.add(name=b'boxes', type=b'PriorBox', bottom=[b'conv10'], top=[b'boxes'])
    assert "layer 'boxes' is a PriorBox: this is a detector" in refusal(save(net, tmp_path))


def test_another_version_of_squeezenet_is_called_so(tmp_path):
    net, _ = message()
    blob = layer_called(net, 'conv1').blobs[0]
    blob.shape.dim[:] = [64, 3, 1, 9]
    text = refusal(save(net, tmp_path))
    assert "its first, 'conv1', is 64x3x1x9" in text
    assert 'another version of SqueezeNet' in text


def _inside(*numbers, content):
    for number in reversed(numbers):
        content = Proto().bytes(number, content)
    return bytes(content)


@pytest.mark.parametrize(
    'content',
    [
        b'\x12\0' * 4_000_000,  # V1 layers
        b'\xa2\x06\0' * 4_000_000,  # layers
        b'\x1a\0' * 4_000_000,  # inputs
        _inside(100, content=b'\x3a\0' * 4_000_000),  # blobs
        _inside(100, content=b'\x1a\0' * 4_000_000),  # bottoms
        _inside(100, content=b'\x42\0' * 4_000_000),  # rules
        _inside(100, 7, 7, 1, content=b'\x01' * 4_000_000),  # axes
        _inside(100, 143, content=b'\x0a\0' * 4_000_000),  # shapes
        _inside(100, 106, content=b'\x18\x01' * 4_000_000),  # pads
    ],
)
def test_bombs_are_refused_before_they_are_parsed(tmp_path, monkeypatch, content):
    class Unparsed:
        DESCRIPTOR = blobs.NetParameter.DESCRIPTOR

    path = save(content, tmp_path)
    monkeypatch.setattr(blobs, 'NetParameter', Unparsed)
    assert 'has more than 200000 layers, blobs or fields' in refusal(path)
