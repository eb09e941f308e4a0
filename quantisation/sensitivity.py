"""What the output of a network feels of each weight, on pictures.

The output feels a change of the logits z by the Kullback-Leibler divergence, to second order
1/2 dz^T (diag(p) - p p^T) dz with the float network's probabilities p. A random root of this matrix
is sent back through the network, one for each crop; the gradients G of a convolution's row, summed
over all places before they are squared, give the row's Fisher matrix E[G G^T] (Amari 1998).
"""

from typing import NamedTuple

import numpy as np
import paddle

from models import model_io
from network.numpy_network import columns, convolutions

BATCH = 8  # crops at a time
HEATED = 200  # crops that the temperature is chosen on
UNSURE = 0.1  # mean probability that the likeliest class leaves to the others
MOST_HEAT = 1e6
LEAST = 1e-12  # of all that is felt: a dead layer is felt a little too


class Sensitivity(NamedTuple):
    """Of one convolution, constant input 1 behind its K inputs in OIHW's order.

    fisher: float64 [K + 1, K + 1], the sum of the rows' Fisher matrices, mean of the crops.
    rows: float64 [O], each row's share of it; together 1.
    places: float32 [N, H, W], squared gradients at the output, summed over the filters.
    """

    fisher: np.ndarray
    rows: np.ndarray
    places: np.ndarray


def sensitivities(tensors, config, images, seed, meter):
    """{name: Sensitivity} of every convolution, for float32 images [N, 3, H, W]."""
    network = model_io.build_network(tensors, config)
    network.eval()
    for name, parameter in network.named_parameters():  # one is enough for the way back to it
        parameter.stop_gradient = name != 'conv1.bias'
    convs, layers, seen = convolutions(config), dict(network.named_sublayers()), {}
    heat = _heat(network, images[:HEATED])
    hooks = [layers[name].register_forward_post_hook(_keep(seen, name)) for name in convs]
    random = np.random.default_rng(seed)
    sums = {name: [0, 0, []] for name in convs}
    for start in range(0, len(images), BATCH):
        logits = network(paddle.to_tensor(images[start : start + BATCH]))
        logits.backward(paddle.to_tensor(_fisher_root(logits.numpy() / heat, random)))
        for name, conv in convs.items():
            _add(sums[name], conv, *seen.pop(name))
        meter.count(len(logits))
    for hook in hooks:
        hook.remove()
    return {
        name: Sensitivity(
            fisher / len(images) + LEAST * np.eye(len(fisher)),
            (rows + LEAST) / (rows + LEAST).sum(),
            np.concatenate(places) + LEAST,
        )
        for name, (fisher, rows, places) in sums.items()
    }


def _heat(network, images):
    """The lowest temperature, of at least 1, at which the network is unsure enough to feel.

    A network of few classes that is sure of every picture has probabilities of 1, and a Fisher
    matrix of rounding errors.
    """
    with paddle.no_grad():
        parts = [network(paddle.to_tensor(images[i : i + BATCH])).numpy()
                 for i in range(0, len(images), BATCH)]  # fmt: skip
    logits, heat = np.concatenate(parts), 1.0
    if logits.shape[1] == 1:
        return heat
    while (1 - _softmax(logits / heat).max(axis=1)).mean() < UNSURE and heat < MOST_HEAT:
        heat *= 1.25
    return heat


def _softmax(logits):
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def _keep(seen, name):
    def hook(_, inputs, output):
        output.retain_grads()
        seen[name] = inputs[0], output

    return hook


def _add(sums, conv, given, output):
    """Add a batch's part to [fisher, rows, places]."""
    slope = output.grad.numpy()
    if conv.relu:
        slope = slope * (output.numpy() > 0)
    count, filters = slope.shape[:2]
    inputs = columns(np.ascontiguousarray(given.numpy().transpose(0, 2, 3, 1)), conv)
    inputs = inputs.reshape(count, -1, inputs.shape[3])
    flat = slope.reshape(count, filters, -1)
    found = (flat @ inputs).reshape(count * filters, conv.kernel**2, -1)
    found = found.transpose(0, 2, 1).reshape(count * filters, -1)
    found = np.concatenate([found, flat.sum(axis=2).reshape(-1, 1)], axis=1)
    sums[0] = sums[0] + (found.T @ found).astype(np.float64)
    sums[1] = sums[1] + (found[:, :-1] ** 2).sum(axis=1).reshape(count, filters).sum(axis=0)
    sums[2].append((slope**2).sum(axis=1))


def _fisher_root(logits, random):
    """Vectors v [N, C] of random signs whose v v^T are diag(p) - p p^T on the average."""
    p = _softmax(logits)
    if logits.shape[1] == 1:  # of one class the probability is 1, whatever its logit is
        return random.choice(np.array([-1, 1], np.float32), logits.shape)
    signs = np.sqrt(p) * random.choice(np.array([-1, 1], np.float32), logits.shape)
    return (signs - p * signs.sum(axis=1, keepdims=True)).astype(np.float32)
