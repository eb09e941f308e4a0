"""Reads SqueezeNets from Caffe's binary .caffemodel, without Caffe and without a prototxt.

A file is recognised by its blobs: conv1's shape tells the version, conv10's the number of classes;
the other convolutions are told apart by name, shape and order. What the file says of the layers
between them must then be what our network computes.
"""

import math
from typing import NamedTuple, Optional

import numpy as np

from caffe_format import inputs
from caffe_format.batch_norm import KINDS as SCALINGS
from caffe_format.batch_norm import fold
from caffe_format.blobs import blob_array, blob_shape, read_message, where
from caffe_format.graph import read_structure
from caffe_format.layers import show_shape
from caffe_format.matching import match
from caffe_format.proto import kind_of, layers_of, name_of
from common.console import UserError
from network import architecture
from network.preprocessing import Preprocessing

CONVOLUTIONS = ('Convolution', 'ConvolutionRistretto', '')  # '': weights alone
DETECTION = ('PriorBox', 'DetectionOutput', 'MultiBoxLoss', 'Normalize', 'ROIPooling', 'Proposal')


class CaffeNet(NamedTuple):
    """A SqueezeNet as a caffemodel holds it.

    tensors: {name: float32 array} as in `architecture.parameter_shapes`, bit for bit (doubles are
    rounded to float32, batch normalisation is folded). conv10_pad: 0 or 1; the original v1.0 pads
    its 1x1 conv10, a quirk of its making, so that ReLU(bias) of the border enters the mean.
    conv10_relu: whether a ReLU follows conv10. preprocessing: what the file says of its pictures.
    computed: {index of a layer that is used: what it computes}, see `layers.trace`.
    unknown_fields: which of bypass, conv10_pad and conv10_relu the file leaves open.
    notes: what was assumed of pictures, dropped or found odd, a line each.
    """

    tensors: dict
    version: str
    bypass: Optional[str]
    class_num: int
    conv10_pad: int
    conv10_relu: bool
    preprocessing: Preprocessing
    computed: dict
    unknown_fields: tuple
    notes: list


def read_net(path, given=None):
    """The CaffeNet in a .caffemodel, V2 (`layer`) or V1 (`layers`).

    given: what the user knows better than the file: {field of Preprocessing: value}, and
    'ceil_mode': True, see `pooling.settle_rounding`. Raises UserError with one line that
    names file and layer.
    """
    return recognise(read_message(path), path, given)


def describe_layers(path):
    """Rows (index, name, type, blob shapes, number of values, bytes in the file), one per layer.

    Works on any network's caffemodel. Raises UserError for what is none.
    """
    rows = []
    for index, layer in enumerate(layers_of(read_message(path))):
        shapes = [blob_shape(blob, where(path, layer)) for blob in layer.blobs]
        count = sum(math.prod(shape) for shape in shapes)
        rows.append((index, name_of(layer), kind_of(layer), shapes, count, layer.ByteSize()))
    return rows


def recognise(net, path, given=None):
    """As read_net, of a NetParameter, which is brought to what counts in testing, in place."""
    given = dict(given or {})
    ceil_mode = given.pop('ceil_mode', False)
    inputs.keep_testing(net)
    shapes = _weight_shapes(net, path)
    version, bypass, class_num = kind = _kind_of_net(net, shapes, path)
    convolutions, notes = match(net, shapes, kind, path)
    said = inputs.read_inputs(net, convolutions, path)
    preprocessing, more, assumed = inputs.settle(said, given, path)
    smallest = architecture.smallest_input(version)
    if preprocessing.crop < smallest:
        raise UserError(
            f'{path}: pictures of {preprocessing.crop}x{preprocessing.crop} are too small; '
            f'v{version} needs {smallest} pixels'
        )
    structure = read_structure(net, convolutions, kind, preprocessing.crop, ceil_mode, path)
    tensors = _read_tensors(net, convolutions, structure.chains, path)
    names = architecture.parameter_shapes(version, bypass, class_num)
    notes += more + structure.notes + _odd_layers(net, convolutions, structure.chains)
    if assumed:
        notes.append(
            f'does not tell all of its pictures; assuming {", ".join(assumed)} '
            '(flags of caffe2paddle.py)'
        )
    return CaffeNet(
        {name: tensors[name] for name in names},
        version,
        bypass,
        class_num,
        structure.conv10_pad,
        structure.conv10_relu,
        preprocessing,
        structure.computed,
        structure.unknown_fields,
        notes,
    )


def _weight_shapes(net, path):
    """{layer index: OIHW shape} of the convolutions, in file order."""
    shapes = {}
    for index, layer in enumerate(layers_of(net)):
        kind, place = kind_of(layer), where(path, layer)
        if kind in DETECTION:
            raise UserError(f'{place} is a {kind}: this is a detector (SSD, say), no classifier')
        if not layer.blobs or kind in SCALINGS:
            continue
        if kind not in CONVOLUTIONS:
            raise UserError(f'{place} is a {kind} with weights; no SqueezeNet has that')
        shapes[index] = _convolution_shape(layer, place)
    if not shapes:
        raise UserError(f'{path}: holds no weights')
    return shapes


