"""One update as Caffe's solver makes it, and what is trained by it."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple, Optional

import paddle

import reader
from common.console import UserError
from models.inference import Predictor, build_program
from network import architecture
from network.preprocessing import preprocessing_of
from training import distributed
from training.precision import Precision

LARGEST_LOSS = 87.33654  # -log of the smallest float (Caffe: softmax_loss_layer.cpp, FLT_MIN)


class Step(NamedTuple):
    """What one update reports: mean loss and top-1 over its pictures, and who asked to stop."""

    loss: float
    top1: float
    stop: bool


@dataclass
class Learner:
    """A network in training, and what counts as its loss.

    `after` names the layer whose output it is fed, if not pictures. `class_weights`: float32
    Tensor [C], what a picture of each class counts, or None.
    """

    network: paddle.nn.Layer
    precision: Precision = field(default_factory=Precision)
    after: Optional[str] = None
    class_weights: Optional[paddle.Tensor] = None

    def losses(self, images, labels):
        """(loss, top-1) of each picture, float32 [B]: images [B, 3, h, w] or [B, C, h, w], or
        what paddle.to_tensor takes as such; labels int64 [B]."""
        with self.precision.autocast():
            x = paddle.to_tensor(images)
            logits = self.network.classify(x, self.after) if self.after else self.network(x)
        logits, labels = logits.astype('float32'), paddle.to_tensor(labels)
        # Not F.cross_entropy, which cuts at 64 where Caffe cuts at LARGEST_LOSS.
        chosen = paddle.take_along_axis(logits, labels.unsqueeze(1), axis=1).squeeze(1)
        losses = paddle.logsumexp(logits, axis=1) - chosen
        if self.class_weights is not None:
            losses = losses * self.class_weights[labels]
        return losses, (logits.argmax(axis=1) == labels).astype('float32')


def train_step(learner, solver, batches, rate, iteration=0, stop=False):
    """One update from `batches`, the (images, labels) pairs of one iteration; returns its Step.

    Gradients add up over the batches and are divided by their number (Caffe: iter_size), averaged
    over the processes, then moved by `solver` at `rate`. Raises FloatingPointError, and changes
    nothing, where the loss or a gradient is NaN or infinite.
    """
    gradient, report = accumulate(learner, solver.flat, batches)
    gradient = distributed.mean_over_group(gradient)
    report = distributed.mean_over_group(paddle.concat([report, paddle.to_tensor([float(stop)])]))
    finite = paddle.isfinite(gradient).all().astype('float32').reshape([1])
    loss, top1, stop, finite = paddle.concat([report, finite]).tolist()  # the one look at them
    if learner.precision.accept(finite > 0 and math.isfinite(loss)):
        solver.step(gradient, rate, iteration)
    return Step(loss, top1, stop > 0)


def accumulate(learner, flat, batches):
    """(mean gradient over `batches` as a vector, [mean loss, mean top-1]) of this process."""
    learner.network.train()
    count, report = 0, paddle.zeros([2])
    for images, labels in batches:
        losses, top1 = learner.losses(images, labels)
        (losses.mean() * learner.precision.scale).backward()
        losses = losses.detach().clip(max=LARGEST_LOSS)
        report += paddle.stack([losses.mean(), top1.mean()])
        count += 1
    return flat.take_gradient() / (learner.precision.scale * count), report / count


class SharedDropout(paddle.nn.Layer):
    """Dropout whose mask depends on a picture's place in the update alone.

    So N processes of B pictures drop what one of N x B would, and there is no generator whose state
    a checkpoint would have to keep. `begin` starts an update.
    """

    def __init__(self, p, seed=0, rank=0, world=1):
        super().__init__()
        self.p, self.seed, self.rank, self.world = p, seed, rank, world
        self.begin(0)

    def begin(self, iteration):
        self.key, self.batch = (self.seed * 1_000_003 + iteration) * 1_000_003, 0

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        first = x.shape[0] * (self.batch * self.world + self.rank)
        self.batch += 1
        kept = paddle.concat([self._row(first + i, x.shape[1:]) for i in range(x.shape[0])])
        return x * (kept.astype(x.dtype) / (1 - self.p))

    def _row(self, place, shape):
        paddle.seed((self.key + place) % 2**31)
        return paddle.rand([1, *shape]) >= self.p


def freeze_boundary(stages, freeze):
    """The layer up to which --freeze `freeze` keeps the network as it is, or None.

    A max-pool behind it has nothing to learn and makes it smaller, so it belongs to that part.
    """
    if freeze == 'none':
        return None
    names = [row.name for row in stages]
    last = names.index(freeze)
    return names[last + 1] if isinstance(stages[last + 1], architecture.MaxPool) else freeze


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
    """What the readers compute of the frozen layers, up to `end_layer`: (indices, crops, labels) ->
    (float32 output, labels). `precision` is a Predictor's."""

    def __init__(self, tensors, config, end_layer, precision='float32'):
        self.preprocessing, self.end_layer = preprocessing_of(config), end_layer
        self.predictor = Predictor(build_program(tensors, config, end_layer), precision=precision)

    def __call__(self, indices, crops, labels):
        return self.predictor(reader.network_input(crops, self.preprocessing)), labels


def check_freeze(freeze, version):
    """Raises UserError for a layer that is none, or after which there is nothing to train."""
    layers = ['none', *(row.name for row in architecture.stages(version)[:-1])]
    if freeze not in layers:
        raise UserError(f'--freeze {freeze}: choose one of {", ".join(layers)}')
