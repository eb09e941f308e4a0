"""Reads and writes SqueezeNets as Caffe's binary .caffemodel, without Caffe and without a prototxt.

A file is recognised by its blobs: conv1's shape tells the version, the last convolution the number
of classes, and the convolutions of a fire module are told apart by shape and order, whatever they
are called. What the file says of the layers between them must then be what our network computes.
"""

import codecs
import math
from collections import defaultdict, deque
from typing import NamedTuple, Optional

import numpy as np
from google.protobuf import text_format
from google.protobuf.message import DecodeError

from caffe_format.layers import (
    build_net,
    convolution_pad,
    convolution_settings,
    net_label,
    show_shape,
    trace,
)
from caffe_format.messages import NetParameter, kind_of, layers_of, name_of
from common.console import UserError
from common.files import atomic_write
from network import architecture

MOST_BYTES = 64 << 20  # v1.1 has 5 MB with 1000 classes; what parsing needs grows with it
MOST_LAYERS = 10_000  # and blobs; a SqueezeNet has about a hundred
MOST_AXES = 32  # Caffe: blob.hpp, kMaxBlobAxes

NOT_PROTOBUF = {
    b'\x89HDF': 'is HDF5 (.caffemodel.h5), which is not read; let Caffe save it as BINARYPROTO',
    b'PK\x03\x04': 'is a zip archive (or a PyTorch or NumPy file), not a caffemodel',
    b'\x1f\x8b': 'is gzip-compressed; unpack it first',
    b'\x80': 'is a Python pickle, not a caffemodel',
    b'version https://git-lfs': 'is a Git LFS pointer; fetch the file itself with git lfs pull',
}


class CaffeModelError(UserError):
    """A caffemodel cannot be read, or is not a SqueezeNet."""


class CaffeNet(NamedTuple):
    """A SqueezeNet as a caffemodel holds it.

    tensors: {name: float32 array} as in `architecture.parameter_shapes`, bit for bit (doubles are
    rounded to float32). conv10_pad: 0 or 1; the original v1.0 pads its 1x1 conv10, a quirk of its
    making, so that ReLU(bias) of the border enters the mean. convolutions: {index of a layer in
    the file: its name in the original}. unsaid: what of the configuration a file of weights alone
    leaves open.
    """

    tensors: dict
    version: str
    bypass: Optional[str]
    class_num: int
    conv10_pad: int
    convolutions: dict
    unsaid: tuple = ()


def read_net(path):
    """The CaffeNet in a .caffemodel, V2 (`layer`) or V1 (`layers`).

    Raises CaffeModelError with one line that names file and layer.
    """
    return recognise(read_message(path), path)


def describe_layers(path):
    """Rows (index, name, type, blob shapes, number of values, bytes in the file), one per layer.

    Works on any network's caffemodel. Raises CaffeModelError for what is none.
    """
    rows = []
    for index, layer in enumerate(layers_of(read_message(path))):
        shapes = [_shape(blob, _where(path, layer)) for blob in layer.blobs]
        count = sum(math.prod(shape) for shape in shapes)
        rows.append((index, name_of(layer), kind_of(layer), shapes, count, layer.ByteSize()))
    return rows


# --- from a file to a message --------------------------------------------------------------------


def read_message(path):
    """The NetParameter in a file."""
    with open(path, 'rb') as file:
        content = file.read(MOST_BYTES + 1)
    if not content:
        raise CaffeModelError(f'{path}: is empty')
    if len(content) > MOST_BYTES:
        raise CaffeModelError(f'{path}: is larger than {MOST_BYTES >> 20} MiB; no SqueezeNet is')
    for start, what in NOT_PROTOBUF.items():
        if content.startswith(start):
            raise CaffeModelError(f'{path}: {what}')
    try:
        net = NetParameter.FromString(content)
    except DecodeError:
        _refuse_text(content[:4096], path)
        raise CaffeModelError(
            f'{path}: is no caffemodel, or is damaged or truncated: '
            f'its {len(content)} bytes are no complete protobuf message'
        ) from None
    count = len(layers_of(net))
    if not count:
        raise CaffeModelError(f'{path}: is no caffemodel: it holds no layers')
    if count > MOST_LAYERS:
        raise CaffeModelError(f'{path}: is no SqueezeNet: it has {count} layers')
    count = sum(len(layer.blobs) for layer in layers_of(net))
    if count > MOST_LAYERS:
        raise CaffeModelError(f'{path}: is no SqueezeNet: it has {count} blobs')
    return net


