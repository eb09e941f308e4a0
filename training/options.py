"""The command line of train.py: flags, recipes, and what has to hold among them."""

import argparse
from pathlib import Path

from common.console import UserError
from common.files import DATA
from network.preprocessing import RESIZES
from training.solver import POLICIES, SGD

RECIPES = {
    # A few hundred pictures and a network that already knows ImageNet: the defaults below.
    'finetune': {},
    # SqueezeNet_v1.1/solver.prototxt of the original release, from scratch on ImageNet.
    'paper': {
        'from_scratch': True,
        'lr': 0.04,
        'lr_policy': 'poly',
        'power': 1.0,
        'batch_size': 32,
        'iter_size': 16,
        'max_iter': 170000,
        'momentum': 0.9,
        'weight_decay': 2e-4,
        'solver': 'caffe',
        'mirror': True,
        'save_every': 1000,
    },
}

# On --resume these may differ from the interrupted run: the result does not depend on them.
FREE_ON_RESUME = {
    'resume', 'overwrite', 'output', 'num_workers', 'keep', 'save_every', 'trainer', 'batch_size',
    'device', 'tensorboard', 'data_dir', 'model', 'recipe', 'train_list', 'val_list',
}  # fmt: skip


def parse_options(argv=None, resumed=None):
    """argparse.Namespace of the command line; `resumed`: options of the run that is continued."""
    parser = _parser()
    first = parser.parse_args(argv)
    parser.set_defaults(**RECIPES[first.recipe])
    if resumed:
        parser.set_defaults(**resumed)
    options = parser.parse_args(argv)
    if resumed:
        _refuse_changes(options, resumed)
    options.train_list = str(Path(options.train_list))
    if options.val_list is None:
        options.val_list = str(Path(options.train_list).with_name('val.txt'))
    if options.lr_policy == 'step' and not options.step_size:
        raise UserError('--lr_policy step needs --step_size ITERATIONS')
    if options.from_scratch and options.model:
        raise UserError(
            '--from_scratch starts from random weights and --model from a model; give one'
        )
    if options.output is None and (options.resume or options.overwrite):
        options.output = 'output'
    if options.resume and options.overwrite:
        raise UserError('--resume continues a run and --overwrite deletes it; give one of them')
    return options


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


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults that say something."""

    def _get_help_string(self, action):
        silent = action.default in (None, False)
        return action.help if silent else super()._get_help_string(action)


def _parser():
    parser = argparse.ArgumentParser(
        description='Fine-tune SqueezeNet. Without a flag: the demo, on the photos in data/.',
        formatter_class=_HelpFormatter,
    )
    count, positive = _at_least(1, int), _at_least(1e-12, float)
    number, whole = _at_least(0, float), _at_least(0, int)

    group = parser.add_argument_group('what to train')
    group.add_argument(
        '--model',
        help='parameter directory or file to start from; default: caffe_params, which is made of '
        'the bundled Caffe weights if need be',
    )
    group.add_argument(
        '--from_scratch', action='store_true', help="start from random weights, Caffe's fillers"
    )
    group.add_argument(
        '--version', choices=['1.0', '1.1'], default='1.1', help='with --from_scratch'
    )
    group.add_argument('--bypass', choices=['simple', 'complex'], help='with --from_scratch')
    group.add_argument(
        '--freeze', metavar='LAYER', help='keep everything up to LAYER (fire9, say) as it is'
    )
    group.add_argument('--dropout', type=_share, default=0.5, help='share dropped before conv10')

    group = parser.add_argument_group('pictures')
    group.add_argument('--train_list', default=str(DATA / 'train.txt'), help='lines `path label`')
    group.add_argument('--val_list', help='default: val.txt beside the train list')
    group.add_argument('--data_dir', help="where relative paths start; default: the list's folder")
    group.add_argument('--resize', choices=RESIZES, help="default: as the model's config.json says")
    group.add_argument('--mirror', action='store_true', help='mirror half of the training pictures')
    group.add_argument(
        '--num_workers',
        type=whole,
        help="reading processes per trainer; default: the trainer's share "
        'of the cores; 0: the trainer reads itself',
    )

    group = parser.add_argument_group(
        'optimisation (per process: batch_size; per update: x iter_size)'
    )
    group.add_argument(
        '--recipe',
        choices=sorted(RECIPES),
        default='finetune',
        help='defaults for a few hundred pictures, or (paper) the original solver.prototxt, for '
        'ImageNet from scratch',
    )
    group.add_argument(
        '--solver',
        choices=SGD.RULES,
        default='caffe',
        help="whose momentum: Caffe's keeps the "
        'learning rate in the velocity, Paddle (and PyTorch) apply it afterwards',
    )
    group.add_argument('--batch_size', type=count, default=32, help='pictures')
    group.add_argument('--iter_size', type=count, default=1, help='batches per update')
    group.add_argument('--epochs', type=count, default=5, help='passes over the train list')
    group.add_argument('--max_iter', type=count, help='updates; overrides --epochs')
    group.add_argument('--lr', type=positive, default=0.0002, help='learning rate at the start')
    group.add_argument('--lr_policy', choices=POLICIES, default='poly', help='how it changes')
    group.add_argument('--power', type=number, default=1.0, help='of poly')
    group.add_argument('--step_size', type=count, help='updates between steps of policy step')
    group.add_argument('--gamma', type=positive, default=0.1, help='factor of policy step')
    group.add_argument('--momentum', type=_share, default=0.9, help='share of the velocity kept')
    group.add_argument('--weight_decay', type=number, default=2e-4, help='L2, biases too')
    group.add_argument('--seed', type=whole, default=1, help='of order, crops, dropout, fillers')

    group = parser.add_argument_group('machine')
    group.add_argument(
        '--trainer',
        type=lambda text: text if text == 'auto' else count(text),
        default=1,
        help='processes, each on a GPU of its own or on the CPU; auto: one a GPU, or two on a CPU',
    )
    group.add_argument(
        '--device', choices=['auto', 'cpu', 'gpu'], default='auto', help='where to compute'
    )
    group.add_argument(
        '--amp', choices=['tf32', 'bfloat16', 'float16'], help='mixed precision, GPU alone'
    )

    group = parser.add_argument_group('what is kept')
    group.add_argument(
        '--output',
        help='directory of results and checkpoints; default: output, or the first free '
        'one of output-2, output-3, ... for a new run',
    )
    group.add_argument('--resume', action='store_true', help='continue the run in --output')
    group.add_argument('--overwrite', action='store_true', help='delete the run in --output first')
    group.add_argument('--save_every', type=count, default=200, help='updates between checkpoints')
    group.add_argument('--keep', type=count, default=2, help='checkpoints kept')
    group.add_argument('--tensorboard', action='store_true', help='write event files')
    return parser
