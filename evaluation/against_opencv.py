"""Compares converted parameters with OpenCV's own reading of the same caffemodel, blob by blob."""

from typing import NamedTuple

import common.paddle_start  # noqa: F401 - before Paddle

import numpy as np
import paddle
from google.protobuf import text_format

import reader
import squeezenet
from caffe_format.blobs import blob_array, read_message
from caffe_format.caffemodel import recognise
from caffe_format.graph import is_wired
from caffe_format.layers import (
    build_net,
    convolutions_of,
    show_shape,
    trace,
    use_square_kernels,
)
from caffe_format.pooling import map_side
from caffe_format.proto import NetParameter, kind_of, layers_of, name_of
from common.console import UserError
from models import model_io
from network.preprocessing import preprocessing_of
from pictures.decoding import cv2

# Layers that OpenCV is given; data and loss layers are not needed to run a network.
RUNNING = ('Convolution', 'ConvolutionRistretto', 'BatchNorm', 'Scale', 'ReLU', 'Pooling')
RUNNING += ('Concat', 'Eltwise', 'Split', 'Dropout', 'Softmax')
SETTINGS = (
    'convolution_param',
    'pooling_param',
    'concat_param',
    'eltwise_param',
    'relu_param',
    'dropout_param',
    'batch_norm_param',
    'scale_param',
)


class Difference(NamedTuple):
    """One blob: its Caffe name, shape, largest absolute value and largest difference."""

    blob: str
    shape: tuple
    largest: float
    difference: float

    @property
    def relative(self):
        return self.difference / (self.largest or 1.0)


def compare(model, caffemodel_path, image, given=None):
    """Run the picture `image` through the parameters `model` in Paddle, and through OpenCV.

    Returns a Difference for each blob of the caffemodel, in Caffe's order, its input first. `model`
    is what --model takes, and is fed as its configuration says; OpenCV is fed as the file and
    `given` say (see `caffemodel.read_net`). Raises UserError where they cannot be compared.
    """
    paddle.set_device('cpu')  # a GPU would round otherwise
    tensors, config = model_io.read_model(model)
    preprocessing = preprocessing_of(config)
    message = read_message(caffemodel_path)
    net = recognise(message, caffemodel_path, given)
    net = net._replace(
        **{name: config[name] for name in net.unknown_fields}
    )  # neither side can tell
    picture = reader.preprocess(image, preprocessing)
    images = reader.network_input(picture[np.newaxis], preprocessing)
    ours = {'data': images, **squeezenet.blobs(model_io.build_network(tensors, config), images)}
    theirs = opencv_blobs(message, net, opencv_input(image, net.preprocessing), caffemodel_path)
    known = [name for name in ours if name in theirs]  # not prob, in a file that ends in a loss
    return [_difference(name, ours[name], theirs[name]) for name in known]


def _difference(name, ours, theirs):
    if ours.shape != theirs.shape:
        raise UserError(
            f'{name} has shape {show_shape(ours.shape)} in Paddle, '
            f'{show_shape(theirs.shape)} as the caffemodel says'
        )
    largest, difference = np.abs(theirs).max(), np.abs(ours - theirs).max()
    return Difference(name, ours.shape, float(largest), float(difference))


def opencv_input(image, preprocessing):
    """float32 [1, 3, crop, crop], made of a picture file by OpenCV's own arithmetic."""
    return cv2.dnn.blobFromImage(
        reader.preprocess(image, preprocessing),
        preprocessing.scale,
        mean=preprocessing.mean,
        swapRB=preprocessing.channel_order == 'RGB',
    )


def opencv_blobs(message, net, images, path):
    """{Caffe's blob name: float32 array} as OpenCV computes them from the caffemodel itself.

    message: a NetParameter, and net: what `recognise` made of it; path: of the file, for messages.
    images: float32 [N, 3, H, W] as the network takes them, which is blob `data`. ReLUs are done,
    as in Caffe's in-place blobs.
    """
    if int(cv2.__version__.split('.')[0]) != 4:
        raise UserError(
            f'--verify needs OpenCV 4, and this is {cv2.__version__}, which cannot import Caffe '
            'networks: pip install "opencv-python-headless<5"'
        )
    prototxt, layer_of = _describe_for_opencv(message, net, images.shape)
    try:
        network = cv2.dnn.readNetFromCaffe(
            np.frombuffer(prototxt.encode(), np.uint8), np.frombuffer(_floats(message), np.uint8)
        )
        network.enableFusion(False)  # it would join ReLUs with convolutions
        network.enableWinograd(False)  # it rounds 3x3 convolutions differently
        network.setInput(images)
        outputs = network.forward(_names_in_opencv(network, layer_of.values()))
    except cv2.error as error:
        raise UserError(f'{path}: OpenCV cannot run this file: {error.err or error}') from None
    return {'data': images, **dict(zip(layer_of, outputs))}


