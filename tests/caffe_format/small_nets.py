"""Small caffemodels for the tests, and what is said of a bad one."""

import numpy as np
import pytest

from caffe2paddle import DATA
from caffe_format.caffemodel import read_net
from caffe_format.layers import build_net
from caffe_format.proto import V1_TYPES, NetParameter, kind_of, name_of
from common.console import UserError
from network import architecture

OFFICIAL = DATA / 'squeezenet_v1.1.caffemodel'
VARIANTS = [(v, b) for v in architecture.VERSIONS for b in architecture.BYPASSES]
V1_NUMBERS = {name: number for number, name in V1_TYPES.items()}


def random_tensors(version, bypass, class_num, seed=0):
    rng = np.random.default_rng(seed)
    shapes = architecture.parameter_shapes(version, bypass, class_num)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def message(version='1.1', bypass=None, class_num=10, conv10_pad=0):
    """(NetParameter with weights, tensors)"""
    tensors = random_tensors(version, bypass, class_num)
    net = build_net(version, bypass, class_num, conv10_pad)
    for layer in net.layer:
        if kind_of(layer) == 'Convolution':
            for kind in ('weight', 'bias'):
                tensor = tensors[f'{name_of(layer).replace("/", ".")}.{kind}']
                layer.blobs.add(shape={'dim': tensor.shape}, data=tensor.ravel().tolist())
    return net, tensors


def layer_called(net, name):
    return next(layer for layer in net.layer if name_of(layer) == name)


def drop_layer(net, name):
    del net.layer[next(i for i, layer in enumerate(net.layer) if name_of(layer) == name)]


def save(net, tmp_path):
    path = tmp_path / 'net.caffemodel'
    path.write_bytes(net if isinstance(net, bytes) else net.SerializeToString())
    return path


def as_v1(net, four_dims):
    """The legacy form: `layers`, type numbers, and blobs of num, channels, height and width."""
    old = NetParameter(name=net.name, input=[b'data'])
    for layer in net.layer:
        if not layer.bottom:
            continue
        copy = old.layers.add(
            name=layer.name,
            type=V1_NUMBERS[kind_of(layer)],
            bottom=layer.bottom,
            top=layer.top,
        )
        for settings in ('convolution', 'pooling', 'concat', 'eltwise', 'dropout'):
            if layer.HasField(f'{settings}_param'):
                ours = getattr(layer, f'{settings}_param')
                getattr(copy, f'{settings}_param').CopyFrom(ours)
        for blob in layer.blobs:
            dims = [1] * (4 - len(blob.shape.dim)) + list(blob.shape.dim)
            shape = dict(zip(('num', 'channels', 'height', 'width'), dims))
            copy.blobs.add(data=blob.data, **(shape if four_dims else {'shape': {'dim': dims}}))
    return old


def assert_bits_equal(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == np.float32
        assert found[name].shape == value.shape
        assert found[name].tobytes() == value.tobytes(), name


def refusal(path, given=None):
    with pytest.raises(UserError) as caught:
        read_net(path, given)
    text = str(caught.value)
    assert '\n' not in text
    assert len(text) < 700
    return text
