"""The command line of train.py: flags, recipes, and what has to hold among them."""

import argparse
import re
from pathlib import Path
from typing import Optional

from common.console import UserError, quoted
from common.files import DATA
from network.config import add_model_flags
from network.preprocessing import RESIZES
from pictures.lists import list_beside
from training.solver import POLICIES, SOLVERS

RECIPES = {
    # One's own pictures, 30 to 10,000, and a network that already knows ImageNet: the defaults.
    'own': {},
    # Plain fine-tuning with Caffe's solver: what the golden trajectories are of.
    'caffe': {
        'head': 'filler', 'freeze': 'none', 'dropout': 0.5, 'crop': 'five',
        'mirror': False, 'balance': False, 'solver': 'caffe', 'lr': 0.0002, 'lr_policy': 'poly',
        'warmup': 0.0, 'epochs': 5, 'patience': 0, 'calibrate': False,
    },
    # SqueezeNet_v1.1's solver.prototxt and train_val.prototxt of the original release: ImageNet
    # from scratch, pictures warped to 256x256, random crops, no mirror.
    'paper': {
        'from_scratch': True, 'head': 'filler', 'freeze': 'none',
        'dropout': 0.5, 'crop': 'random', 'resize': 'warp', 'mirror': False, 'balance': False,
        'solver': 'caffe',
        'lr': 0.04, 'lr_policy': 'poly', 'warmup': 0.0, 'batch_size': 32, 'iter_size': 16,
        'max_iter': 170000, 'save_every': 1000, 'patience': 0, 'calibrate': False,
    },
}  # fmt: skip

# On --resume these may differ from the interrupted run: the result does not depend on them.
FREE_ON_RESUME = {
    'resume', 'overwrite', 'output', 'num_workers', 'keep', 'save_every', 'trainer', 'batch_size',
    'device', 'tensorboard', 'data_dir', 'model', 'recipe', 'train_list', 'val_list', 'test_list',
    'folder', 'time', 'patience', 'epochs', 'max_iter', 'show_batch', 'unknown', 'calibrate',
    'cache',
}  # fmt: skip


def parse_options(argv=None, resumed=None):
    """argparse.Namespace of the command line; `resumed`: options of the run that is continued."""
    parser = _parser()
    first = parser.parse_args(argv)
    _check_folder(first, resumed)
    parser.set_defaults(**RECIPES[first.recipe])
    if resumed:
        parser.set_defaults(**resumed)
    options = parser.parse_args(argv)
    if resumed:
        _refuse_changes(options, resumed)
    if resumed or not options.folder:  # else start.make_lists gives them
        _complete_lists(options)
    _check(options)
    if options.output is None and (options.resume or options.overwrite):
        options.output = 'output'
    return options


def _complete_lists(options: argparse.Namespace) -> None:
    """The train list, by default the demo's, and those that lie beside it."""
    options.train_list = str(Path(options.train_list or DATA / 'train.txt'))
    for name in ('val', 'test'):
        beside = list_beside(options.train_list, name)
        if getattr(options, f'{name}_list') is None and (name == 'val' or beside.exists()):
            setattr(options, f'{name}_list', str(beside))


def _check_folder(first: argparse.Namespace, resumed: Optional[dict]) -> None:
    """Raises UserError where another flag of the command line would make FOLDER count for nothing.

    `first`: the command line alone; `resumed`: options of the run that is continued.
    """
    if first.folder is None:
        return
    for name in ('train_list', 'val_list', 'data_dir'):
        if getattr(first, name) is not None:
            raise UserError(
                f'{first.folder} and --{name}: a folder brings its own lists (python reader.py '
                f'{quoted(first.folder)} writes them, to be edited and used with --train_list); '
                'give one'
            )
    before = resumed and (resumed['folder'] or resumed['train_list'])
    if before and Path(before).resolve() != Path(first.folder).resolve():
        raise UserError(
            f'{first.folder} is not what the run that --resume continues is of ({before}); '
            'leave it out, or start a new run with --model and --output'
        )


def _check(options):
    if options.lr_policy == 'step' and not options.step_size:
        raise UserError('--lr_policy step needs --step_size ITERATIONS')
    if options.from_scratch and options.model:
        raise UserError(
            '--from_scratch starts from random weights and --model from a model; give one'
        )
    if options.resume and options.overwrite:
        raise UserError('--resume continues a run and --overwrite deletes it; give one of them')
    if options.from_scratch:  # there is nothing yet that could be kept, or fitted to
        options.head, options.freeze = 'filler', 'none'


