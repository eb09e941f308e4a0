"""The authors' Deep Compression file of SqueezeNet v1.0 (`.net`), as they released it in 2016.

Little endian, without magic, names or shapes; the network is v1.0 with 1000 classes, conv10 padded
by 1 as in their prototxt. First 26 uint32, one a convolution in the network's order: n, its number
of entries. Then for each convolution, without gaps:

    codebook    float32 [256]   entry 0 is 0.0
    biases      float32 [O]
    codes       uint8 [n]       the entries' places in the codebook
    gaps        uint8 [(n + 1) // 2]    two numbers of 4 bits, the low half first

Entry i lies at flat place (gap_0 + 1) + ... + (gap_i + 1) - 1 of the weight in OIHW order; all
other weights are zero. A gap of 15 with code 0 stands for a stretch of 16 zeros.

Source: Han et al. 2016, "Deep Compression" (arXiv:1510.00149), and the file itself.
"""

import math
from pathlib import Path

import numpy as np

from common.console import UserError
from common.files import read_head, read_regular_file
from network import architecture

CODEBOOK = 256
LAYERS = 26
VERSION, BYPASS, CLASS_NUM, CONV10_PAD = '1.0', None, 1000, 1
MOST_BYTES = 16 << 20


def is_net(path):
    """Whether a file is such a one: by its name, or by the counts that give its length."""
    path = Path(path)
    return path.suffix == '.net' or _fits(read_head(path, 4 * LAYERS), path.stat().st_size)


def _fits(head, size):
    """Whether the counts in `head` make a file of `size` bytes."""
    if len(head) < 4 * LAYERS:
        return False
    counts = np.frombuffer(head, '<u4', LAYERS).tolist()
    shapes = _weight_shapes().values()
    return size == 4 * LAYERS + sum(_layer_bytes(n, shape[0]) for n, shape in zip(counts, shapes))


def read_net(path):
    """(tensors, config) of the file: {name: float32 array}, and what config.json would hold.

    Raises UserError, which begins with the path, and OSError.
    """
    content = read_regular_file(path, MOST_BYTES)
    if not _fits(content[: 4 * LAYERS], len(content)):
        raise UserError(
            f'{path}: is no Deep Compression file of SqueezeNet v1.0, or is cut short: the '
            f'counts at its start do not give its {len(content)} bytes'
        )
    counts = np.frombuffer(content, '<u4', LAYERS)
    tensors, start = {}, 4 * LAYERS
    for (name, shape), count in zip(_weight_shapes().items(), counts.tolist()):
        stop = start + _layer_bytes(count, shape[0])
        where = f'{path}: {name}'
        weight, bias = _read_layer(content[start:stop], count, shape, where)
        tensors[f'{name}.weight'], tensors[f'{name}.bias'] = weight, bias
        start = stop
    return tensors, {
        'version': VERSION,
        'bypass': BYPASS,
        'class_num': CLASS_NUM,
        'conv10_pad': CONV10_PAD,
    }


def _weight_shapes():
    shapes = architecture.parameter_shapes(VERSION, BYPASS, CLASS_NUM)
    return {
        name.rsplit('.', 1)[0]: shape for name, shape in shapes.items() if name.endswith('.weight')
    }


def _layer_bytes(count, filters):
    return 4 * CODEBOOK + 4 * filters + count + (count + 1) // 2


def _read_layer(content, count, shape, where):
    """(weight float32 OIHW, bias float32 [O])."""
    codebook = np.frombuffer(content, '<f4', CODEBOOK)
    bias = np.frombuffer(content, '<f4', shape[0], 4 * CODEBOOK)
    start = 4 * (CODEBOOK + shape[0])
    codes = np.frombuffer(content, np.uint8, count, start)
    pairs = np.frombuffer(content, np.uint8, offset=start + count)
    gaps = np.stack([pairs & 15, pairs >> 4], axis=1).ravel()
    if count % 2 and gaps[-1]:
        raise UserError(f'{where} has a gap more than it has entries')
    if codebook[0] != 0:
        raise UserError(f'{where} has a codebook whose entry 0 is {codebook[0]:g}, not 0')
    places = np.cumsum(gaps[:count].astype(np.int64) + 1) - 1
    size = math.prod(shape)
    if count and places[-1] >= size:
        raise UserError(f'{where} has an entry at place {places[-1]}; there are {size}')
    weight = np.zeros(size, np.float32)
    weight[places] = codebook[codes]
    return weight.reshape(shape), bias.astype(np.float32)
