"""What a packed file's bytes go to, layer by layer."""

from typing import NamedTuple

import numpy as np

from models.formats.packed_streams import level_classes


class Row(NamedTuple):
    """A layer, or what is no layer's: weights, bits a weight, share of zeros, bytes."""

    name: str
    weights: int
    bits: float
    zeros: float
    bytes: int


def rows(packed, size):
    """A Row of each layer of a Packed in a file of `size` bytes, and one of what all share.

    Layers share streams: a level counts by its frequency in its class, a step or bias as a byte
    of its stream does. The bytes add up to `size`.
    """
    layers = list(packed.layers.values())
    bits = _level_bits(layers) + _side_bits(layers)
    whole = np.floor(bits / 8 * min(1.0, size / (bits.sum() / 8))).astype(int)
    found = [
        Row(name, layer.levels.size, 8 * count / layer.levels.size,
            float((layer.levels == 0).mean()), int(count))
        for (name, layer), count in zip(packed.layers.items(), whole)
    ]  # fmt: skip
    return [*found, Row('header, code tables', 0, 0.0, 0.0, size - int(whole.sum()))]


def _level_bits(layers):
    """Bits of each layer's levels: -log2 of the frequency in the class."""
    pairs = [
        (
            level_classes(layer).astype(np.int64) << 16 | layer.levels.astype(np.int64) + 32768
        ).ravel()
        for layer in layers
    ]
    kinds, place, counts = np.unique(np.concatenate(pairs), return_inverse=True, return_counts=True)
    totals = np.bincount(kinds >> 16, counts)
    each = -np.log2(counts / totals[kinds >> 16])[place]
    ends = np.cumsum([len(pair) for pair in pairs])[:-1]
    return np.array([part.sum() for part in np.split(each, ends)])


def _side_bits(layers):
    """Bits of each layer's steps, classes and biases, likewise."""
    found = np.zeros(len(layers))
    split = [layer.bias.astype('<i2').view(np.uint8).reshape(-1, 2).T for layer in layers]
    for side in zip(*([*layer[1:5], *pair] for layer, pair in zip(layers, split))):
        counts = np.bincount(np.concatenate(side), minlength=256)
        cost = -np.log2(np.maximum(counts, 1) / counts.sum())
        found += [cost[part].sum() for part in side]
    return found
