"""Packed and Deep Compression files that are meant to break their readers, checksums that fit among
them. CRAFTED and MUTATED as in hostile_caffe.py.
"""

import functools
import hashlib
import json
import zlib

import numpy as np
from mutations import NESTED, mutate_bytes, mutate_json

from models.formats import packed
from network import architecture


def deflated(content):
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def sealed(rest):
    """A packed file of these bytes whose checksum fits."""
    return packed.HEAD.pack(packed.MAGIC, packed.VERSION, hashlib.sha256(rest).digest()) + rest


def joined(header, streams):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    head = deflated(text)
    return sealed(packed.LENGTH.pack(len(head)) + head + streams)


@functools.lru_cache(None)
def sound():
    """(header, streams) of a network of two classes with levels of every kind."""
    rng = np.random.default_rng(0)
    config = {'version': '1.1', 'bypass': None, 'class_num': 2, 'conv10_pad': 0}
    layers = {}
    for name, shape in packed.layer_shapes(config).items():
        rows, columns = shape[0], int(np.prod(shape[1:]))
        layers[name] = packed.PackedLayer(
            (rng.standard_normal((rows, columns)) ** 3 * 4).astype(np.int16),
            *(rng.integers(0, 90, n).astype(np.uint8) for n in (rows, columns)),
            *(rng.integers(0, 3, n).astype(np.uint8) for n in (rows, columns)),
            rng.integers(-9, 9, rows).astype(np.int16), -30, -9, True,
        )  # fmt: skip
    rest = packed.pack(packed.Packed(layers, config, 2, 3))[packed.HEAD.size :]
    (size,) = packed.LENGTH.unpack_from(rest)
    return json.loads(zlib.decompress(rest[4 : 4 + size], -15)), rest[4 + size :]


def _sqz(rng):
    header, streams = sound()
    kind = rng.randrange(4)
    if kind == 0:
        return {'net.sqz': mutate_bytes(rng, joined(header, streams))}
    if kind == 1:
        return {'net.sqz': joined(mutate_json(rng, header), streams)}
    if kind == 2:
        return {'net.sqz': joined(header, mutate_bytes(rng, streams))}
    parts, start = [], 0
    for length in header['lengths']:
        parts.append(streams[start : start + length])
        start += length
    for _ in range(rng.choice((1, 1, 3))):  # streams of other bytes, whose lengths fit
        i = rng.randrange(len(parts))
        content = mutate_bytes(rng, zlib.decompress(parts[i], -15)) if parts[i] else b''
        parts[i] = deflated(content)
    header = {**header, 'lengths': [len(part) for part in parts]}
    return {'net.sqz': joined(header, b''.join(parts))}


def _crafted_sqz():
    header, streams = sound()
    bomb = deflated(bytes(200 << 20))
    giant = {**header, 'config': {**header['config'], 'class_num': 100_000}}
    bombs = {**giant, 'lengths': [len(bomb)] * len(header['lengths'])}
    contents = [
        joined(header, streams),
        *(joined(text, b'') for text in (b'', b'[' * 100_000, b'9' * 100_000, b'\xff', b'null')),
        *(joined({**header, name: NESTED}, streams) for name in header),
        *(joined({**header, name: 2**70}, streams) for name in header),
        joined({**header, 'config': {**header['config'], 'class_names': ['\ud800', 'b']}}, streams),
        joined({**header, 'imagenet_names': True}, streams),
        joined({**header, 'config': {**header['config'], 'preprocessing': NESTED}}, streams),
        joined(bombs, bomb * len(header['lengths'])),
        sealed(packed.LENGTH.pack(len(bomb)) + bomb),
        sealed(packed.LENGTH.pack(2**32 - 1)),
        sealed(b''),
        b'',
        packed.MAGIC,
    ]
    return [{'net.sqz': content} for content in contents]


# --- Deep Compression -----------------------------------------------------------------------------


@functools.lru_cache(None)
def sound_net():
    """A whole file of the authors' format: n entries a layer, each with gap 1."""
    counts, parts = [], []
    codebook = np.linspace(0, 1, 256, dtype='<f4').tobytes()
    for name, shape in architecture.parameter_shapes('1.0').items():
        if name.endswith('.weight'):
            counts.append(501)
            parts += [codebook, bytes(4 * shape[0]), b'\7' * 501, b'\x11' * 250 + b'\1']
    return np.array(counts, '<u4').tobytes() + b''.join(parts)


def _net(rng):
    content = bytearray(sound_net())
    if rng.random() < 0.5:
        return {'old.net': mutate_bytes(rng, bytes(content))}
    for _ in range(rng.choice((1, 5, 50))):  # the length kept, so that more than it is read
        content[rng.randrange(104, len(content))] = rng.randrange(256)
    return {'old.net': bytes(content)}


def _crafted_net():
    content = sound_net()
    far = content.replace(b'\x11' * 250, b'\xff' * 250)
    counts = [b'\xff' * 104, bytes(104), b'\xff\xff\xff\x7f' * 26]
    contents = [content, far, b'', content[:104], *counts, *(c + content[104:] for c in counts)]
    return [{'old.net': content} for content in contents]


CRAFTED = {'sqz': _crafted_sqz, 'net': _crafted_net}
MUTATED = {'sqz': _sqz, 'net': _net}
