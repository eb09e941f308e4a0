"""Compares converted parameters with OpenCV's own reading of the same caffemodel, blob by blob."""

from typing import NamedTuple

import common.paddle_setup  # noqa: F401 - before Paddle

import numpy as np
import paddle
from google.protobuf import text_format

import reader
import squeezenet
from caffe_format.caffemodel import read_message, recognise
from caffe_format.layers import build_net, trace
from caffe_format.messages import NetParameter, kind_of, layers_of, name_of
from common.console import UserError
from models import parameters
from network.preprocessing import preprocessing_of
from pictures.decoding import cv2

# Layers that OpenCV is given; data and loss layers are not needed to run a network.
RUNNING = ('Convolution', 'ReLU', 'Pooling', 'Concat', 'Eltwise', 'Split', 'Dropout', 'Softmax')
SETTINGS = (
    'convolution_param',
    'pooling_param',
    'concat_param',
    'eltwise_param',
    'relu_param',
    'dropout_param',
)


class VerifyError(UserError):
    """The comparison cannot be made."""


class Difference(NamedTuple):
    """One blob: its Caffe name, shape, largest absolute value and largest difference."""

    blob: str
    shape: tuple
    largest: float
    difference: float

    @property
    def relative(self):
        return self.difference / (self.largest or 1.0)


def compare(model, caffemodel_path, image):
    """Run the picture `image` through the parameters `model` in Paddle, and through OpenCV.

    Returns a Difference for each blob of the caffemodel, in Caffe's order. `model` is what --model
    takes. Raises VerifyError where OpenCV cannot read the file.
    """
    paddle.set_device('cpu')  # a GPU would round otherwise
    tensors, config = parameters.read_model(model)
    preprocessing = preprocessing_of(config)
    picture = reader.preprocess(image, preprocessing)
    images = reader.network_input(picture[np.newaxis], preprocessing)
    theirs = opencv_blobs(caffemodel_path, images)
    ours = squeezenet.blobs(parameters.build_network(tensors, config), images)
    rows = []
    for name, value in ours.items():
        if name not in theirs:  # prob, in a file that ends in a loss
            continue
        if value.shape != theirs[name].shape:
            raise VerifyError(
                f'{name} has shape {list(value.shape)} in Paddle, '
                f'{list(theirs[name].shape)} in OpenCV'
            )
        largest, difference = np.abs(theirs[name]).max(), np.abs(value - theirs[name]).max()
        rows.append(Difference(name, value.shape, float(largest), float(difference)))
    return rows


def opencv_blobs(path, images):
    """{Caffe's blob name: float32 array} as OpenCV computes them from the caffemodel itself.

    images: float32 [N, 3, H, W], mean subtracted. ReLUs are done, as in Caffe's in-place blobs.
    """
    if int(cv2.__version__.split('.')[0]) != 4:
        raise VerifyError(
            f'--verify needs OpenCV 4, and this is {cv2.__version__}, which cannot import Caffe '
            'networks: pip install "opencv-python-headless<5"'
        )
    message = read_message(path)
    prototxt, layer_of = _describe_for_opencv(message, recognise(message, path), images.shape)
    try:
        network = cv2.dnn.readNetFromCaffe(
            np.frombuffer(prototxt.encode(), np.uint8), np.frombuffer(_floats(message), np.uint8)
        )
        network.enableFusion(False)  # it would join ReLUs with convolutions
        network.enableWinograd(False)  # it rounds 3x3 convolutions differently
        network.setInput(images)
        outputs = network.forward(_names_in_opencv(network, layer_of.values()))
    except cv2.error as error:
        raise VerifyError(f'{path}: OpenCV cannot run this file: {error.err or error}') from None
    return dict(zip(layer_of, outputs))


def _names_in_opencv(network, layers):
    """OpenCV calls layers by their name, but convolutions, in some releases, by their top."""
    known = network.getLayerNames()
    return [name if name in known else top for name, top in layers]


def _describe_for_opencv(message, net, shape):
    """(prototxt, {blob: (name, top) of its layer}) of the file's own layers and connections."""
    expected = build_net(net.version, net.bypass, net.class_num, net.conv10_pad)
    own = {i: name_of(row) for i, row in enumerate(expected.layer) if kind_of(row) == 'Convolution'}
    source, convolutions = message, net.convolutions
    if not any(layer.top for layer in layers_of(message)):
        source, convolutions = _with_names_of(message, net, expected, own), own
    conv1 = next(index for index, name in convolutions.items() if name == 'conv1')
    described = NetParameter()
    described.layer.add(
        name=b'input of the comparison',
        type=b'Input',
        top=[layers_of(source)[conv1].bottom[0]],
        input_param={'shape': [{'dim': shape}]},
    )
    layer_that_computes = {}
    for layer, expression in zip(layers_of(source), trace(source, convolutions)[1]):
        if kind_of(layer) in RUNNING and layer.top:
            _copy_without_weights(layer, described.layer.add())
            names = name_of(layer), layer.top[0].decode('utf-8', 'backslashreplace')
            layer_that_computes.setdefault(expression, names)
    layer_of = {}
    for layer, expression in zip(expected.layer, trace(expected, own)[1]):
        if expression in layer_that_computes:  # the last with this top: after the in-place ReLU
            layer_of[layer.top[0].decode()] = layer_that_computes[expression]
    return text_format.MessageToString(described), layer_of


def _with_names_of(message, net, expected, own):
    """Our network, its convolutions called as in a file that has weights and no connections."""
    in_file = {name: layers_of(message)[index].name for index, name in net.convolutions.items()}
    renamed = NetParameter()
    renamed.CopyFrom(expected)
    for index, name in own.items():
        renamed.layer[index].name = in_file[name]
    return renamed


def _copy_without_weights(layer, copy):
    copy.name, copy.type = layer.name, kind_of(layer).encode()
    copy.bottom.extend(layer.bottom)
    copy.top.extend(layer.top)
    for settings in SETTINGS:
        if layer.HasField(settings):
            getattr(copy, settings).CopyFrom(getattr(layer, settings))


def _floats(message):
    """The file's bytes; doubles, which OpenCV does not read, become floats."""
    for layer in layers_of(message):
        for blob in layer.blobs:
            if blob.double_data:
                blob.data[:] = np.array(blob.double_data, np.float32).tolist()
                blob.ClearField('double_data')
    return message.SerializeToString()
