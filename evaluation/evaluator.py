"""Evaluate a network on pictures: classes, probabilities, and with labels top-1, top-5 and loss.

On a CPU every worker process reads its pictures and runs the network on them too, so that nothing
but a few numbers travels between processes. On a GPU the workers read and this process computes.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

import reader
from common.console import UserError
from common.device import load_paddle
from common.files import DATA
from evaluation import metrics
from evaluation.precision import check_precision
from evaluation.predictions import temperature_of
from evaluation.temperature import log_softmax
from figures import confusion, image_grid
from models import model_io
from models.cpu_network import BATCH, cpu_network
from network.preprocessing import preprocessing_of
from pictures import lists, workers
from pictures.class_names import NAMES_FILES, map_labels, names_file, read_class_names
from pictures.decoding import PictureError

TOP = 5
GPU_BATCH = 64  # pictures


class Evaluation(NamedTuple):
    """Per picture: its index in the list, int64 [n]; classes int64 [n, k] and probabilities
    float64 [n, k] of the k = min(5, class_num) likeliest; and of a list that has them its label,
    int64 [n], and its loss, float64 [n]."""

    indices: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray
    labels: Optional[np.ndarray] = None
    losses: Optional[np.ndarray] = None

    def sums(self):
        """[pictures, right at the first guess, right within five, sum of losses], float64."""
        hits = self.classes == self.labels[:, None]
        return np.array([len(hits), hits[:, :1].sum(), hits.sum(), self.losses.sum()])

    def class_sums(self, class_num):
        """float64 [2, class_num]: pictures of each class, and how many of them are recognised."""
        right = self.labels[self.classes[:, 0] == self.labels]
        counts = [np.bincount(labels, minlength=class_num) for labels in (self.labels, right)]
        return np.array(counts, np.float64)


def score(indices, logits, labels=None, temperature=1.0):
    """The Evaluation of logits [n, C] and, if given, labels [n]."""
    logs = log_softmax(logits, temperature)
    classes = np.argsort(-logs, axis=1, kind='stable')[:, :TOP]
    probabilities = np.exp(np.take_along_axis(logs, classes, axis=1))
    losses = None if labels is None else -logs[np.arange(len(labels)), labels]
    return Evaluation(indices, classes, probabilities, labels, losses)


def join(parts):
    """One Evaluation of several, in their order; there must be one."""
    return Evaluation(
        *(None if column[0] is None else np.concatenate(column) for column in zip(*parts))
    )


class PicturePaths:
    """Pictures without labels, by their paths, as Evaluator takes them beside a PictureList."""

    labels = None

    def __init__(self, paths):
        self.paths = list(map(str, paths))

    def __len__(self):
        return len(self.paths)

    def path(self, i):
        return self.paths[i]

    entry = path  # as the user has it

    def where(self, i):
        return None  # a line of a list


class Evaluator:
    """Runs the network with `tensors` and `config` over pictures, on `device`.

    On a CPU each of `num_workers` processes reads and computes (0: this one); on a GPU they read.
    `precision` is 'float32' or 'bfloat16'. Raises UserError where the device has not that. `read`
    makes of a path and the Preprocessing what the network sees: reader.preprocess, or the like.
    `network` takes the place of Paddle's, on a CPU: float32 pictures [N, 3, crop, crop] -> float32
    logits [N, class_num].
    """

    def __init__(
        self,
        tensors,
        config,
        device,
        num_workers=0,
        precision='float32',
        read=reader.preprocess,
        network=None,
    ):
        if network is None:
            check_precision(precision, device)
        self.preprocessing = preprocessing_of(config)
        self.num_workers = num_workers
        self.read = read
        self.temperature = temperature_of(config)
        self.on_gpu = device.is_gpu
        if self.on_gpu:
            self.network = _OnGPU(tensors, config, precision)
        else:
            network = network or cpu_network(tensors, config, None, precision, device.by_numpy)
            self.network = _OnCPU(network, self.preprocessing)

    def batches(self, pictures, indices=None, refused=None):
        """Yields the Evaluation of each batch of the pictures (or those at `indices`), in order.

        `pictures` is a PictureList or PicturePaths. Of one that cannot be read, which is not in the
        result, `refused` is told why; without it PictureError is raised. Both name the list's line.
        """
        return self._batches(pictures, indices, self.score, refused)

    def _batches(self, pictures, indices, work, refused=None):
        """Yields work(indices, crops, labels) of each batch; see `batches`."""
        indices = np.arange(len(pictures)) if indices is None else indices
        size = GPU_BATCH if self.on_gpu else BATCH
        in_workers = None if self.on_gpu else work
        batches = _Batches(pictures, indices, size, self.preprocessing, self.read, in_workers)
        num_workers = self.num_workers if len(batches) > 1 else 0
        for batch, complaints in workers.compute(batches, num_workers):
            for complaint in complaints:
                if refused is None:
                    raise PictureError(complaint)
                refused(complaint)
            if batch is not None:
                yield work(*batch) if self.on_gpu else batch

    def score(self, indices, crops, labels):
        """The Evaluation of crops, uint8 [n, crop, crop, 3] BGR."""
        return score(indices, self._compute(crops), labels, self.temperature)

    def _compute(self, crops):
        """float32 logits [n, class_num] of crops. Raises UserError where they are no numbers."""
        logits = self.network(crops)
        if not np.isfinite(logits).all():
            raise UserError('the network gives NaN or infinite numbers; its weights are too large')
        return logits

    def logits(self, pictures):
        """(float32 logits [n, class_num], labels int64 [n]) of a list, before any temperature."""
        parts = list(self._batches(pictures, None, self._logits_of))
        return tuple(np.concatenate(column) for column in zip(*parts))

    def _logits_of(self, indices, crops, labels):
        return self._compute(crops), labels

    def evaluate(self, pictures, rank=0, world=1, meter=None):
        """The Evaluation of every `world`-th of `pictures` from `rank` on, which have labels.

        `meter.count(n)` is told of progress.
        """
        nothing = np.zeros(0, np.int64)
        parts = [score(nothing, np.zeros((0, TOP)), nothing)]  # of a rank without pictures
        for part in self.batches(pictures, np.arange(rank, len(pictures), world)):
            parts.append(part)
            if meter is not None:
                meter.count(len(part.indices))
        return join(parts[1:] or parts)


class _Batches:
    """What the workers compute: item i is what `work` makes of batch i, and a complaint of each
    picture that cannot be read. A batch is (indices, crops, labels or None), or None if empty."""

    def __init__(self, pictures, indices, size, preprocessing, read, work=None):
        self.pictures, self.indices, self.size = pictures, indices, size
        self.preprocessing, self.read, self.work = preprocessing, read, work

    def __len__(self):
        return -(-len(self.indices) // self.size)

    def __getitem__(self, i):
        read, crops, complaints = [], [], []
        for index in self.indices[i * self.size : (i + 1) * self.size]:
            try:
                crops.append(self.read(self.pictures.path(index), self.preprocessing))
                read.append(index)
            except PictureError as error:
                where = self.pictures.where(index)
                complaints.append(f'{where}: {error}' if where else str(error))
        if not crops:
            return None, complaints
        labels = self.pictures.labels
        labels = None if labels is None else labels[read].astype(np.int64)
        batch = np.array(read, np.int64), np.stack(crops), labels
        return (self.work(*batch) if self.work else batch), complaints


class _OnCPU:
    """uint8 crops [n, crop, crop, 3] -> float32 logits [n, class_num]."""

    def __init__(self, network, preprocessing):
        self.network, self.preprocessing = network, preprocessing

    def __call__(self, crops):
        return self.network(reader.network_input(crops, self.preprocessing))


class _OnGPU:
    """The same, by the network itself."""

    def __init__(self, tensors, config, precision):
        self.preprocessing, self.precision = preprocessing_of(config), precision
        self.process = os.getpid()
        self.network = model_io.build_network(tensors, config)
        self.network.eval()

    def __call__(self, crops):
        if self.process != os.getpid():
            raise UserError(
                "a GPU's network does not come with a fork; make the model (Classifier) in the "
                "child, or start the process by 'spawn'"
            )
        try:
            return self._logits(crops)
        except MemoryError:
            if len(crops) == 1:
                raise
        half = len(crops) // 2  # a batch that fits
        return np.concatenate([self(crops[:half]), self(crops[half:])])

    def _logits(self, crops):
        paddle = load_paddle()
        images = paddle.to_tensor(reader.network_input(crops, self.preprocessing))
        amp = self.precision != 'float32'
        # no_grad as the decorator of a function that calls itself would leave gradients off.
        with paddle.no_grad(), paddle.amp.auto_cast(amp, dtype='bfloat16'):
            return self.network(images).astype('float32').numpy()


# --------------------------------------------------------------------------------------------------
# Names
# --------------------------------------------------------------------------------------------------


def known_names(config):
    """The model's own class names, ImageNet's for 1000 classes, or None."""
    if config.get('class_names'):
        return config['class_names']
    if config['class_num'] == 1000:
        return read_class_names(DATA / 'synset_words.txt')
    return None


def class_names(config):
    """`known_names`, or numbers."""
    return known_names(config) or [str(number) for number in range(config['class_num'])]


def read_labelled(path, data_dir, config, say):
    """The PictureList of `path` with the labels that the model of `config` has for its classes.

    The names in classes.txt beside the list decide, where both sides have names; what is assumed
    otherwise, and a mapping, `say` is told in a line. Raises UserError where they do not fit.
    """
    names, known = lists.class_names_of(path), known_names(config)
    if names is None or known is None:
        pictures = lists.read_list(path, data_dir, config['class_num'])
        if known is not None:
            say(f"{path}: no {NAMES_FILES[0]} lies beside; its labels are taken as the model's")
        elif names is not None:
            _check_count(path, names, config['class_num'])
            say(f"the model has no class names; the labels of {path} are taken as the model's")
    else:
        pictures = lists.read_list(path, data_dir, len(names))
        _map_to_model(pictures, map_labels(names, known), say)
    for remark in pictures.remarks:
        say(remark)
    return pictures


def _map_to_model(
    pictures: lists.PictureList, mapping: Optional[np.ndarray], say: Callable[[str], None]
) -> None:
    if mapping is not None:
        say(
            f'the classes of {pictures.source} are found by their names; '
            "the model's order is another"
        )
        pictures.labels = mapping[pictures.labels].astype(pictures.labels.dtype)
        pictures.class_num = int(pictures.labels.max()) + 1


def _check_count(path, names, class_num):
    if len(names) > class_num:
        raise UserError(
            f'{names_file(path) or path}: has {len(names)} class names; the model has '
            f'{class_num} classes'
        )


# --------------------------------------------------------------------------------------------------
# report/
# --------------------------------------------------------------------------------------------------


def per_class(evaluation, config):
    """The rows of tables.per_class: how well each class is told from the others."""
    return metrics.per_class(evaluation.labels, evaluation.classes[:, 0], class_names(config))


def write_report(evaluation, pictures, config, folder):
    """Write per_class.csv, confusion.png and, if there are any, mistakes.png into `folder`.

    A mistakes.png of an earlier report goes.
    """
    folder, names = Path(folder), class_names(config)
    labels, predicted = evaluation.labels, evaluation.classes[:, 0]
    metrics.write_per_class(per_class(evaluation, config), folder / 'per_class.csv')
    matrix = metrics.confusion_matrix(labels, predicted, config['class_num'])
    confusion.draw_confusion(matrix, names, folder / 'confusion.png')
    paths = [pictures.path(index) for index in evaluation.indices]
    certainty, mistakes = evaluation.probabilities[:, 0], folder / 'mistakes.png'
    if not image_grid.draw_mistakes(paths, labels, predicted, certainty, names, mistakes):
        mistakes.unlink(missing_ok=True)