def _convolution_shape(layer, place):
    if len(layer.blobs) > 2:
        raise UserError(f'{place} has {len(layer.blobs)} blobs, not a weight and a bias')
    weight, *bias = (blob_shape(blob, place) for blob in layer.blobs)
    if len(weight) == 4 and (not bias or weight[:1] == bias[0][-1:] == (math.prod(bias[0]),)):
        return weight
    shown = ' and '.join(map(show_shape, (weight, *bias)))
    raise UserError(f'{place}: blobs of shapes {shown} are no convolution with bias')


def _kind_of_net(net, shapes, path):
    """(version, bypass, class_num), from the convolutions' shapes and whether there are sums."""
    first = {architecture.parameter_shapes(v)['conv1.weight']: v for v in architecture.VERSIONS}
    version = next((first[shape] for shape in shapes.values() if shape in first), None)
    if version is None:
        raise UserError(f'{path}: is no SqueezeNet: {_no_conv1(net, shapes, first)}')
    plain = architecture.parameter_shapes(version)
    bypass = None
    if any(kind_of(layer) == 'Eltwise' for layer in layers_of(net)):
        bypass = 'simple'
    own_to_complex = set(architecture.parameter_shapes(version, 'complex').values())
    own_to_complex -= set(plain.values())
    if own_to_complex.intersection(shapes.values()):
        bypass = 'complex'
    called = [i for i in shapes if name_of(layers_of(net)[i]) == 'conv10']
    class_num, *in_channels = shapes[called[0] if called else max(shapes)]
    has_conv10 = class_num > 0 and tuple(in_channels) == plain['conv10.weight'][1:]
    return version, bypass, class_num if has_conv10 else 1  # 1: match says what is missing


def _no_conv1(net, shapes, first):
    known = ' or '.join(f'{show_shape(shape)} (v{version})' for shape, version in first.items())
    text = f'no convolution is conv1 of {known}'
    grey = [shape for shape in shapes.values() if (shape[0], 3, *shape[2:]) in first]
    if grey and grey[0][1] == 1:
        return f'{text}; it takes pictures of one channel (grey), which is not done here'
    index = min(shapes)
    text += f'; its first, {name_of(layers_of(net)[index])!r}, is {show_shape(shapes[index])}'
    if any(name_of(layers_of(net)[i]).startswith('fire') for i in shapes):
        text += '; this is another version of SqueezeNet than v1.0 and v1.1'
    return text


def _read_tensors(net, convolutions, chains, path):
    """{name: float32 array} of all parameters; what BatchNorm and Scale do is folded in."""
    tensors = {}
    for index, name in convolutions.items():
        layer = layers_of(net)[index]
        place = where(path, layer)
        weight = blob_array(layer.blobs[0]).reshape(blob_shape(layer.blobs[0], place))
        bias = np.zeros(len(weight), np.float32)
        if len(layer.blobs) > 1:
            bias = blob_array(layer.blobs[1])
        if index in chains:
            behind = [layers_of(net)[number] for number in chains[index]]
            weight, bias = fold(weight, bias, behind, path)
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise UserError(f'{place} holds NaN or numbers beyond float32')
        parameter = name.replace('/', '.')
        tensors[f'{parameter}.weight'], tensors[f'{parameter}.bias'] = weight, bias
    return tensors


def _odd_layers(net, convolutions, chains):
    """Notes on convolutions that are not as in the original."""
    notes = []
    layers = {name: layers_of(net)[index] for index, name in convolutions.items()}
    bare = [name for name, layer in layers.items() if len(layer.blobs) == 1]
    if bare and any(layers[name].convolution_param.bias_term for name in bare):
        notes.append(f'{_some(bare)} without bias: zeros are taken')
    rounded = [name for name, layer in layers.items() if kind_of(layer) == 'ConvolutionRistretto']
    if rounded:
        notes.append(f"{_some(rounded)} of Ristretto's: its rounding to few bits is not done")
    if chains:
        notes.append(f'{_some([convolutions[i] for i in chains])}: BatchNorm and Scale folded in')
    if any(
        kind_of(layer) == 'BatchNorm'
        and layer.batch_norm_param.HasField('use_global_stats')
        and not layer.batch_norm_param.use_global_stats
        for layer in layers_of(net)
    ):
        notes.append("use_global_stats: false is training's; the statistics in the file are used")
    return notes


def _some(names):
    """'conv1', or 'conv1 and 25 more convolutions'."""
    return names[0] + (f' and {len(names) - 1} more convolutions' if len(names) > 1 else '')
