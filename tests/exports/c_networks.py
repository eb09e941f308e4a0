"""Small networks in integers, for the tests of the C file."""

import functools

import numpy as np

from exports import int8, integer_network
from network.config import make_config
from network.numpy_network import NumpyNetwork
from network.preprocessing import Preprocessing, preprocessing_of
from reader import network_input

# version, bypass, conv10_pad, conv10_relu, class_num, crop, scale, channel order of the network
VARIANTS = [
    ('1.1', None, 0, True, 10, 64, 1.0, 'BGR'),
    ('1.1', None, 1, False, 3, 17, 0.5, 'RGB'),
    ('1.1', 'simple', 1, True, 5, 33, 1.0, 'BGR'),
    ('1.0', 'complex', 1, False, 7, 34, -1.0, 'BGR'),
    ('1.0', None, 0, True, 1, 49, 1.0, 'BGR'),
]


def builder(seeded_tensors, pixels):
    """Function (variant, pictures' order) -> (IntegerNetwork, float logits, uint8 BGR crops)."""

    @functools.cache
    def calibrated_variant(variant):
        version, bypass, pad, relu, class_num, crop, scale, order = variant
        wanted = Preprocessing(crop=crop, scale=scale, channel_order=order)
        config = make_config(
            version, bypass, class_num, conv10_pad=pad, conv10_relu=relu, preprocessing=wanted
        )
        crops = np.ascontiguousarray(pixels[:, 60 : 60 + crop, 60 : 60 + crop]).astype(np.uint8)
        return *calibrated(seeded_tensors(version, bypass, class_num), config, crops), crops

    def build(variant, pictures_order='RGB'):
        parts, exact, crops = calibrated_variant(variant)
        return integer_network.build(*parts, pictures_order), exact, crops

    return build


def calibrated(tensors, config, crops):
    """(what integer_network.build needs but for the pictures' order, float logits of the crops).

    Weights are rounded to the nearest level; export.py does it better, and takes seconds.
    """
    feeds = [network_input(crops, preprocessing_of(config))]
    rounded, steps = dict(tensors), {}
    for name in tensors:
        if name.endswith('.weight'):
            step = np.abs(tensors[name]).max(axis=(1, 2, 3), keepdims=True) / 127
            rounded[name] = (np.round(tensors[name] / step) * step).astype(np.float32)
            steps[name] = step.ravel()
    ranges = int8.blob_ranges(rounded, config, False, feeds)
    parts = rounded, config, steps, ranges, max(map(abs, ranges['logits']))
    return parts, NumpyNetwork(tensors, config)(feeds[0])
