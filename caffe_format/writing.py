"""Writes SqueezeNets as Caffe's binary .caffemodel, and the prototxt that Caffe wants beside it."""

from google.protobuf import text_format

from caffe_format.layers import build_net
from caffe_format.proto import kind_of, name_of
from common.files import atomic_write
from network.preprocessing import preprocessing_of

MARK = '# Written by caffe2paddle.py'


def write_caffemodel(path, tensors, config):
    """Write caffemodel_bytes to a file, which appears whole or not at all."""
    with atomic_write(path) as file:
        file.write(caffemodel_bytes(tensors, config))


def caffemodel_bytes(tensors: dict, config: dict) -> bytes:
    """`tensors` (see CaffeNet) as a V2 file with the layers and names of the original.

    The Input layer carries mean and scale as its transform_param, which Caffe passes over there,
    so that who reads the file knows how to feed it. conv1 is turned where the network is fed RGB:
    Caffe's pictures are BGR.
    """
    net = described_net(config)
    tensors = caffe_order(tensors, config)
    for layer in net.layer:
        if kind_of(layer) == 'Convolution':
            for kind in ('weight', 'bias'):
                tensor = tensors[f'{name_of(layer).replace("/", ".")}.{kind}']
                blob = layer.blobs.add()
                blob.shape.dim.extend(tensor.shape)
                blob.data.extend(tensor.ravel().tolist())
    return net.SerializeToString()


def caffe_order(tensors, config):
    """The tensors of the same network for BGR pictures."""
    if preprocessing_of(config).channel_order == 'BGR':
        return tensors
    return {**tensors, 'conv1.weight': tensors['conv1.weight'][:, ::-1]}


def caffe_mean(config):
    """The mean in BGR order."""
    preprocessing = preprocessing_of(config)
    return preprocessing.mean[:: 1 if preprocessing.channel_order == 'BGR' else -1]


def described_net(config):
    """A NetParameter of a configuration's network, without weights: input `data`, output `prob`."""
    preprocessing = preprocessing_of(config)
    net = build_net(
        config['version'],
        config['bypass'],
        config['class_num'],
        config['conv10_pad'],
        config['conv10_relu'],
        preprocessing.crop,
    )
    net.layer[0].transform_param.mean_value.extend(caffe_mean(config))
    net.layer[0].transform_param.scale = preprocessing.scale
    return net


def feeding(config):
    """How the written network is fed, in a sentence."""
    preprocessing = preprocessing_of(config)
    mean = ', '.join(f'{value:g}' for value in caffe_mean(config))
    scale = f', times {preprocessing.scale:g}' if preprocessing.scale != 1 else ''
    size = f'{preprocessing.crop}x{preprocessing.crop}'
    return f'feed it BGR float32 of {size} minus ({mean}){scale}; the output is called prob'


def deploy_prototxt(config):
    """The text that Caffe wants beside the weights; how to feed it stands in its comments."""
    return f'{MARK}\n# {feeding(config)}\n{text_format.MessageToString(described_net(config))}'