def _refuse_text(start, path):
    try:
        text = codecs.getincrementaldecoder('utf-8')().decode(start)
    except UnicodeDecodeError:
        return
    if any(letter < ' ' and letter not in '\t\n\f\r' for letter in text):
        return
    if 'layer' in text and '{' in text:
        raise CaffeModelError(
            f'{path}: is a prototxt, the text that describes a network; '
            'the weights are in the binary .caffemodel'
        )
    raise CaffeModelError(f'{path}: is text, not a caffemodel; was a web page saved in its place?')


def _where(path, layer):
    return f'{path}: layer {name_of(layer)!r}'


def _shape(blob, where):
    """A blob's shape, old or new form, once it is certain that the blob holds that many numbers."""
    held = len(blob.double_data) or len(blob.data)
    if len(blob.shape.dim) > MOST_AXES:
        raise CaffeModelError(f'{where}: a blob has {len(blob.shape.dim)} axes')
    if blob.HasField('shape'):
        shape = tuple(blob.shape.dim)
    else:
        shape = (blob.num, blob.channels, blob.height, blob.width)
    if min(shape, default=0) < 0 or math.prod(shape) != held:
        raise CaffeModelError(f'{where}: a blob of shape {show_shape(shape)} holds {held} numbers')
    return shape


# --- from a message to a SqueezeNet --------------------------------------------------------------


def recognise(net, path):
    """The CaffeNet that a NetParameter holds; `path` is for the messages of CaffeModelError."""
    shapes = _weight_shapes(net, path)
    version, bypass, class_num = _kind_of_net(net, list(shapes.values()), path)
    convolutions = _match(net, shapes, version, bypass, class_num, path)
    conv10 = next(index for index, name in convolutions.items() if name == 'conv10')
    conv10_pad = int(convolution_pad(layers_of(net)[conv10].convolution_param) == '1x1')
    expected = build_net(version, bypass, class_num, conv10_pad)
    _check_settings(net, convolutions, expected, path)
    if any(layer.top for layer in layers_of(net)):  # weights alone have no wiring to check
        _check_wiring(net, convolutions, expected, path)
    tensors = _read_tensors(net, convolutions, path)
    names = architecture.parameter_shapes(version, bypass, class_num)
    in_order = {name: tensors[name] for name in names}
    unsaid = _unsaid(net, conv10)
    return CaffeNet(in_order, version, bypass, class_num, conv10_pad, convolutions, unsaid)


def _unsaid(net, conv10):
    wired = any(layer.top for layer in layers_of(net))
    padded = layers_of(net)[conv10].HasField('convolution_param')
    return (*(() if padded else ('conv10_pad',)), *(() if wired else ('bypass', 'conv10_relu')))


def _weight_shapes(net, path):
    """{layer index: OIHW shape} of the convolutions, in file order."""
    shapes = {}
    for index, layer in enumerate(layers_of(net)):
        if not layer.blobs:
            continue
        where = _where(path, layer)
        if kind_of(layer) not in ('Convolution', ''):  # '': weights alone
            raise CaffeModelError(
                f'{where} is a {kind_of(layer)} with weights; no SqueezeNet has that'
            )
        if len(layer.blobs) != 2:
            raise CaffeModelError(f'{where} has {len(layer.blobs)} blobs, not a weight and a bias')
        weight, bias = (_shape(blob, where) for blob in layer.blobs)
        if len(weight) != 4 or bias[-1:] != weight[:1] or math.prod(bias) != weight[0]:
            raise CaffeModelError(
                f'{where}: blobs of shapes {show_shape(weight)} and {show_shape(bias)} '
                'are no convolution with bias'
            )
        shapes[index] = weight
    if not shapes:
        raise CaffeModelError(f'{path}: holds no weights')
    return shapes


def _kind_of_net(net, shapes, path):
    """(version, bypass, class_num), from the convolutions' shapes and whether there are sums."""
    first = {architecture.parameter_shapes(v)['conv1.weight']: v for v in architecture.VERSIONS}
    version = next((first[shape] for shape in shapes if shape in first), None)
    if version is None:
        known = ' or '.join(f'{show_shape(shape)} (v{version})' for shape, version in first.items())
        raise CaffeModelError(f'{path}: is no SqueezeNet: no convolution is conv1 of {known}')
    plain = architecture.parameter_shapes(version)
    bypass = None
    if any(kind_of(layer) == 'Eltwise' for layer in layers_of(net)):
        bypass = 'simple'
    own_to_complex = set(architecture.parameter_shapes(version, 'complex').values())
    own_to_complex -= set(plain.values())
    if own_to_complex.intersection(shapes):
        bypass = 'complex'
    class_num, *inputs = shapes[-1]
    has_conv10 = class_num > 0 and tuple(inputs) == plain['conv10.weight'][1:]
    return version, bypass, class_num if has_conv10 else 1  # 1: _match says what is missing


