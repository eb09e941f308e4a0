"""The network on the calibration crops, one convolution after another, in numpy.

The float network and the compressed one go side by side: what a convolution must give is the float
network's output, what it gets is what the compressed layers before it make. Activations are float32
[N, H, W, C], as in network/numpy_network.py.
"""

from typing import NamedTuple

import numpy as np

from network import architecture
from network.numpy_network import columns, convolutions, convolve, join, max_pool

CHUNK = 16  # crops whose columns are in memory at once
MOST_PLACES = 120_000  # of a layer, that its moments are taken from


class Moments(NamedTuple):
    """Weighted second moments of a convolution's inputs, a constant 1 behind them.

    inputs: float64 [K + 1, K + 1]; outputs: [O, K + 1], of the wanted outputs with the inputs.
    """

    inputs: np.ndarray
    outputs: np.ndarray


def walk(tensors, config, images, choose):
    """Call choose(conv, wanted, given) for each convolution, which returns its (weight, bias).

    `images` [N, 3, H, W] is what the network takes; `wanted` and `given` are the convolution's
    inputs in the float network (`tensors`) and behind what was chosen so far: one and the same
    array where these are the same.
    """
    x = y = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    convs = convolutions(config)

    def both(name, x, y):
        known = tensors[f'{name}.weight'], tensors[f'{name}.bias']
        chosen = choose(convs[name], x, y)
        if name == 'conv10':
            return None, None
        wanted = _convolve(x, known, convs[name])
        if y is x and chosen[0] is known[0]:
            return wanted, wanted
        return wanted, _convolve(y, chosen, convs[name])

    for row in architecture.stages(config['version'], config['bypass'], config['class_num']):
        if isinstance(row, architecture.Fire):
            x, y = _fire(row, x, y, both)
        elif isinstance(row, architecture.Conv):
            x, y = both(row.name, x, y)
        elif row.name != 'pool1':  # which is done with conv1
            x, y = _apply(max_pool, x, y)


def _fire(row, x, y, both):
    squeezed = both(f'{row.name}.squeeze1x1', x, y)
    narrow = both(f'{row.name}.expand1x1', *squeezed)
    wide = both(f'{row.name}.expand3x3', *squeezed)
    beside = both(f'{row.name}.bypass1x1', x, y) if row.bypass == 'complex' else (x, y)
    same = narrow[0] is narrow[1] and wide[0] is wide[1]
    found = [join(row, narrow[i], wide[i], beside[i]) for i in range(1 if same else 2)]
    return found * 2 if same else found


def _apply(function, x, y):
    made = function(x)
    return made, made if y is x else function(y)


def _convolve(x, known, conv):
    """The convolution of all crops; conv1's output would be too large for the memory, and is pooled
    at once."""
    parts = []
    for start in range(0, len(x), CHUNK):
        made = convolve(x[start : start + CHUNK], *known, conv)
        parts.append(max_pool(made) if conv.name == 'conv1' else made)
    return np.concatenate(parts)


def moments(conv, wanted, given, known, places, random):
    """The Moments of a convolution, at places taken by `random`.

    `wanted` and `given` as in walk; `known` is the float (weight, bias); `places` [N, H', W'] says
    how much each place of the output counts.
    """
    count, size = len(places), places[0].size
    taken = min(size, -(-MOST_PLACES // count))
    sums = 0, 0
    for start in range(0, count, CHUNK):
        part = slice(start, start + CHUNK)
        chosen = np.stack([random.permutation(size)[:taken] for _ in places[part]])
        weights = np.take_along_axis(places[part].reshape(-1, size), chosen, axis=1).ravel()
        seen = _sample(given[part], conv, chosen)
        hoped = seen if wanted is given else _sample(wanted[part], conv, chosen)
        sums = _added(sums, seen, _outputs(hoped, known), weights)
    return _mean(sums)


def pooled_moments(conv, wanted, given, known, places):
    """The Moments of what a convolution gives on the average of its places.

    This is what the logits are made of: an error that all places share does not average out.
    """
    sums = 0, 0
    for start in range(0, len(places), CHUNK):
        part = slice(start, start + CHUNK)
        count, size = places[part].shape[0], places[0].size
        share = places[part].reshape(count, 1, size)
        weights = share.sum(axis=2).ravel()
        share = share / share.sum(axis=2, keepdims=True)
        everywhere = np.tile(np.arange(size), (count, 1))

        def mean(x, part=part, share=share, everywhere=everywhere):
            return (share @ _sample(x[part], conv, everywhere).reshape(*everywhere.shape, -1))[:, 0]

        seen = mean(given)
        hoped = seen if wanted is given else mean(wanted)
        sums = _added(sums, seen, _outputs(hoped, known), weights)
    return _mean(sums)


def _outputs(inputs, known):
    weight, bias = known
    return inputs[:, :-1] @ weight.reshape(len(bias), -1).T + bias


def _added(sums, seen, hoped, weights):
    weighted = seen * weights[:, None]
    return sums[0] + weighted.T @ seen, sums[1] + hoped.T @ weighted


def _mean(sums):
    total = sums[0][-1, -1]
    return Moments(*((found / total).astype(np.float64) for found in sums))


def _sample(x, conv, chosen):
    """The columns, in OIHW's order, and a 1 behind them, at the `chosen` places [n, taken]."""
    seen = columns(x, conv)
    seen = seen.reshape(len(x), -1, seen.shape[3])
    found = np.take_along_axis(seen, chosen[:, :, None], axis=1)
    found = found.reshape(-1, conv.kernel**2, x.shape[3]).transpose(0, 2, 1)
    found = found.reshape(len(found), -1)
    return np.concatenate([found, np.ones((len(found), 1), np.float32)], axis=1)
