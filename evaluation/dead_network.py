"""Whether a network says anything: a forward pass in NumPy, of two patterns, without Paddle."""

import numpy as np

from network.numpy_network import NumpyNetwork
from network.preprocessing import preprocessing_of

SIZE = 99  # pixels; a network that answers to none of these is taken for dead


def dead_network_warning(tensors, config):
    """One line on what is wrong with a network that answers the same to everything; else None.

    All weights of a layer may be zero, or its ReLUs may let nothing through.
    """
    zero = [name for name, value in tensors.items() if name.endswith('weight') and not value.any()]
    because = f': {zero[0]} is all zeros' if zero else ''
    logits = NumpyNetwork(tensors, config)(_patterns(preprocessing_of(config)))
    if config['class_num'] > 1 and np.ptp(logits, axis=1).max() == 0:
        return f'this network is dead, all classes score the same{because}'
    if (logits[0] == logits[1]).all():
        return f'this network is dead, all pictures score the same{because}'
    return f'this network is damaged{because}' if zero else None


def _patterns(preprocessing):
    """Two pictures of random spots, as the network takes them: float32 [2, 3, SIZE, SIZE]."""
    spots = np.random.default_rng(0).integers(0, 256, (2, 3, SIZE // 9, SIZE // 9))
    pixels = spots.repeat(9, axis=2).repeat(9, axis=3).astype(np.float32)
    mean = np.array(preprocessing.mean, np.float32).reshape(3, 1, 1)
    return (pixels - mean) * np.float32(preprocessing.scale)
