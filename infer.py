"""What a SqueezeNet sees: top-1 and top-5 of a val list, or the likeliest classes of pictures.

python infer.py --model output/best --val_list data/val.txt --report report
python infer.py --model caffe_params photo.jpg folder_of_photos --plot sheet.png --cam looked.png

From Python: `from infer import Classifier`.
"""

import os
import sys
import threading
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path

if __name__ == '__main__':  # before NumPy, whose matrix library reads it once
    # A second thread saves 4 of a picture's 14 ms; on a busy machine the two wait for each other,
    # and it takes 200. Nor would a container's share of the cores be known to it.
    os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')

import common.paddle_setup  # noqa: F401 - before Paddle

import numpy as np

import exports
import reader
from common.console import Meter, UserError, complain, notice, one_line_errors, printable
from common.device import CPU, CPU_BY_NUMPY, choose_device
from common.forking import renew_in_children
from common.signals import end_on_signals
from evaluation import metrics
from evaluation.activation_map import ActivationMaps
from evaluation.evaluator import (
    BATCH,
    Evaluator,
    PicturePaths,
    class_names,
    join,
    per_class,
    read_labelled,
    write_report,
)
from evaluation.infer_options import MOST_BAD, check_outputs, parse_options
from evaluation.predictions import answer, threshold_of
from evaluation.result_file import ResultFile
from figures import image_grid
from models import model_io
from network.config import told
from pictures import lists
from pictures.folder_tree import expand_paths
from pictures.in_memory import as_picture

# The network's input pixels that are computed by NumPy: 16 pictures of the usual crop. Paddle takes
# 1.1 s to start; then it saves 6 ms a picture, and workers that decode beside it 10 to 50 ms.
FEW_PIXELS = 16 * 227 * 227


@one_line_errors
def main(argv=None):
    end_on_signals()
    args = parse_options(argv, __doc__)
    check_outputs(args)
    tensors, config = model_io.read_model(args.model or model_io.default_model(), told(args))
    if args.resize:
        config['preprocessing']['resize'] = args.resize
    paths = list(expand_paths(args.pictures, notice))
    by_numpy = is_done_before_paddle_starts(args, len(paths), config)
    device = choose_and_tell(args, by_numpy)
    if args.val_list:
        pictures = read_labelled(
            args.val_list, args.data_dir, config, lambda line: print(printable(line))
        )
    else:
        pictures = PicturePaths(paths)
    evaluator = make_evaluator(args, tensors, config, device)
    job = Job(args, pictures, config)
    found = job.look(evaluator)
    if args.plot:
        draw_image_grid(args.plot, found, job)
    if args.cam:
        draw_image_grid(args.cam, found, job, ActivationMaps(tensors, config, by_numpy))
    if args.report:
        print(metrics.format_per_class(per_class(found, config)))
        write_report(found, pictures, config, args.report)
    return 1 if job.bad and not args.skip_bad else 0


def choose_and_tell(args, by_numpy):
    """The Device; the first line says what it is, and how it computes."""
    if by_numpy:
        device, how = CPU_BY_NUMPY, ' (by NumPy: Paddle would take longer to start)'
    elif args.precision == 'int8':
        device, how = CPU, ' (by ONNX Runtime)'
    else:
        device, how = choose_device(args.device), ''
    args.num_workers = 0 if by_numpy else args.num_workers
    scale = ', big JPEGs at a reduced scale' if args.fast_decode else ''
    print(
        f'device: {device}, {args.precision}, workers: {args.num_workers}{scale}{how}', flush=True
    )
    return device


def make_evaluator(args, tensors, config, device):
    network = int8_network(args, tensors, config) if args.precision == 'int8' else None
    read = partial(reader.preprocess, fast_decode=args.fast_decode)
    return Evaluator(tensors, config, device, args.num_workers, args.precision, read, network)