def _refuse_changes(options, resumed):
    for name, before in resumed.items():
        now = getattr(options, name, before)
        if name not in FREE_ON_RESUME and now != before:
            raise UserError(
                f'--{name} {now} differs from {before} of the run that --resume continues; '
                'leave it out, or start a new run with --model and --output'
            )


def _at_least(smallest, kind):
    def convert(text):
        value = kind(text)
        if not smallest <= value < float('inf'):
            raise argparse.ArgumentTypeError(f'{text}: must be at least {smallest}')
        return value

    convert.__name__ = 'number'
    return convert


def _share(text):
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f'{text}: must be at least 0 and below 1')
    return value


def _seconds(text):
    """'90', '10m' or '1.5h' in seconds."""
    match = re.fullmatch(r'(\d+(?:\.\d+)?)([smh]?)', text)
    if not match:
        raise argparse.ArgumentTypeError(f'{text}: give seconds, or 10m, or 1.5h')
    return float(match[1]) * {'': 1, 's': 1, 'm': 60, 'h': 3600}[match[2]]


COUNT, WHOLE = _at_least(1, int), _at_least(0, int)
POSITIVE, NUMBER = _at_least(1e-12, float), _at_least(0, float)


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults that say something."""

    def _get_help_string(self, action):
        silent = action.default in (None, False)
        return action.help if silent else super()._get_help_string(action)


def _parser():
    parser = argparse.ArgumentParser(
        description="Teach SqueezeNet one's own pictures: a folder of class folders is enough. "
        'Without anything: the demo, on the photos in data/.',
        formatter_class=_HelpFormatter,
    )
    parser.add_argument('folder', nargs='?', help='a folder with a subfolder of pictures a class')
    groups = (_network_flags, _picture_flags, _solver_flags, _length_flags, _machine_flags)
    for add_flags in (*groups, _output_flags):
        add_flags(parser)
    return parser


def _switch(group, name, **options):
    group.add_argument(f'--{name}', action=argparse.BooleanOptionalAction, **options)


def _network_flags(parser):
    group = parser.add_argument_group('what to train')
    group.add_argument(
        '--recipe',
        choices=sorted(RECIPES),
        default='own',
        help="defaults for one's own pictures, for plain fine-tuning as Caffe does it, or (paper) "
        'those of the original prototxts, for ImageNet from scratch',
    )
    group.add_argument(
        '--model', help='what to start from; default: caffe_params, else the bundled Caffe weights'
    )
    group.add_argument(
        '--from_scratch', action='store_true', help="start from random weights, Caffe's fillers"
    )
    group.add_argument(
        '--version', choices=['1.0', '1.1'], default='1.1', help='with --from_scratch'
    )
    add_model_flags(group)
    group.add_argument(
        '--head',
        choices=['fit', 'filler'],
        default='fit',
        help='a new conv10 begins as the best one for the network as it is, without a ReLU behind '
        'it; or as random numbers, with one (--conv10_relu says otherwise)',
    )
    group.add_argument(
        '--freeze', metavar='LAYER', default='fire5',
        help='keep everything up to LAYER as it is; none: train all',
    )  # fmt: skip
    group.add_argument('--dropout', type=_share, default=0.0, help='share dropped before conv10')


def _picture_flags(parser):
    group = parser.add_argument_group('pictures')
    group.add_argument('--train_list', help="lines `path label`; default: the demo's")
    group.add_argument(
        '--val_list',
        help='default: val.txt beside the train list (val_list.txt beside train_list.txt)',
    )
    group.add_argument('--test_list', help='default: test.txt beside it, if there; used once')
    group.add_argument('--data_dir', help="where relative paths start; default: the list's folder")
    group.add_argument('--resize', choices=RESIZES, help="default: as the model's config.json says")
    group.add_argument(
        '--crop', choices=['area', 'random', 'five'], default='area',
        help='part of a picture that training sees: of any size and place, of the network\'s size '
        'at any place, or one of five',
    )  # fmt: skip
    _switch(
        group, 'mirror',
        help='mirror half of the training pictures; default: unless classes are seen to be each '
        "other's mirror images, as left and right",
    )  # fmt: skip
    group.add_argument('--colour', type=_share, default=0.0, help='change colours, up to so much')
    _switch(
        group, 'balance', default=True, help='each class counts alike, of however many pictures'
    )
    _switch(
        group, 'fast_decode', default=False,
        help='decode big JPEGs to train on at a reduced scale; evaluation takes all pixels',
    )  # fmt: skip
    group.add_argument('--skip_bad', action='store_true', help='leave out unreadable pictures')
    group.add_argument('--show_batch', metavar='PNG', help='draw what training sees, and end')


def _solver_flags(parser):
    group = parser.add_argument_group(
        'optimisation (per process: batch_size; per update: x iter_size)'
    )
    group.add_argument(
        '--solver', choices=SOLVERS, default='adamw',
        help="Caffe's momentum keeps the learning rate in the velocity, Paddle's (and PyTorch's) "
        'applies it afterwards',
    )  # fmt: skip
    group.add_argument('--batch_size', type=COUNT, default=32, help='pictures')
    group.add_argument('--iter_size', type=COUNT, default=1, help='batches per update')
    group.add_argument('--lr', type=POSITIVE, default=0.0003, help='learning rate at the start')
    group.add_argument('--lr_policy', choices=POLICIES, default='cosine', help='how it changes')
    group.add_argument('--warmup', type=_share, default=0.1, help='share in which it rises from 0')
    group.add_argument('--power', type=NUMBER, default=1.0, help='of poly')
    group.add_argument('--step_size', type=COUNT, help='updates between steps of policy step')
    group.add_argument('--gamma', type=POSITIVE, default=0.1, help='factor of policy step')
    group.add_argument('--momentum', type=_share, default=0.9, help='share of the past kept')
    group.add_argument('--weight_decay', type=NUMBER, default=2e-4, help='biases too')
    group.add_argument('--seed', type=WHOLE, default=1, help='of order, crops, dropout, fillers')


def _length_flags(parser):
    group = parser.add_argument_group('how long')
    group.add_argument(
        '--epochs',
        type=WHOLE,
        help='passes over the train list; default: 10, or 5 of 5000 pictures',
    )
    group.add_argument('--max_iter', type=COUNT, help='updates; overrides --epochs')
    group.add_argument('--time', type=_seconds, help='end after so long: 90 (seconds), 10m, 1.5h')
    group.add_argument(
        '--patience', type=WHOLE, default=10,
        help='end after so many epochs without a better one; 0: never',
    )  # fmt: skip


def _machine_flags(parser):
    group = parser.add_argument_group('machine')
    group.add_argument(
        '--trainer', type=lambda text: text if text == 'auto' else COUNT(text), default=1,
        help='processes, each on a GPU of its own or on the CPU; auto: one a GPU, or two on a CPU',
    )  # fmt: skip
    group.add_argument(
        '--num_workers', type=WHOLE,
        help="reading processes per trainer; default: the trainer's share of the cores; 0: the "
        'trainer reads itself',
    )  # fmt: skip
    group.add_argument(
        '--cache', type=NUMBER, metavar='GB', default=0,
        help='keep decoded pictures in --output until the run ends, up to so many gigabytes of '
        'them, so that later epochs need not decode',
    )  # fmt: skip
    group.add_argument(
        '--device', choices=['auto', 'cpu', 'gpu'], default='auto', help='where to compute'
    )
    group.add_argument(
        '--amp', choices=['tf32', 'bfloat16', 'float16'],
        help='mixed precision, on a GPU; on a processor with amx_bf16, bfloat16 for the layers '
        'that --freeze keeps',
    )  # fmt: skip


def _output_flags(parser):
    group = parser.add_argument_group('what is kept')
    group.add_argument(
        '--output',
        help='directory of results and checkpoints; default: output, or the first free '
        'one of output-2, output-3, ... for a new run',
    )
    group.add_argument(
        '--resume', action='store_true',
        help='continue the run in --output; with more --epochs, go on from its end',
    )  # fmt: skip
    group.add_argument('--overwrite', action='store_true', help='delete the run in --output first')
    group.add_argument('--save_every', type=COUNT, default=200, help='updates between checkpoints')
    group.add_argument('--keep', type=COUNT, default=2, help='sound checkpoints kept')
    group.add_argument(
        '--unknown', type=_share, metavar='PRECISION',
        help='the model is to answer `unknown` where it is not sure: choose the threshold at which '
        'so many of its answers on the val list are right (0.95, say)',
    )  # fmt: skip
    _switch(group, 'calibrate', default=True, help='fit the temperature of its probabilities')
    group.add_argument('--tensorboard', action='store_true', help='write event files')
