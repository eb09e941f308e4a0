"""The packed file (`.sqz`): a SqueezeNet in less than half a megabyte, decoded by numpy and zlib.

All numbers are little endian; "inflate" means raw deflate (RFC 1951, no zlib header).

    0   4 bytes    'SQZ\\x1a'
    4   uint32     version of this format: 1
    8   32 bytes   sha256 of everything from byte 40 on
    40  uint32     bytes of the deflated header
    44             the header, deflated; then the streams, each deflated, to the end of the file

The header is a JSON object (UTF-8) with exactly these keys:

    config          what a model's config.json holds, without class_names where imagenet_names
    imagenet_names  true: class_names is the names of data/synset_words.txt
    row_bits, column_bits    mantissa bits m of the two kinds of step, 2 to 5
    layers          [exponent, bias_exponent, dependent] of each convolution, in the order of
                    architecture.parameter_shapes; exponents -64 to 64; dependent 0 or 1
    packing         of each class of levels, how many levels share a byte: 1 to 5
    lengths         deflated bytes of each stream

A convolution's weight is a matrix of O rows (filters) and K = I*k*k columns, in OIHW order. The
streams, each for all convolutions one after another:

    row_steps, column_steps      uint8 [O], uint8 [K]
    row_classes, column_classes  uint8 [O], uint8 [K]; their sum is the class of a weight's level
    bias_low, bias_high          uint8 [O]: the bytes of int16; bias = int16 * 2^bias_exponent
    class 0, class 1, ...        the symbols of the levels of this class (row by row, convolution by
                                 convolution), n = packing to a byte of base r = 256, 16, 6, 4, 3
                                 for n = 1 ... 5, the first one lowest; the last byte filled by 0
    extra                        uint16 for each symbol r - 1, class by class, which it is added to

A symbol s is the level k in zigzag: 0, 1, -1, 2, -2, ...; that is (s + 1) / 2 where s is odd, else
-s / 2; |k| < 32768. Where `dependent`, the trellis-coded quantisation of VVC (ITU-T H.266, 8.7.3)
with its four states: go over a row's columns in the order of their column_steps, largest first,
equal ones from left to right. The quantiser at place t of this order is
q[t] = parity of k[t-1] + k[t-3] + k[t-5] + ..., and the weight's integer is n = 2 k - q sign(k).
Else n = k.

A step byte a stands for (1 + (a mod 2^m) / 2^m) * 2^(a div 2^m). With row = that of the row_step
and column = that of the column_step times 2^exponent, both exact, the weight is
float32(float32(n * row) * column): one rounding after each product.
"""

import hashlib
import json
import math
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.console import UserError, printable
from common.files import DATA, atomic_write, read_head, read_regular_file
from models.formats.packed_streams import (
    deflate,
    inflate,
    inflate_at_most,
    pack_levels,
    read_levels,
)
from network import architecture
from pictures import lists
from pictures.class_names import read_class_names

MAGIC = b'SQZ\x1a'
VERSION = 1
HEAD = struct.Struct('<4sI32s')  # magic, version, sha256 of the rest
LENGTH = struct.Struct('<I')
MOST_BYTES = 16 << 20  # of a file, and of its header's text
MOST_CLASSES = 64
SIDES = ('row_steps', 'column_steps', 'row_classes', 'column_classes', 'bias_low', 'bias_high')
KEYS = {'config', 'imagenet_names', 'row_bits', 'column_bits', 'layers', 'packing', 'lengths'}


class PackedLayer(NamedTuple):
    """One convolution as the file has it; names and types as in the module's docstring.

    `levels` is int16 [O, K], `bias` int16 [O]; steps and classes are uint8 [O] and [K].
    """

    levels: np.ndarray
    row_steps: np.ndarray
    column_steps: np.ndarray
    row_classes: np.ndarray
    column_classes: np.ndarray
    bias: np.ndarray
    exponent: int
    bias_exponent: int
    dependent: bool


class Packed(NamedTuple):
    """A whole file: {name of a convolution: PackedLayer}, the configuration, the mantissa bits."""

    layers: dict
    config: dict
    row_bits: int
    column_bits: int


# --- from levels to weights -----------------------------------------------------------------------


def read_packed(path):
    """(tensors, config) of a packed file, the configuration as it stands there. UserError."""
    packed = load(path)
    return tensors_of(packed), packed.config


def tensors_of(packed):
    """{name: float32 array} of a Packed, in the network's order."""
    shapes = layer_shapes(packed.config)
    tensors = {}
    for name, layer in packed.layers.items():
        weight = weights(layer, packed.row_bits, packed.column_bits)
        tensors[f'{name}.weight'] = weight.reshape(shapes[name])
        tensors[f'{name}.bias'] = biases(layer)
    return tensors


