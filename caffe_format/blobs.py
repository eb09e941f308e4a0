"""From a file to a message: what is no caffemodel is named, and blobs become arrays."""

import codecs
import math
import shlex
from pathlib import Path
from typing import Union

import numpy as np
from google.protobuf.message import DecodeError

from caffe_format import protobuf_wire as wire
from caffe_format.layers import show_shape
from caffe_format.proto import NetParameter, layers_of, name_of
from common.console import UserError
from common.files import read_regular_file

MOST_BYTES = 64 << 20  # v1.1 has 5 MB with 1000 classes; what parsing needs grows with it
MOST_LAYERS = 10_000  # and blobs; a SqueezeNet has about a hundred
MOST_AXES = 32  # Caffe: blob.hpp, kMaxBlobAxes

NOT_PROTOBUF = {
    b'\x89HDF': 'is HDF5 (.caffemodel.h5), which is not read; let Caffe save it as BINARYPROTO',
    b'PK\x03\x04': 'is a zip archive (or a NumPy file), not a caffemodel',
    b'\x1f\x8b': 'is gzip-compressed; unpack it first',
    b'\x80': 'is a Python pickle, not a caffemodel',
    b'\x89PNG': 'is a picture, not a caffemodel',
    b'\xff\xd8\xff': 'is a picture, not a caffemodel',
    bytes(12): "holds Paddle's parameters (.pdiparams, or a file of a fluid directory) without "
    'names and layers; --model reads .pdparams and safetensors',
}
PYTORCH_BEFORE_1_6 = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19'  # its magic number, pickled
CONVERT_PYTORCH = (
    "import sys, torch, safetensors.torch as s; t = torch.load(sys.argv[1], 'cpu', "
    "weights_only=True); t = t.get('state_dict', t.get('model', t)); "
    's.save_file({k: v.contiguous() for k, v in t.items()}, sys.argv[2])'
)
RAW_TYPES = {0: '<f8', 1: '<f4', 2: '<f2'}  # raw_data_type: DOUBLE, FLOAT, FLOAT16


def read_message(path):
    """The NetParameter in a file. Raises UserError or OSError, of one line."""
    content = read_bytes(path)
    _refuse_pytorch(content, path)
    for start, what in NOT_PROTOBUF.items():
        if content.startswith(start):
            raise UserError(f'{path}: {what}')
    net = _parse(content, path)
    layers = len(layers_of(net))
    if not layers:
        raise UserError(f'{path}: is no caffemodel: it holds no layers')
    if layers > MOST_LAYERS:
        raise UserError(f'{path}: is no SqueezeNet: it has {layers} layers')
    blobs = sum(len(layer.blobs) for layer in layers_of(net))
    if blobs > MOST_LAYERS:
        raise UserError(f'{path}: is no SqueezeNet: it has {blobs} blobs')
    return net


def _refuse_pytorch(content: bytes, path: Union[str, Path]) -> None:
    """A pickle may run anything, and only PyTorch reads its kind: its user converts it there."""
    zipped = content.startswith(b'PK\x03\x04') and b'/data.pkl' in content[:200]
    if zipped or content.startswith(PYTORCH_BEFORE_1_6):
        other = shlex.quote(str(Path(path).with_suffix('.safetensors')))
        raise UserError(
            f'{path}: is a PyTorch file, a pickle, which is not read; convert it: '
            f'python -c "{CONVERT_PYTORCH}" {shlex.quote(str(path))} {other}'
        )


def read_bytes(path: Union[str, Path]) -> bytes:
    """The bytes of a file that holds any. Raises UserError or OSError."""
    content = read_regular_file(path, MOST_BYTES)
    if not content:
        raise UserError(f'{path}: is empty')
    return content


def _parse(content, path):
    try:
        other = _other_message(content)
        if other:
            raise UserError(f'{path}: is {other}')
        wire.check_size(content, NetParameter.DESCRIPTOR)
        return NetParameter.FromString(content)
    except wire.TooMany:
        raise UserError(
            f'{path}: is no SqueezeNet: it has more than {wire.MOST_FIELDS} layers, blobs or fields'
        ) from None
    except (wire.Damaged, DecodeError):
        _refuse_text(content[:4096], path)
        raise UserError(
            f'{path}: is no caffemodel, or is damaged or truncated: '
            f'its {len(content)} bytes are no complete protobuf message'
        ) from None


