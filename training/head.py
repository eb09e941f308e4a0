"""A new conv10 for a network that is otherwise left as it is: logistic regression.

Without a ReLU behind it, conv10 and the mean over its map are one linear function of the mean of
fire9's map, since the mean commutes with a 1x1 convolution. So the best conv10 is the solution of
a convex problem in 512 numbers a picture, which costs inference and some seconds.

The numbers below were settled on eight data sets of 40 to 2,525 pictures (README, "Training").
"""

from typing import NamedTuple

import numpy as np

import reader
from common.console import Meter
from models.cpu_network import BATCH
from models.inference import Predictor, build_program
from network.preprocessing import preprocessing_of
from pictures.augmentation import Augmentation

DECAY = 2e-4  # of the weights, in the metric of `basis`; 1e-4 to 3e-4 differ by less than a point
RANDOM_VIEWS = 2  # of each picture, beside the centre and its mirror image
MOST_VIEWS = 40_000  # of all pictures; more make it slower, not better
OLD_CLASSES = 100  # a conv10 for fewer does not tell which directions matter
ITERATIONS = 100


class Views(NamedTuple):
    """features: float32 [N, 512], labels: int64 [N]."""

    features: np.ndarray
    labels: np.ndarray


def fit_head(tensors, config, pictures, options, load):
    """`tensors` with the conv10 that tells the classes of `pictures` best: float32 arrays.

    config['class_num'] is the new one; conv10's old weights show which directions matter. `load` is
    load_picture, or gives the same.
    """
    views = collect_views(tensors, config, pictures, options, load)
    weight, bias = fit(views, config['class_num'], tensors['conv10.weight'][:, :, 0, 0])
    weight = weight[:, :, None, None].astype(np.float32)
    return {**tensors, 'conv10.weight': weight, 'conv10.bias': bias.astype(np.float32)}


# --- what the network sees of the pictures --------------------------------------------------------


class MeanFeatures:
    """The mean of fire9's map for crops, and with `mirrored` for their mirror images, too."""

    def __init__(self, tensors, config, mirrored=False):
        self.preprocessing, self.pad = preprocessing_of(config), config['conv10_pad']
        self.predictor = Predictor(build_program(tensors, config, end_layer='fire9'))
        self.mirrored = mirrored

    def __call__(self, indices, crops, labels):
        if self.mirrored:
            crops = np.concatenate([crops, crops[:, :, ::-1]])
            labels = np.concatenate([labels, labels])
        maps = self.predictor(reader.network_input(crops, self.preprocessing))
        height, width = maps.shape[2:]
        places = (height + 2 * self.pad) * (width + 2 * self.pad)  # of conv10's map
        return maps.sum(axis=(2, 3)) / np.float32(places), labels


