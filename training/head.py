"""A new conv10 for a network that is otherwise left as it is: logistic regression.

Without a ReLU behind it, conv10 and the mean over its map are one linear function of the mean of
fire9's map, since the mean commutes with a 1x1 convolution. So the best conv10 is the solution of
a convex problem in 512 numbers a picture, which costs inference and some seconds.

The numbers below were settled on eight data sets of 40 to 2,525 pictures (docs/results.md).
"""

from argparse import Namespace
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import reader
from common.console import Meter
from models.cpu_network import BATCH
from models.inference import Predictor, build_program
from network.preprocessing import preprocessing_of
from pictures.augmentation import Augmentation
from pictures.lists import PictureList

DECAY = 2e-4  # of the weights, in the metric of `basis`; 1e-4 to 3e-4 differ by less than a point
RANDOM_VIEWS = 2  # of each picture, beside the centre and its mirror image
MOST_PICTURES = 10_000  # more make it slower, not better
OLD_CLASSES = 100  # a conv10 for fewer does not tell which directions matter
ITERATIONS = 100


class Views(NamedTuple):
    """features: float32 [N, 512], labels: int64 [N]."""

    features: np.ndarray
    labels: np.ndarray


class Centres(NamedTuple):
    """What the network sees of the pictures' centres and of their mirror images: float32 [N, 512]
    twice; labels, and which of the pictures these are: int64 [N]."""

    plain: np.ndarray
    mirrored: np.ndarray
    labels: np.ndarray
    indices: np.ndarray

    def only(self, indices: np.ndarray) -> 'Centres':
        """Those of the pictures `indices`."""
        chosen = np.isin(self.indices, indices)
        return Centres(*(column[chosen] for column in self))

    def views(self, chosen: np.ndarray, mirror: bool) -> Views:
        """Those `chosen` (bool [N]), with their mirror images or without."""
        parts = [self.plain, self.mirrored] if mirror else [self.plain]
        features = np.concatenate([part[chosen] for part in parts])
        return Views(features, np.tile(self.labels[chosen], len(parts)))


def fit_head(
    tensors: dict,
    config: dict,
    pictures: PictureList,
    options: Namespace,
    load: Callable,
    centres: Centres,
) -> dict:
    """`tensors` with the conv10 that tells the classes of `pictures` best: float32 arrays.

    config['class_num'] is the new one; conv10's old weights show which directions matter. `load` is
    load_picture, or gives the same; `centres`: see centre_features.
    """
    mirror = bool(options.mirror)
    all_centres = centres.views(np.ones(len(centres.labels), bool), mirror)
    parts = all_centres, _random_views(tensors, config, pictures, options, load)
    views = Views(*map(np.concatenate, zip(*parts)))
    weight, bias = fit(views, config['class_num'], tensors['conv10.weight'][:, :, 0, 0])
    weight = weight[:, :, None, None].astype(np.float32)
    return {**tensors, 'conv10.weight': weight, 'conv10.bias': bias.astype(np.float32)}


# --- what the network sees of the pictures --------------------------------------------------------


class MeanFeatures:
    """The mean of fire9's map for crops, and with `mirrored` for their mirror images, too:
    [B, 512], or [B, 1024]."""

    def __init__(self, tensors, config, mirrored=False):
        self.preprocessing, self.pad = preprocessing_of(config), config['conv10_pad']
        self.predictor = Predictor(build_program(tensors, config, end_layer='fire9'))
        self.mirrored = mirrored

    def __call__(self, indices, crops, labels):
        features = self._mean(crops)
        if self.mirrored:
            features = np.concatenate([features, self._mean(crops[:, :, ::-1])], axis=1)
        return features, labels

    def _mean(self, crops):
        maps = self.predictor(reader.network_input(crops, self.preprocessing))
        height, width = maps.shape[2:]
        places = (height + 2 * self.pad) * (width + 2 * self.pad)  # of conv10's map
        return maps.sum(axis=(2, 3)) / np.float32(places)


def centre_features(
    tensors: dict,
    config: dict,
    pictures: PictureList,
    options: Namespace,
    load: Callable,
    most: int = MOST_PICTURES,
) -> Centres:
    """Centres of `pictures`, or of `most` of them by chance. Raises PictureError and UserError."""
    preprocessing = preprocessing_of(config)
    view = reader.EvalTransform(preprocessing, _sampling(options).short_side(preprocessing))
    work = MeanFeatures(tensors, config, mirrored=True)
    indices = chosen_indices(len(pictures), most, options.seed)
    both, labels = _collect(pictures, indices, [(view, work)], options, load)
    return Centres(*np.split(both, 2, axis=1), labels, indices)


def chosen_indices(count: int, most: int, seed: int) -> np.ndarray:
    """int64, ascending: `most` of `count`, of which those for a smaller `most` are a part."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


def _random_views(tensors, config, pictures, options, load):
    sampling, preprocessing = _sampling(options), preprocessing_of(config)
    work = MeanFeatures(tensors, config)
    views = [reader.TrainTransform(preprocessing, sampling, n) for n in range(RANDOM_VIEWS)]
    indices = chosen_indices(len(pictures), MOST_PICTURES, options.seed)
    return _collect(pictures, indices, [(view, work) for view in views], options, load)


def _sampling(options):
    how = Augmentation(mirror=0.5 * bool(options.mirror))
    return reader.Sampling(
        1, options.seed, 'area', augmentation=how, fast_decode=options.fast_decode
    )


def _collect(pictures, indices, passes, options, load):
    """(features, labels) of what each (view, MeanFeatures) of `passes` gives of the pictures."""
    made = []
    with Meter('features of the pictures', len(indices) * len(passes)) as meter:
        for view, work in passes:
            for batch in reader.ordered_loader(
                pictures, view, BATCH, indices, options.num_workers, work, load
            ):
                made.append(batch)
                meter.count(len(batch[1]))
    return Views(*(np.concatenate(column) for column in zip(*made)))


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