def int8_network(args, tensors, config):
    """The network in int8, its ranges measured on --calibrate. Raises UserError or OSError."""
    pictures = lists.read_list(args.calibrate, args.data_dir)
    return exports.load('int8_network').make_int8_network(tensors, config, pictures)


def is_done_before_paddle_starts(args, count, config):
    """Whether `count` pictures on the command line are so few that NumPy is done with them sooner
    than Paddle starts. It computes the same float32, on the processor, which --device may forbid.
    """
    as_numpy_does = args.precision == 'float32' and args.device != 'gpu'
    pixels = count * config['preprocessing']['crop'] ** 2
    return bool(count) and as_numpy_does and pixels <= FEW_PIXELS


class Job:
    """Looking at pictures: what is said and written of each, and how many cannot be read."""

    def __init__(self, args, pictures, config):
        self.args, self.pictures = args, pictures
        self.names = class_names(config)
        self.threshold = threshold_of(config)
        self.has_labels = pictures.labels is not None
        self.bad = 0

    def look(self, evaluator):
        """The Evaluation of all pictures that can be read. Raises UserError if none can."""
        parts = []
        # Each picture's lines tell enough; and a bar takes 25 ms.
        several = len(self.pictures) > BATCH
        bar = self.has_labels or (several and sys.stderr.isatty())
        with Meter('evaluation', len(self.pictures), bar) as meter, ExitStack() as stack:
            file = None
            if self.args.output:
                file = ResultFile(self.args.output, self.names, self.threshold)
                stack.enter_context(file)
            for part in evaluator.batches(self.pictures, refused=self._refuse_or_count()):
                meter.count(len(part.indices))
                self._tell(part, file)
                parts.append(part)
            if not parts:
                raise UserError(f'none of {len(self.pictures)} pictures can be read')
            found = join(parts)
            summary = self._summary(found, meter.rate())
            if file:
                file.finish(summary)
        if self.has_labels:
            print(summary_line(summary), flush=True)
        elif self.bad:
            complain(f'{self.bad} of {len(self.pictures)} pictures cannot be read')
        return found

    def _refuse_or_count(self):
        """What to do about a picture that cannot be read; None refuses."""
        if len(self.pictures) == 1 or (self.has_labels and not self.args.skip_bad):
            return None

        def count(complaint):
            complain(complaint)
            self.bad += 1
            if self.has_labels and self.bad > MOST_BAD * len(self.pictures):
                raise UserError(
                    f'--skip_bad passes over at most {MOST_BAD:.0%} of {len(self.pictures)} '
                    'pictures; more than that cannot be read'
                )

        return count

    def _tell(self, part, file):
        for i, index in enumerate(part.indices):
            classes, probabilities = part.classes[i], part.probabilities[i]
            if file:
                label = part.labels[i] if self.has_labels else None
                file.add(self.pictures.entry(index), label, classes, probabilities)
            if not self.has_labels:
                print_answer(self.pictures.path(index), self.top(classes, probabilities))

    def top(self, classes, probabilities):
        return answer(classes, probabilities, self.names, self.threshold)

    def _summary(self, found, rate):
        summary = {'images': len(found.indices), 'precision': self.args.precision}
        if self.args.fast_decode:
            summary['fast_decode'] = True
        if self.bad:
            summary['unreadable'] = self.bad
        if self.threshold:
            summary['unknown'] = int((found.probabilities[:, 0] < self.threshold).sum())
        if self.has_labels:
            count, top1, top5, loss = found.sums()
            summary.update(top1=top1 / count, top5=top5 / count, loss=loss / count)
        return {**summary, 'images_per_second': rate}


def summary_line(summary):
    """What stdout says of a list at the end."""
    parts = [
        f'top-1 {summary["top1"]:.2%}, top-5 {summary["top5"]:.2%}',
        f'loss {summary["loss"]:.4f}',
    ]
    if 'unknown' in summary:
        parts.append(f'{summary["unknown"]} unknown')
    if 'unreadable' in summary:
        parts.append(f'{summary["unreadable"]} more cannot be read')
    parts.append(f'{summary["images_per_second"]:.1f} images/s')
    return f'{summary["images"]} images: {", ".join(parts)}'


