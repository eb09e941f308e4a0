"""A model in one small file, less than half a megabyte, that every --model reads.

    python compress.py --model caffe_params --pictures photos --output squeezenet.sqz
    python compress.py --model output/best --train_list my/train.txt --val_list my/val.txt \\
        --output best.sqz --size 300000
    python compress.py --list squeezenet.sqz

The network that runs is the same float32 network at the same speed; it is the file that is small.
"""

import argparse
import sys
from pathlib import Path
from typing import Optional

import common.paddle_start  # noqa: F401 - before Paddle

import reader
from common.console import Meter, UserError, one_line_errors, printable
from common.files import check_writable
from common.signals import end_on_signals
from evaluation.evaluator import read_labelled
from models import model_io
from models.formats import packed
from network.config import add_model_flags, told
from network.preprocessing import preprocessing_of
from quantisation import calibration_data, comparison, listing, search, sensitivity

SIZE = 400_000  # bytes
STEP = 1.25  # between the sizes that --most_loss tries


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--model', help='what to compress (default: caffe_params if it is there, '
                        'else the bundled weights)')  # fmt: skip
    parser.add_argument('--output', help='the file to write; its name ends in .sqz by custom')
    add_model_flags(parser)
    goal = parser.add_mutually_exclusive_group()
    goal.add_argument(
        '--size', type=int, help=f'bytes that the file may have (default {SIZE})', default=None
    )
    goal.add_argument(
        '--most_loss',
        type=float,
        help='the smallest file that loses at most so many points of top-1 on --val_list; without '
        'one, of agreement with the float network on pictures held out',
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        '--pictures',
        nargs='+',
        help='picture files, folders of them, or lists (.txt, a path a line): no labels are needed',
    )
    source.add_argument(
        '--train_list', help='list of lines `path label`, whose labels are not used'
    )
    parser.add_argument('--val_list', help='list of lines `path label` that the loss is told on')
    parser.add_argument('--data_dir', help="where the lists' paths start (default: their folders)")
    parser.add_argument('--seed', type=int, default=0, help='chooses crops and places (0)')
    parser.add_argument('--list', metavar='FILE', help='print what a packed file is made of')
    args = parser.parse_args(argv)
    if args.list is None and args.output is None:
        parser.error('--output FILE.sqz is needed, or --list FILE')
    if args.size is not None and args.size < 1:
        parser.error(f'--size {args.size}: must be at least 1 byte')
    if args.most_loss is not None and not 0 <= args.most_loss <= 100:
        parser.error(f'--most_loss {args.most_loss}: must be 0 to 100 points')
    return args


@one_line_errors
def main(argv=None):
    end_on_signals()
    args = parse_arguments(argv)
    if args.list:
        return print_layers(args.list)
    check_writable(args.output)
    tensors, config = model_io.read_model(args.model or model_io.default_model(), told(args))
    check_size(args.size, config)
    val = args.val_list and read_labelled(args.val_list, args.data_dir, config, say)
    pictures = calibration_data.gather(args, config, val)
    for line in pictures.remarks:
        say(line)
    judge = Comparator(tensors, config, pictures)
    if args.most_loss is not None and not judge.able:
        raise UserError('--most_loss needs pictures to measure it on: give --val_list')
    compressor = prepare(tensors, config, pictures.crops, args.seed)
    if args.most_loss is None:
        made, kept = compressor.compress(args.size or SIZE), True
    else:
        made, kept = smallest(compressor, judge, args.most_loss)
    size = packed.write_packed(args.output, made)
    print(f'{args.output}: ' + comparison.size_in_words(size, tensors))
    for line in judge.words(made):
        print(line)
    print('what runs is the same float32 network at the same speed: only the file is small')
    return 0 if kept else 1


def check_size(size: Optional[int], config: dict) -> None:
    """Raises UserError, before any work, for a size that no file of this network has."""
    if size and size < (least := packed.least_bytes(config)):
        raise UserError(f'{size} bytes cannot be reached: nothing but zeros takes {least}')


def prepare(tensors, config, crops, seed):
    """The Compressor of a model, fitted on uint8 crops [N, h, w, 3]."""
    images = reader.network_input(crops, preprocessing_of(config))
    with Meter('what the output feels', len(images)) as meter:
        felt = sensitivity.sensitivities(tensors, config, images, seed, meter)
    return search.Compressor(tensors, config, images, felt, seed, say)


def say(line):
    print(printable(line), flush=True)


class Comparator:
    """Compares what is made with the float network, on pictures that nothing is fitted on."""

    def __init__(self, tensors, config, pictures):
        self.config, self.crops, self.labels = config, pictures.judged, pictures.labels
        self.logits = self._logits(tensors) if self.able else None

    @property
    def able(self):
        return len(self.crops) > 0

    def _logits(self, tensors):
        with Meter('comparison', len(self.crops)) as meter:
            return comparison.logits_of(tensors, self.config, self.crops, meter)

    def compare(self, made):
        """The Comparison of a Packed."""
        return comparison.compare(self.logits, self._logits(packed.tensors_of(made)), self.labels)

    def words(self, made):
        """The lines that say how good a Packed is."""
        return comparison.comparison_in_words(self.compare(made)) if self.able else []


def smallest(compressor, judge, most_loss):
    """(the smallest Packed that loses at most `most_loss` points, whether one does).

    From about SIZE on sizes fall by STEP until one loses more, or grow until one loses less;
    Ctrl-C ends the search with what it has.
    """
    size, best, last = compressor.usual_size(), None, None
    try:
        while size <= compressor.largest_size():
            try:
                last = compressor.compress(int(size))
            except UserError:  # so small no file can be
                break
            loss = judge.compare(last).loss()
            say(f'{len(packed.pack(last)):,} bytes lose {loss:.2f} points')
            if loss <= most_loss:
                grown, best = best is None and size > compressor.usual_size(), last
                if grown:
                    break
            elif best is not None:
                break
            size = size / STEP if best is not None else size * STEP
    except KeyboardInterrupt:
        if best is None:
            raise
        say('interrupted: the smallest file so far is kept')
    if last is None:
        raise UserError('no file of a usual size can be made of this network')
    if best is None:
        say(f'no file of up to 8 bits a weight loses as little as {most_loss} points')
    return best or last, best is not None


def print_layers(path):
    """--list: a row a layer, whose bytes add up to the file's."""
    rows = listing.rows(packed.load(path), Path(path).stat().st_size)
    print(f'{"layer":20} {"weights":>9} {"bits each":>9} {"zeros":>6} {"bytes":>8}')
    for row in rows:
        print(f'{row.name:20} {row.weights:9} {row.bits:9.2f} {row.zeros:6.1%} {row.bytes:8}')
    print(f'{"the file":20} {sum(r.weights for r in rows):9} {"":9} {"":6} '
          f'{sum(r.bytes for r in rows):8}')  # fmt: skip
    return 0


if __name__ == '__main__':
    sys.exit(main())