def _names_in_opencv(network, layers):
    """OpenCV calls layers by their name, but convolutions, in some releases, by their top."""
    known = network.getLayerNames()
    return [name if name in known else top for name, top in layers]


def _describe_for_opencv(message, net, shape):
    """(prototxt, {blob: (name, top) of its layer}) of the file's own layers and connections."""
    expected = build_net(
        net.version, net.bypass, net.class_num, net.conv10_pad, net.conv10_relu, shape[-1]
    )
    own = convolutions_of(expected)
    source, computed = message, net.computed
    if not is_wired(message):
        source, computed = _with_names_of(message, net, expected, own), own
    whole = map_side(net.version, shape[-1], net.conv10_pad)
    conv1 = min(index for index, text in computed.items() if text.split()[0] == 'conv1')
    described, layer_that_computes = NetParameter(), {}
    fed = {layers_of(source)[conv1].bottom[0]}
    described.layer.add(
        name=b'input of the comparison',
        type=b'Input',
        top=fed,
        input_param={'shape': [{'dim': shape}]},
    )
    for layer, expression in zip(layers_of(source), trace(source, computed, whole)[1]):
        if kind_of(layer) in RUNNING and layer.bottom and fed.issuperset(layer.bottom):
            _copy_without_weights(layer, described.layer.add())
            fed.update(layer.top)
            names = name_of(layer), layer.top[0].decode('utf-8', 'backslashreplace')
            layer_that_computes.setdefault(expression, names)
    return text_format.MessageToString(described), _layer_of_blob(expected, layer_that_computes)


def _layer_of_blob(expected, layer_that_computes):
    """{our blob: (name, top) of the file's layer that computes it}, of those that the file has."""
    expressions = trace(expected, convolutions_of(expected))[1]
    # The last with a top is the in-place ReLU, whose result the blob holds in the end.
    final = {layer.top[0].decode(): text for layer, text in zip(expected.layer, expressions)}
    return {
        blob: layer_that_computes[text]
        for blob, text in final.items()
        if text in layer_that_computes
    }


def _with_names_of(message, net, expected, own):
    """Our network, its convolutions called as in a file that has weights and no connections."""
    in_file = {name: layers_of(message)[index].name for index, name in net.computed.items()}
    renamed = NetParameter()
    renamed.CopyFrom(expected)
    for index, name in own.items():
        renamed.layer[index].name = in_file[name]
    return renamed


def _copy_without_weights(layer, copy):
    """A layer in words that OpenCV knows: it takes other forks' fields and types for errors."""
    copy.name, copy.type = layer.name, kind_of(layer).replace('Ristretto', '').encode()
    copy.bottom.extend(layer.bottom)
    copy.top.extend(layer.top)
    for settings in SETTINGS:
        if hasattr(layer, settings) and layer.HasField(settings):
            getattr(copy, settings).CopyFrom(getattr(layer, settings))
    if copy.type == b'Convolution':
        copy.convolution_param.bias_term = len(layer.blobs) != 1
        use_square_kernels(copy.convolution_param)
    elif copy.type == b'Pooling':
        copy.pooling_param.ClearField('round_mode')
        use_square_kernels(copy.pooling_param)
    elif copy.type == b'BatchNorm':
        copy.batch_norm_param.ClearField('use_global_stats')


def _floats(message):
    """The file's bytes, numbers as plain floats: OpenCV reads neither doubles nor all raw data."""
    for layer in layers_of(message):
        for blob in layer.blobs:
            if not blob.data:
                blob.data[:] = blob_array(blob).tolist()
            for field in ('double_data', 'raw_data', 'raw_data_type'):
                blob.ClearField(field)
    return message.SerializeToString()
