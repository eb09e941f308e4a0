"""The levels of a packed file and its deflate streams, to and fro; packed.py has the format."""

import zlib

import numpy as np

from common.console import UserError

MOST_LEVEL = 32767
BASES = {1: 256, 2: 16, 3: 6, 4: 4, 5: 3}  # levels to a byte: symbols that each can be


# --- writing --------------------------------------------------------------------------------------


def pack_levels(layers):
    """(packing, deflated class streams, bytes of extra), each class packed as is shortest."""
    levels = np.concatenate([layer.levels.ravel() for layer in layers]).astype(np.int32)
    symbols = np.where(levels > 0, 2 * levels - 1, -2 * levels)
    classes = np.concatenate([level_classes(layer).ravel() for layer in layers])
    packing, streams, extras = [], [], []
    for number in range(int(classes.max()) + 1):
        found = symbols[classes == number]
        ways = [(*_pack_class(found, n), n) for n in BASES]
        content, extra, n = min(ways, key=lambda way: sum(map(_huffman_bytes, way[:2])))
        packing.append(n)
        streams.append(deflate(content))
        extras.append(extra)
    return packing, streams, b''.join(extras)


def _pack_class(symbols, n):
    base = BASES[n]
    extra = symbols[symbols >= base - 1] - (base - 1)
    padded = np.zeros(-(-len(symbols) // n) * n, np.int32)
    padded[: len(symbols)] = np.minimum(symbols, base - 1)
    digits = padded.reshape(-1, n) @ (base ** np.arange(n))
    return digits.astype(np.uint8).tobytes(), extra.astype('<u2').tobytes()


def level_classes(layer):
    """The class of each level: uint8 [O, K]."""
    return layer.row_classes[:, None] + layer.column_classes


def deflate(content):
    """Raw deflate, by whichever strategy makes it shortest."""
    strategies = (zlib.Z_HUFFMAN_ONLY, zlib.Z_DEFAULT_STRATEGY)
    return min((_deflate_by(strategy, content) for strategy in strategies), key=len)


def _deflate_by(strategy, content):
    packer = zlib.compressobj(6, zlib.DEFLATED, -15, 9, strategy)
    return packer.compress(content) + packer.flush()


def _huffman_bytes(content):
    return len(_deflate_by(zlib.Z_HUFFMAN_ONLY, content))


# --- reading --------------------------------------------------------------------------------------


def read_levels(sides, packing, streams):
    """The levels of each layer, int16 [O, K], from the class streams and `extra`."""
    pairs = list(zip(sides['row_classes'], sides['column_classes']))
    counts = np.zeros(2 * 256, np.int64)
    for rows, columns in pairs:
        both = np.outer(np.bincount(rows, minlength=256), np.bincount(columns, minlength=256))
        for row in np.flatnonzero(both.any(axis=1)):
            counts[row : row + 256] += both[row]
    if counts[len(packing) :].any():
        raise UserError(f'a level is of a class beyond the {len(packing)} that there are')
    symbols = [
        _unpack_class(stream, int(count), n, number)
        for number, (stream, count, n) in enumerate(zip(streams, counts, packing))
    ]
    _add_extra(symbols, packing, streams[-1])
    taken = [0] * len(packing)
    return [_layer_levels(rows, columns, symbols, taken) for rows, columns in pairs]


def _unpack_class(stream, count, n, number):
    """The symbols of one class: uint16 [count]."""
    base = BASES[n]
    packed = np.frombuffer(inflate(stream, -(-count // n), f'class {number}'), np.uint8)
    table = np.arange(256)[:, None] // base ** np.arange(n) % base
    if len(packed) and int(packed.max()) >= base**n:
        raise UserError(f'class {number} holds a byte that is no {n} levels')
    symbols = table.astype(np.uint16)[packed].ravel()
    if symbols[count:].any():
        raise UserError(f'class {number} holds more levels than it must')
    return symbols[:count]


def _add_extra(symbols, packing, stream):
    """Add `extra` to the largest symbols, in place."""
    places = [np.flatnonzero(found == BASES[n] - 1) for found, n in zip(symbols, packing)]
    extra = np.frombuffer(inflate(stream, 2 * sum(map(len, places)), 'extra'), '<u2')
    start = 0
    for found, place, n in zip(symbols, places, packing):
        more = extra[start : start + len(place)].astype(np.int64) + BASES[n] - 1
        if (more > 2 * MOST_LEVEL).any():
            raise UserError(f'a level is beyond {MOST_LEVEL}')
        found[place] = more
        start += len(place)


def _layer_levels(rows, columns, symbols, taken):
    """One layer's levels from the symbols of all; `taken` counts on."""
    classes = (rows[:, None] + columns).ravel()
    counts = np.bincount(classes, minlength=len(symbols))
    parts = []
    for number, count in enumerate(counts.tolist()):
        parts.append(symbols[number][taken[number] : taken[number] + count])
        taken[number] += count
    found = np.empty(len(classes), np.uint16)
    found[np.argsort(classes, kind='stable')] = np.concatenate(parts)
    half = (found >> 1).astype(np.int16)
    return np.where(found & 1, half + np.int16(1), -half).reshape(len(rows), len(columns))


def inflate(stream, size, what):
    """Exactly `size` bytes from a deflated stream that ends there."""
    content = inflate_at_most(stream, size, what)
    if len(content) != size:
        raise UserError(f'{what} has {len(content)} bytes, not {size}')
    return content


def inflate_at_most(stream, most, what):
    unpacker = zlib.decompressobj(-15)
    try:
        content = unpacker.decompress(stream, most + 1)
    except zlib.error as error:
        raise UserError(f'{what} cannot be inflated: {error}') from None
    if len(content) > most:
        raise UserError(f'{what} has more than {most} bytes')
    if not unpacker.eof or unpacker.unused_data:
        raise UserError(f'{what} does not end where it must')
    return content