def _match(net, shapes, version, bypass, class_num, path):
    """{layer index: name in the original}: the k-th blob of a shape is our k-th of that shape.

    That is enough, since Caffe's files list a layer after those whose results it reads. A class
    number of 64 gives conv10 the shape of fire9/squeeze1x1, which comes before it.
    """
    waiting = defaultdict(deque)
    for index, shape in shapes.items():
        waiting[shape].append(index)
    convolutions, missing = {}, []
    for parameter, shape in architecture.parameter_shapes(version, bypass, class_num).items():
        name, _, kind = parameter.replace('.', '/').rpartition('/')
        if kind == 'weight' and waiting[shape]:
            convolutions[waiting[shape].popleft()] = name
        elif kind == 'weight':
            missing.append(name)
    unknown = min((index for indices in waiting.values() for index in indices), default=None)
    label = net_label(version, bypass)
    if unknown is not None:
        raise CaffeModelError(
            f'{_where(path, layers_of(net)[unknown])} has weights of shape '
            f'{show_shape(shapes[unknown])}, which {label} has not'
            + (f'; {missing[0]} is missing' if missing else ' (or not so often)')
        )
    if missing:
        also = f' and {len(missing) - 1} more convolutions' if len(missing) > 1 else ''
        truncated = '; it is probably truncated' if missing[-1] == 'conv10' else ''
        raise CaffeModelError(
            f'{path}: ends after layer {name_of(layers_of(net)[-1])!r}, and {missing[0]} of '
            f'{label}{also} is missing{truncated}'
        )
    return convolutions


def _read_tensors(net, convolutions, path):
    tensors = {}
    for index, name in convolutions.items():
        layer = layers_of(net)[index]
        weight, bias = map(_array, layer.blobs)
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise CaffeModelError(f'{_where(path, layer)} holds NaN or numbers beyond float32')
        parameter = name.replace('/', '.')
        tensors[f'{parameter}.weight'] = weight.reshape(_shape(layer.blobs[0], path))
        tensors[f'{parameter}.bias'] = bias
    return tensors


def _array(blob):
    if blob.double_data:  # Caffe: blob.cpp, FromProto, prefers it too
        with np.errstate(over='ignore'):  # infinities are refused by the caller
            return np.array(blob.double_data, np.float64).astype(np.float32)
    return np.array(blob.data, np.float32)


# --- what the file says of the layers, against what our network computes -------------------------


def _check_settings(net, convolutions, expected, path):
    """Stride, padding, groups and dilation must be ours, where the file has them."""
    ours = {
        name_of(layer): convolution_settings(layer.convolution_param) for layer in expected.layer
    }
    for index, name in convolutions.items():
        layer = layers_of(net)[index]
        found = convolution_settings(layer.convolution_param)
        if layer.HasField('convolution_param') and found != ours[name]:
            raise CaffeModelError(
                f'{_where(path, layer)} has {found}; '
                f'{name} of {expected.name.decode()} has {ours[name]}'
            )


def _check_wiring(net, convolutions, expected, path):
    """Every convolution must be fed what it is fed in our network, and conv10 be averaged."""
    label = expected.name.decode()
    own = {i: name_of(row) for i, row in enumerate(expected.layer) if kind_of(row) == 'Convolution'}
    our_reads, our_computes = trace(expected, own)
    wanted = {name: our_reads[index] for index, name in own.items()}
    reads, computes = trace(net, convolutions)
    for index, name in sorted(convolutions.items()):
        if reads[index] != wanted[name]:
            raise CaffeModelError(
                f'{_where(path, layers_of(net)[index])} reads {reads[index]}; '
                f'{name} of {label} reads {wanted[name]}'
            )
    pool10 = our_computes[-2]
    if pool10 not in computes:
        raise CaffeModelError(
            f'{path}: does not end in {pool10} (global average pooling); '
            f'it is truncated, or no {label}'
        )


# --- writing -------------------------------------------------------------------------------------


def write_caffemodel(path, tensors, version, bypass, class_num, conv10_pad=0):
    """Write `tensors` (see CaffeNet) as a V2 file with the layers and names of the original."""
    net = build_net(version, bypass, class_num, conv10_pad)
    for layer in net.layer:
        if kind_of(layer) == 'Convolution':
            for kind in ('weight', 'bias'):
                tensor = tensors[f'{name_of(layer).replace("/", ".")}.{kind}']
                blob = layer.blobs.add()
                blob.shape.dim.extend(tensor.shape)
                blob.data.extend(tensor.ravel().tolist())
    with atomic_write(path) as file:
        file.write(net.SerializeToString())


def deploy_prototxt(version, bypass, class_num, size=227, batch=1, conv10_pad=0):
    """The text that Caffe wants beside the weights: input `data`, output `prob`."""
    net = build_net(version, bypass, class_num, conv10_pad, size, batch)
    return text_format.MessageToString(net)
