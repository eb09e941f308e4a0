"""One update as Caffe's solver makes it, and what is trained by it."""

import math
from typing import NamedTuple

import paddle
import paddle.nn.functional as F

import reader
from common.console import UserError
from models.inference import Predictor, build_program
from network import architecture
from network.preprocessing import preprocessing_of
from training import processes
from training.precision import Precision


class FreezeError(UserError):
    """The layer to freeze is none."""


class Step(NamedTuple):
    """What one update reports: mean loss and top-1 over its pictures, and who asked to stop."""

    loss: float
    top1: float
    stop: bool


class SharedDropout(paddle.nn.Layer):
    """Dropout of this process's rows in a batch that `world` processes share.

    Every process draws the mask of the whole batch, so that N of them drop what one would.
    """

    def __init__(self, p, rank=0, world=1):
        super().__init__()
        self.p, self.rank, self.world = p, rank, world

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        rows = x.shape[0]
        whole = paddle.rand([rows * self.world, *x.shape[1:]])
        kept = whole[self.rank * rows : (self.rank + 1) * rows] >= self.p
        return x * (kept.astype(x.dtype) / (1 - self.p))


def train_step(network, solver, batches, rate, stop=False, precision=None, after=None):
    """One update from `batches`, the (images, labels) pairs of one iteration; returns its Step.

    Gradients add up over the batches and are divided by their number (Caffe: iter_size), averaged
    over the processes, then moved by `solver` at `rate`. images: float32 [B, 3, 227, 227]; labels:
    int64 [B]. With `after`, images are that layer's output, [B, C, h, w], of what is frozen. Raises
    FloatingPointError, and changes nothing, where the loss or a gradient is NaN or infinite.
    """
    network.train()
    precision = precision or Precision()
    trained = solver.parameters
    totals = paddle.to_tensor([0.0, 0.0, float(stop) * len(batches)])
    for images, labels in batches:
        labels = paddle.to_tensor(labels)
        with precision.autocast():
            x = paddle.to_tensor(images)
            logits = network.classify(x, after) if after else network(x)
        loss = F.cross_entropy(logits.astype('float32'), labels)
        (loss * precision.scale).backward()
        top1 = (logits.argmax(axis=1) == labels).astype('float32').mean()
        totals += paddle.stack([loss.detach(), top1, paddle.zeros([])])
    flat = paddle.concat([value.grad.flatten() for value in trained.values()])
    for value in trained.values():
        value.clear_gradient()
    vector = paddle.concat([flat / precision.scale, totals]) / len(batches)
    vector = processes.mean_over_group(vector)
    if precision.accept(bool(paddle.isfinite(vector).all())):
        pieces = vector[:-3].split([value.size for value in trained.values()])
        gradients = zip(
            trained, (piece.reshape(value.shape) for piece, value in zip(pieces, trained.values()))
        )
        solver.step(dict(gradients), rate)
    loss, top1, stop = vector[-3:].tolist()
    return Step(loss, top1, stop > 0)


def trained_parameters(network, freeze):
    """{name: Parameter} of what comes after layer `freeze`; the rest stops needing gradients."""
    names = [row.name for row in network.stages]
    frozen = set(names[: names.index(freeze) + 1] if freeze else [])
    trained = {}
    for name, parameter in network.named_parameters():
        parameter.stop_gradient = name.split('.')[0] in frozen
        if not parameter.stop_gradient:
            trained[name] = parameter
    return trained


class FrozenFeatures:
    """What the readers compute of the frozen layers: (indices, crops, labels) -> output, labels."""

    def __init__(self, tensors, config, freeze):
        self.preprocessing = preprocessing_of(config)
        self.predictor = Predictor(build_program(tensors, config, upto=freeze))
        shapes = architecture.output_shapes(config['version'], self.preprocessing.crop)
        self.picture_bytes = 4 * math.prod(shapes[freeze])

    def __call__(self, indices, crops, labels):
        return self.predictor(reader.network_input(crops, self.preprocessing)), labels


def check_freeze(freeze, version):
    """Raises FreezeError for a layer that is none, or after which there is nothing to train."""
    layers = [row.name for row in architecture.stages(version)][:-1]
    if freeze and freeze not in layers:
        raise FreezeError(f'--freeze {freeze}: choose one of {", ".join(layers)}')
