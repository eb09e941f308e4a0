"""Whether a network says anything: a forward pass in NumPy, of two patterns, without Paddle."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from network import architecture
from network.preprocessing import preprocessing_of

SIZE = 99  # pixels; a network that answers to none of these is taken for dead


def death(tensors, config):
    """One line on what is wrong with a network that answers the same to everything; else None.

    All weights of a layer may be zero, or its ReLUs may let nothing through.
    """
    zero = [name for name, value in tensors.items() if name.endswith('weight') and not value.any()]
    because = f': {zero[0]} is all zeros' if zero else ''
    logits = forward(_patterns(preprocessing_of(config)), tensors, config)
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


def forward(x, tensors, config):
    """Logits [N, class_num] of float32 [N, 3, H, W], plainly computed."""

    def conv(name, x, stride=1, pad=0, relu=True):
        weight, bias = tensors[f'{name}.weight'], tensors[f'{name}.bias']
        x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        windows = sliding_window_view(x, weight.shape[2:], (2, 3))[:, :, ::stride, ::stride]
        x = np.tensordot(windows, weight, ((1, 4, 5), (1, 2, 3))) + bias
        return np.maximum(x, 0 if relu else -np.inf).transpose(0, 3, 1, 2)

    for row in architecture.stages(config['version'], config['bypass'], config['class_num']):
        if isinstance(row, architecture.MaxPool):
            x = _max_pool(x)
        elif isinstance(row, architecture.Fire):
            squeezed = conv(f'{row.name}.squeeze1x1', x)
            kernels = (('1x1', 0), ('3x3', 1))
            parts = [conv(f'{row.name}.expand{k}', squeezed, pad=pad) for k, pad in kernels]
            out = np.concatenate(parts, axis=1)
            if row.bypass == 'complex':
                x = conv(f'{row.name}.bypass1x1', x, relu=False)
            x = out + x if row.bypass else out
        elif row.name == 'conv1':
            x = conv('conv1', x, row.stride)
        else:
            x = conv('conv10', x, pad=config['conv10_pad'], relu=config['conv10_relu'])
    return x.mean(axis=(2, 3))


def _max_pool(x):
    """3x3, stride 2; the size is rounded up."""
    grow = [(0, -(side - 3) % 2) for side in x.shape[2:]]
    x = np.pad(x, ((0, 0), (0, 0), *grow), constant_values=-np.inf)
    return sliding_window_view(x, (3, 3), (2, 3))[:, :, ::2, ::2].max(axis=(4, 5))