def print_answer(path, top):
    lines = [printable(path), *(f'  {p:7.2%}  {printable(name)}' for name, p in top)]
    Meter.print('\n'.join(lines))


def draw_image_grid(path, found, job, maps=None):
    """--plot: the first pictures with their classes; --cam: with where the network looked."""
    if len(found.indices) > image_grid.MOST_CELLS:
        print(f'{printable(path)} shows the first {image_grid.MOST_CELLS} of {len(found.indices)}')
    cells = []
    for index, classes, probabilities in islice(zip(*found[:3]), image_grid.MOST_CELLS):
        picture = job.pictures.path(index)
        name = Path(picture).name
        if maps:
            picture = maps.overlay(maps.crop(picture), classes[0])
        cells.append((picture, name, job.top(classes, probabilities)))
    image_grid.draw_image_grid(cells, path)


class Classifier:
    """A model as a function of pictures.

    >>> from infer import Classifier
    >>> classify = Classifier('output/best')
    >>> classify('photo.jpg')  # [('brick', 0.98), ('gravel', 0.01), ...], the likeliest first
    >>> classify(['a.jpg', 'b.jpg'])  # a list of such lists

    A picture is a path, the bytes of a file or a file opened for reading bytes (io.BytesIO, an
    upload), an array as OpenCV has it (uint8: [h, w, 3] in BGR order, [h, w, 4] with alpha, or grey
    [h, w]), or a PIL picture. The five likeliest classes are given; where the model has a threshold
    and is less sure, ('unknown', the probability of any other than the likeliest) comes first.
    `fast_decode` reads big JPEGs at a reduced scale, as the command's flag does.
    One Classifier serves any number of threads: they decode at the same time and compute in turns.
    A forked process may go on using it, on a CPU, and it can be pickled.
    Raises UserError: PictureError for a picture that cannot be read, else for the model.
    """

    def __init__(self, model=None, device='auto', precision='float32', fast_decode=False):
        model = model_io.read_model(model or model_io.default_model())
        self.__setstate__((model, device, precision, fast_decode))

    def __getstate__(self):
        return self._made_of

    def __setstate__(self, made_of):
        """`made_of`: ((tensors, config), device, precision, fast_decode)."""
        self._made_of = made_of
        (tensors, config), device, precision, self._fast_decode = made_of
        self._evaluator = Evaluator(tensors, config, choose_device(device), precision=precision)
        self._threshold = threshold_of(config)
        self.names = class_names(config)
        self.renew()
        renew_in_children(self)

    def renew(self):
        """What a forked child does: the thread that computes in the parent is not there."""
        self._turn = threading.Lock()

    def __call__(self, pictures):
        if not isinstance(pictures, (list, tuple)):
            return self([pictures])[0]
        answers = []
        for start in range(0, len(pictures), BATCH):
            crops = np.stack([self._crop(p) for p in pictures[start : start + BATCH]])
            with self._turn:
                found = self._evaluator.score(np.arange(len(crops)), crops, None)
            rows = zip(found.classes, found.probabilities)
            answers += [answer(*row, self.names, self._threshold) for row in rows]
        return answers

    def _crop(self, picture):
        preprocessing = self._evaluator.preprocessing
        if isinstance(picture, (str, os.PathLike)):
            return reader.preprocess(picture, preprocessing, self._fast_decode)
        short_side = reader.reduced_side(preprocessing) if self._fast_decode else None
        picture = reader.resize(as_picture(picture, short_side), preprocessing)
        return reader.centre_crop(picture, preprocessing.crop)


if __name__ == '__main__':
    sys.exit(main())
