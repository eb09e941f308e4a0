"""Evaluate a network on a list of pictures: classes, probabilities, top-1, top-5 and loss.

On a CPU every worker process reads its pictures and runs the network on them too, so that nothing
but a few numbers travels between processes. On a GPU the workers read and this process computes.
"""

from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import paddle

import reader
from models import parameters
from models.inference import BATCH, Predictor, exported
from pictures import lists
from results import report

TOP = 5
SYNSET_WORDS = Path(__file__).resolve().parents[1] / 'data' / 'synset_words.txt'
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


def evaluate(tensors, config, pictures, resize, num_workers, on_cpu, rank=0, world=1, meter=None):
    """The Evaluation of the PictureList `pictures`: of every `world`-th one from `rank` on.

    `num_workers` 0 does everything in this process; `meter.count(n)` is told of progress.
    Raises PictureError, which names the list line, for a picture that cannot be read.
    """
    with scorer(tensors, config, on_cpu) as work:
        if on_cpu:
            results = reader.eval_loader(pictures, resize, BATCH, rank, world, num_workers, work)
        else:
            batches = reader.eval_loader(pictures, resize, GPU_BATCH, rank, world, num_workers)
            results = (work(*batch) for batch in batches)
        return Evaluation(*(np.concatenate(column) for column in zip(*_collect(results, meter))))


@contextmanager
def scorer(tensors, config, on_cpu):
    """What computes a batch's part of Evaluation from (indices, crops, labels); see eval_loader."""
    if on_cpu:
        with exported(tensors, config) as prefix:
            yield _OnCPU(Predictor(prefix))
    else:
        yield _OnGPU(tensors, config)


def _collect(results, meter):
    nothing = score(np.zeros((0, TOP)), np.zeros(0, np.int64))  # of a rank without pictures
    rows = [(np.zeros(0, np.int64), np.zeros(0, np.int64), *nothing)]
    for row in results:
        rows.append(row)
        if meter is not None:
            meter.count(len(row[0]))
    return rows[1:] or rows


class _OnCPU:
    def __init__(self, predictor):
        self.predictor = predictor

    def __call__(self, indices, crops, labels):
        return indices, labels, *score(self.predictor(reader.subtract_mean(crops)), labels)


class _OnGPU:
    def __init__(self, tensors, config):
        self.network = parameters.build_network(tensors, config)
        self.network.eval()

    @paddle.no_grad()
    def __call__(self, indices, crops, labels):
        logits = self.network(paddle.to_tensor(reader.subtract_mean(crops))).numpy()
        return indices, labels, *score(logits, labels)


def per_class(evaluation, config):
    """The rows of report.per_class: how well each class is told from the others."""
    return report.per_class(evaluation.labels, evaluation.classes[:, 0], class_names(config))


def class_names(config):
    """The model's own, ImageNet's for 1000 classes, or numbers."""
    if config.get('class_names'):
        return config['class_names']
    if config['class_num'] == 1000:
        return lists.read_names_file(SYNSET_WORDS)
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