def weights(layer, row_bits, column_bits):
    """float32 [O, K] of a PackedLayer: the same bits on every machine."""
    numbers = layer.levels.astype(np.int32)
    if layer.dependent:
        order = visiting_order(layer.column_steps)
        numbers = 2 * numbers - np.sign(numbers) * quantisers(layer.levels, order)
    rows = step_values(layer.row_steps, row_bits)
    columns = np.ldexp(step_values(layer.column_steps, column_bits), layer.exponent)
    with np.errstate(over='ignore'):  # infinite ones are refused with the tensors
        return numbers.astype(np.float32) * rows[:, None] * columns


def biases(layer):
    """float32 [O] of a PackedLayer."""
    return np.ldexp(layer.bias.astype(np.float32), layer.bias_exponent)


def step_values(steps, bits):
    """float32 values of step bytes with `bits` bits of mantissa."""
    mantissa = 1 + np.bitwise_and(steps, 2**bits - 1).astype(np.float32) / 2**bits
    return np.ldexp(mantissa, (steps >> bits).astype(np.int32))


def visiting_order(column_steps):
    """The order int64 [K] in which the dependent quantiser visits the columns."""
    return np.argsort(255 - column_steps, kind='stable')


def quantisers(levels, order):
    """Which quantiser (0 or 1) made each level: uint8 [O, K], columns as in `levels`."""
    parity = (levels[:, order] & 1).astype(np.uint8)
    chosen = np.zeros_like(parity)
    for start in (0, 1):
        sums = np.bitwise_xor.accumulate(parity[:, start::2], axis=1)
        after = chosen[:, start + 1 :: 2]
        after[...] = sums[:, : after.shape[1]]
    found = np.empty_like(chosen)
    found[:, order] = chosen
    return found


def layer_shapes(config):
    """{name of a convolution: its weight's shape OIHW}, in the network's order."""
    shapes = architecture.parameter_shapes(config['version'], config['bypass'], config['class_num'])
    suffix = '.weight'
    return {name[: -len(suffix)]: shape for name, shape in shapes.items() if name.endswith(suffix)}


# --- writing --------------------------------------------------------------------------------------


def write_packed(path, packed):
    """Write a Packed to a file, which appears whole or not at all; returns its bytes' number."""
    content = pack(packed)
    with atomic_write(path) as file:
        file.write(content)
    return len(content)


def pack(packed):
    """The bytes of a Packed."""
    layers = list(packed.layers.values())
    packing, classes, extra = pack_levels(layers)
    streams = [*(deflate(side) for side in _side_bytes(layers)), *classes, deflate(extra)]
    config, names = dict(packed.config), packed.config.get('class_names')
    is_imagenet = names is not None and names == _imagenet_names()
    if is_imagenet:
        del config['class_names']
    header = {
        'config': config,
        'imagenet_names': is_imagenet,
        'row_bits': packed.row_bits,
        'column_bits': packed.column_bits,
        'layers': [[x.exponent, x.bias_exponent, int(x.dependent)] for x in layers],
        'packing': packing,
        'lengths': [len(stream) for stream in streams],
    }
    text = json.dumps(header, ensure_ascii=False, separators=(',', ':')).encode()
    head = deflate(text)
    rest = b''.join((LENGTH.pack(len(head)), head, *streams))
    return HEAD.pack(MAGIC, VERSION, hashlib.sha256(rest).digest()) + rest


def least_bytes(config: dict) -> int:
    """Bytes of the smallest file of a network: all its levels, steps and biases are zero bytes."""
    layers = {
        name: PackedLayer(
            np.zeros((shape[0], math.prod(shape[1:])), np.int16),
            *(np.zeros(count, np.uint8) for count in (shape[0], math.prod(shape[1:])) * 2),
            np.zeros(shape[0], np.int16),
            0,
            0,
            False,
        )
        for name, shape in layer_shapes(config).items()
    }
    return len(pack(Packed(layers, config, 2, 2)))


def _side_bytes(layers):
    """The bytes of each of SIDES."""
    split = [layer.bias.astype('<i2').view(np.uint8).reshape(-1, 2) for layer in layers]
    for side in SIDES[:4]:
        yield b''.join(getattr(layer, side).tobytes() for layer in layers)
    yield b''.join(pair[:, 0].tobytes() for pair in split)
    yield b''.join(pair[:, 1].tobytes() for pair in split)


def _imagenet_names():
    return read_class_names(DATA / 'synset_words.txt')


# --- reading --------------------------------------------------------------------------------------