def _other_message(content):
    """What a protobuf message is that is no NetParameter, by its fields; None where it may be."""
    kinds = {}
    for count, field in enumerate(wire.fields(content, 0, len(content))):
        kinds.setdefault(field.number, field)
        if count > 50:
            break
    wires = {number: field.wire for number, field in kinds.items()}
    if wires.get(1) == wire.VARINT and wires.get(7) == wires.get(8) == wire.BYTES:
        return 'an ONNX model, not a caffemodel'
    if wires.get(1) == wire.VARINT and wire.BYTES in (wires.get(2), wires.get(3)):
        return (
            "a .solverstate, the solver's momentum, and holds no weights; "
            'they are in the .caffemodel of the same iteration'
        )
    numbers_in = wires.get(5) in (wire.BYTES, wire.FIXED32) or wires.get(8) == wire.BYTES
    shaped = wires.get(1) == wire.VARINT or wires.get(7) == wire.BYTES
    if numbers_in and shaped and set(wires) <= set(range(1, 10)):
        return 'a blob (.binaryproto, a mean image, say), no network; --mean takes mean images'
    first = kinds.get(1)
    if first and first.wire == wire.BYTES and content[first.start :].startswith(b'\x08\0\x10'):
        return "a network of Paddle's inference form (.pdmodel), not a caffemodel"
    return None


def _refuse_text(start, path):
    try:
        text = codecs.getincrementaldecoder('utf-8')().decode(start)
    except UnicodeDecodeError:
        return
    if any(letter < ' ' and letter not in '\t\n\f\r' for letter in text):
        return
    if 'layer' in text and '{' in text:
        raise UserError(
            f'{path}: is a prototxt, the text that describes a network; '
            'the weights are in the binary .caffemodel'
        )
    if text.lstrip().startswith('{'):
        raise UserError(f'{path}: is JSON (of an inference model, say), not a caffemodel')
    raise UserError(f'{path}: is text, not a caffemodel; was a web page saved in its place?')


def where(path, layer):
    """How a message names a layer."""
    return f'{path}: layer {name_of(layer)!r}'


def blob_shape(blob, place):
    """A blob's shape, old or new form, once it is certain that the blob holds that many numbers."""
    held = _held(blob, place)
    if len(blob.shape.dim) > MOST_AXES:
        raise UserError(f'{place}: a blob has {len(blob.shape.dim)} axes')
    if blob.HasField('shape'):
        shape = tuple(blob.shape.dim)
    else:
        shape = (blob.num, blob.channels, blob.height, blob.width)
    if min(shape, default=0) < 0 or math.prod(shape) != held:
        raise UserError(f'{place}: a blob of shape {show_shape(shape)} holds {held} numbers')
    return shape


def _held(blob, place):
    """How many numbers a blob holds."""
    held = len(blob.double_data) or len(blob.data)
    if held or not blob.raw_data:
        return held
    kind = RAW_TYPES.get(blob.raw_data_type)
    if kind is None:
        raise UserError(
            f'{place}: a blob has integers (raw_data_type {blob.raw_data_type}); '
            'quantised weights are not read'
        )
    size = np.dtype(kind).itemsize
    if len(blob.raw_data) % size:
        raise UserError(
            f'{place}: a blob has {len(blob.raw_data)} bytes of raw_data, '
            f'which are no numbers of {size} bytes'
        )
    return len(blob.raw_data) // size


def blob_array(blob):
    """A blob's numbers in one row, float32; only what `blob_shape` has seen."""
    with np.errstate(over='ignore'):  # infinities are for the caller to refuse
        if blob.double_data:  # Caffe: blob.cpp, FromProto, prefers it too
            return np.array(blob.double_data, np.float64).astype(np.float32)
        if blob.data:
            return np.array(blob.data, np.float32)
        return np.frombuffer(blob.raw_data, RAW_TYPES[blob.raw_data_type]).astype(np.float32)
