"""Evaluate a network on a list of pictures: classes, probabilities, top-1, top-5 and loss.

On a CPU every worker process reads its pictures and runs the network on them too, so that nothing
but a few numbers travels between processes. On a GPU the workers read and this process computes.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import paddle

import reader
from common.files import DATA
from models import parameters
from models.inference import BATCH, Predictor, build_program
from network.preprocessing import preprocessing_of
from pictures import lists
from results import report

TOP = 5
GPU_BATCH = 64  # pictures


class Evaluation(NamedTuple):
    """Per picture: its index in the list and its label, int64 [n]; classes int64 [n, k] and
    probabilities float64 [n, k] of the k = min(5, class_num) likeliest; loss float64 [n]."""

    indices: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray
    losses: np.ndarray

    def sums(self):
        """[pictures, right at the first guess, right within five, sum of losses], float64."""
        hits = self.classes == self.labels[:, None]
        return np.array([len(hits), hits[:, :1].sum(), hits.sum(), self.losses.sum()])


def score(logits, labels):
    """(classes, probabilities, losses) of logits [N, C] and labels [N]; see Evaluation."""
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    classes = np.argsort(-logits, axis=1, kind='stable')[:, :TOP]
    probabilities = np.exp(np.take_along_axis(log_probabilities, classes, axis=1))
    return classes, probabilities, -log_probabilities[np.arange(len(labels)), labels]


class Evaluator:
    """Runs the network with `tensors` and `config` over lists of pictures, on `device`.

    On a CPU each of `num_workers` processes reads and computes (0: this one); on a GPU they read.
    """

    def __init__(self, tensors, config, device, num_workers=0):
        self.preprocessing = preprocessing_of(config)
        self.num_workers = num_workers
        kind = _OnGPU if device.is_gpu else _OnCPU
        self.compute = kind(tensors, config)

    def batches(self, pictures, indices):
        """Yields an Evaluation of each batch of the pictures at `indices`, in order.

        Raises PictureError, which names the list line, for a picture that cannot be read.
        """
        size = self.compute.batch_size
        work = None if self.compute.in_main_process else self.compute
        made = reader.eval_loader(
            pictures, self.preprocessing, size, indices, self.num_workers, work
        )
        for batch in made:
            yield Evaluation(*(batch if work else self.compute(*batch)))

    def evaluate(self, pictures, rank=0, world=1, meter=None):
        """The Evaluation of every `world`-th of `pictures` from `rank` on.

        `meter.count(n)` is told of progress.
        """
        nothing = score(np.zeros((0, TOP)), np.zeros(0, np.int64))  # of a rank without pictures
        rows = [Evaluation(np.zeros(0, np.int64), np.zeros(0, np.int64), *nothing)]
        for row in self.batches(pictures, np.arange(rank, len(pictures), world)):
            rows.append(row)
            if meter is not None:
                meter.count(len(row.indices))
        return Evaluation(*(np.concatenate(column) for column in zip(*(rows[1:] or rows))))


class _OnCPU:
    batch_size, in_main_process = BATCH, False

    def __init__(self, tensors, config):
        self.preprocessing = preprocessing_of(config)
        self.predictor = Predictor(build_program(tensors, config))

    def __call__(self, indices, crops, labels):
        images = reader.network_input(crops, self.preprocessing)
        return indices, labels, *score(self.predictor(images), labels)


class _OnGPU:
    batch_size, in_main_process = GPU_BATCH, True

    def __init__(self, tensors, config):
        self.preprocessing = preprocessing_of(config)
        self.network = parameters.build_network(tensors, config)
        self.network.eval()

    @paddle.no_grad()
    def __call__(self, indices, crops, labels):
        images = paddle.to_tensor(reader.network_input(crops, self.preprocessing))
        return indices, labels, *score(self.network(images).numpy(), labels)


def per_class(evaluation, config):
    """The rows of report.per_class: how well each class is told from the others."""
    return report.per_class(evaluation.labels, evaluation.classes[:, 0], class_names(config))


def class_names(config):
    """The model's own, ImageNet's for 1000 classes, or numbers."""
    if config.get('class_names'):
        return config['class_names']
    if config['class_num'] == 1000:
        return lists.read_class_names(DATA / 'synset_words.txt')
    return [str(number) for number in range(config['class_num'])]


def write_report(evaluation, pictures, config, folder):
    """Write per_class.csv, confusion.png and, if there are any, mistakes.png into `folder`."""
    folder, names = Path(folder), class_names(config)
    labels, predicted = evaluation.labels, evaluation.classes[:, 0]
    report.write_per_class(per_class(evaluation, config), folder / 'per_class.csv')
    matrix = report.confusion_matrix(labels, predicted, config['class_num'])
    report.draw_confusion(matrix, names, folder / 'confusion.png')
    paths = [pictures.path(index) for index in evaluation.indices]
    certainty = evaluation.probabilities[:, 0]
    report.draw_mistakes(paths, labels, predicted, certainty, names, folder / 'mistakes.png')