def is_packed(path):
    """Whether a file says that it is a packed one, by its first bytes or its name."""
    return read_head(path, len(MAGIC)) == MAGIC or Path(path).suffix == '.sqz'


def load(path):
    """The Packed in a file. Raises UserError, which begins with the path, and OSError."""
    content = read_regular_file(path, MOST_BYTES)
    try:
        return unpack(content)
    except UserError as error:
        raise UserError(f'{path}: {printable(error)}') from None


def unpack(content):
    """The Packed in a file's bytes. Raises UserError."""
    rest = _checked(content)
    header, start = _read_header(rest)
    streams = []
    for length in header['lengths']:
        streams.append(rest[start : start + length])
        start += length
    shapes = layer_shapes(header['config'])
    rows = [shape[0] for shape in shapes.values()]
    columns = [math.prod(shape[1:]) for shape in shapes.values()]
    sides = {}
    for name, stream in zip(SIDES, streams):
        counts = columns if name.startswith('column') else rows
        whole = np.frombuffer(inflate(stream, sum(counts), name), np.uint8)
        sides[name] = np.split(whole, np.cumsum(counts)[:-1])
    levels = read_levels(sides, header['packing'], streams[len(SIDES) :])
    layers = {
        name: PackedLayer(
            level,
            *(sides[side][i] for side in SIDES[:4]),
            np.stack([sides[side][i] for side in SIDES[4:]], axis=1).view('<i2')[:, 0],
            *header['layers'][i][:2],
            bool(header['layers'][i][2]),
        )
        for i, (name, level) in enumerate(zip(shapes, levels))
    }
    return Packed(layers, header['config'], header['row_bits'], header['column_bits'])


def _checked(content):
    """What follows the checksum."""
    if len(content) < HEAD.size + LENGTH.size or not content.startswith(MAGIC):
        raise UserError('is no packed file, or is cut short')
    _, version, digest = HEAD.unpack_from(content)
    if version != VERSION:
        raise UserError(f'is version {version} of the packed format; this program reads {VERSION}')
    rest = content[HEAD.size :]
    if hashlib.sha256(rest).digest() != digest:
        raise UserError('is damaged: its checksum does not fit; copy or download it again')
    return rest


def _read_header(rest):
    """The header, known to fit what follows it, and where the streams begin in `rest`."""
    (size,) = LENGTH.unpack_from(rest)
    start = LENGTH.size + size
    text = inflate_at_most(rest[LENGTH.size : start], MOST_BYTES, 'the header')
    try:
        header = json.loads(text)
        json.dumps(header, ensure_ascii=False).encode()  # "\\ud800" is JSON, but no character
    except (ValueError, RecursionError) as error:
        raise UserError(f'its header is not JSON: {error}') from None
    _require(isinstance(header, dict) and set(header) == KEYS, 'has other keys than it must')
    config = header['config']
    _require(isinstance(config, dict), 'has no configuration')
    try:
        architecture.check_choice(config['version'], config['bypass'], config['class_num'])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f'its configuration: {error}') from None
    _require(config['class_num'] <= lists.MAX_CLASSES, f'has over {lists.MAX_CLASSES} classes')
    _check_numbers(header, len(layer_shapes(config)), len(rest) - start)
    _require(header['imagenet_names'] in (True, False), 'has no true or false imagenet_names')
    if header['imagenet_names']:
        config['class_names'] = _imagenet_names()
    return header, start


def _check_numbers(header, layers, size):
    for name in ('row_bits', 'column_bits'):
        _require(_whole(header[name], 2, 5), f'has {name} outside 2 to 5')
    rows, packing, lengths = header['layers'], header['packing'], header['lengths']
    _require(isinstance(rows, list) and len(rows) == layers, f'has not {layers} layers')
    for row in rows:
        sound = isinstance(row, list) and len(row) == 3 and _whole(row[2], 0, 1)
        _require(sound and all(_whole(x, -64, 64) for x in row), 'has a layer that is not sound')
    _require(isinstance(packing, list) and 1 <= len(packing) <= MOST_CLASSES, 'has no packing')
    _require(all(_whole(n, 1, 5) for n in packing), 'has a packing outside 1 to 5')
    _require(isinstance(lengths, list), 'has no lengths')
    _require(all(_whole(n, 0, MOST_BYTES) for n in lengths), 'has a length that is not sound')
    wanted = len(SIDES) + len(packing) + 1
    _require(len(lengths) == wanted, f'has {len(lengths)} streams, not {wanted}')
    _require(sum(lengths) == size, f'promises {sum(lengths)} bytes of streams, not {size}')


def _whole(value, least, most):
    return type(value) is int and least <= value <= most


def _require(true, complaint):
    if not true:
        raise UserError(f'its header {complaint}')