def collect_views(tensors, config, pictures, options, load):
    """Views of the pictures' centres, of these mirrored, and of random parts."""
    preprocessing, seed = preprocessing_of(config), options.seed
    indices = np.random.default_rng(seed).permutation(len(pictures))
    indices = np.sort(indices[: MOST_VIEWS // (2 + RANDOM_VIEWS)])
    sampling = reader.Sampling(
        1, seed, 'area', augmentation=Augmentation(), fast_decode=options.fast_decode
    )
    centre = reader.EvalTransform(preprocessing, sampling.short_side(preprocessing))
    passes = [(centre, MeanFeatures(tensors, config, mirrored=True))]
    for number in range(RANDOM_VIEWS):
        view = reader.TrainTransform(preprocessing, sampling, number)
        passes.append((view, MeanFeatures(tensors, config)))
    found = []
    with Meter('features for a new conv10', len(indices) * len(passes)) as meter:
        for view, work in passes:
            for made in reader.ordered_loader(
                pictures, view, BATCH, indices, options.num_workers, work, load
            ):
                found.append(made)
                meter.count(len(made[1]) // (2 if work.mirrored else 1))
    return Views(*(np.concatenate(column) for column in zip(*found)))


# --- the convex problem ---------------------------------------------------------------------------


def fit(views, class_num, old_weight):
    """(weight [C, 512], bias [C]) with the least mean loss, each class counting alike.

    The weights are found and decayed in the metric of `basis`, in which what the old conv10 told
    classes by is near, and what it did not look at far.
    """
    mean = views.features.mean(axis=0)
    base = basis(old_weight, views.features - mean)
    x = ((views.features - mean) @ base).astype(np.float32)
    counts = np.bincount(views.labels, minlength=class_num)
    importance = 1 / counts[views.labels]
    importance /= importance.sum()
    size = base.shape[1] * class_num

    def loss_and_gradient(flat):
        weight, bias = flat[:size].reshape(-1, class_num), flat[size:]
        loss, slope = _cross_entropy(x, weight, bias, views.labels, importance)
        loss += DECAY / 2 * np.square(weight).sum()
        down = (x.T @ slope).astype(np.float64) + DECAY * weight
        return loss, np.concatenate([down.ravel(), slope.sum(axis=0, dtype=np.float64)])

    flat = minimise(loss_and_gradient, np.zeros(size + class_num))
    weight = (base @ flat[:size].reshape(-1, class_num)).T
    return weight, flat[size:] - weight @ mean


def basis(old_weight, centred):
    """[512, k]: the old weight's right singular vectors times the roots of its singular values,
    scaled so that the centred features have a mean square length of 1 in it."""
    base = np.eye(centred.shape[1])
    if len(old_weight) >= OLD_CLASSES:
        _, values, vectors = np.linalg.svd(old_weight.astype(np.float64), full_matrices=False)
        base = vectors.T * np.sqrt(values)
    return base / np.sqrt(np.square(centred @ base).sum(axis=1).mean())


def _cross_entropy(x, weight, bias, labels, importance):
    """(weighted mean loss, its gradient by the logits, float32 [N, C])."""
    logits = x @ weight.astype(np.float32) + bias.astype(np.float32)
    logits -= logits.max(axis=1, keepdims=True)
    chances = np.exp(logits)
    sums = chances.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    losses = np.log(sums[:, 0]) - logits[rows, labels]
    chances /= sums
    chances[rows, labels] -= 1
    return float(importance @ losses), chances * importance[:, None].astype(np.float32)


def minimise(function, x, memory=10):
    """Where a smooth convex function is least, by L-BFGS (Nocedal and Wright, algorithm 7.5).

    `function(x)` returns (value, gradient); x is float64.
    """
    value, gradient = function(x)
    steps, first = [], np.abs(gradient).max()
    for _ in range(ITERATIONS):
        direction = -_two_loops(gradient, steps)
        length, slope = 1.0, gradient @ direction
        for _ in range(20):  # halve until the value falls enough (Armijo)
            new_value, new_gradient = function(x + length * direction)
            if new_value <= value + 1e-4 * length * slope:
                break
            length /= 2
        else:
            break  # as low as float32 can tell
        move, change = length * direction, new_gradient - gradient
        if move @ change > 1e-10 * np.linalg.norm(move) * np.linalg.norm(change):
            steps = [*steps[-memory + 1 :], (move, change)]
        x, value, gradient = x + move, new_value, new_gradient
        if np.abs(gradient).max() < 1e-5 * first:
            break
    return x


def _two_loops(gradient, steps):
    """The gradient times the inverse curvature that the last steps showed (algorithm 7.4)."""
    if not steps:
        return gradient / max(np.linalg.norm(gradient), 1e-12)
    result, factors = gradient.copy(), []
    for move, change in reversed(steps):
        factors.append(move @ result / (move @ change))
        result -= factors[-1] * change
    move, change = steps[-1]
    result *= move @ change / (change @ change)
    for (move, change), factor in zip(steps, reversed(factors)):
        result += move * (factor - change @ result / (move @ change))
    return result
