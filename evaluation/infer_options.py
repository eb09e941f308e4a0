"""infer.py's command line."""

import argparse
from pathlib import Path

from common.cores import usable_cores
from common.files import check_folder_writable, check_writable
from evaluation.precision import PRECISIONS
from evaluation.result_file import SUFFIXES
from figures import plotting
from network.config import add_model_flags
from network.preprocessing import RESIZES

MOST_BAD = 0.1  # of a list's pictures, with --skip_bad


def parse_options(argv, description):
    """The options of `argv`, or of the command line; those that do not fit together end it."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('pictures', nargs='*', help='picture files, and folders of them')
    parser.add_argument('--val_list', help='list of lines `path label` to evaluate on')
    parser.add_argument('--data_dir', help="where a list's paths start (default: its folder)")
    parser.add_argument(
        '--skip_bad',
        action='store_true',
        help=f'pass over pictures of the list that cannot be read, up to {MOST_BAD:.0%}% of them; '
        'each is named',
    )
    parser.add_argument(
        '--fast_decode',
        action='store_true',
        help='decode big JPEGs at a reduced scale: faster, in less memory, and not equal to Caffe',
    )
    _add_model_arguments(parser.add_argument_group('the model'))
    _add_output_arguments(parser.add_argument_group('what is written'))
    parser.add_argument(
        '--num_workers',
        type=int,
        default=usable_cores(),
        help='processes (default: one for each core); 0: none but this one',
    )
    parser.add_argument('--device', choices=['auto', 'cpu', 'gpu'], default='auto')
    parser.add_argument(
        '--precision',
        choices=PRECISIONS,
        default='float32',
        help="float32 (default) is equal to Caffe's; less exact are bfloat16, faster on "
        'processors and GPUs that have it, and int8, by ONNX Runtime on a processor',
    )
    parser.add_argument(
        '--calibrate',
        metavar='LIST',
        help='for int8: list of pictures of the usual kind, which show it the ranges',
    )
    args = parser.parse_args(argv)
    complaint = _complaint(args)
    if complaint:
        parser.error(complaint)
    return args


def _add_model_arguments(group):
    group.add_argument(
        '--model',
        help='parameter directory, .caffemodel, .safetensors or .pdparams file (default: '
        'caffe_params if it is there, else the bundled Caffe weights)',
    )
    add_model_flags(group)
    group.add_argument('--resize', choices=RESIZES, help='default: as its configuration says')


def _add_output_arguments(group):
    group.add_argument('--output', help='results a picture: FILE.csv or FILE.json')
    group.add_argument('--plot', metavar='PNG', help='draw the pictures with their classes')
    group.add_argument(
        '--cam', metavar='PNG', help='draw where the network looked for the likeliest class'
    )
    group.add_argument(
        '--report', metavar='DIR', help='per-class table, confusion matrix, worst mistakes'
    )


def _complaint(args):
    """What does not fit together, if anything."""
    if bool(args.pictures) == bool(args.val_list):
        return 'give pictures, or --val_list LIST'
    if args.report and not args.val_list:
        return '--report needs a --val_list, since it compares with labels'
    if args.skip_bad and not args.val_list:
        return '--skip_bad is for a --val_list; of pictures and folders, bad ones are passed over'
    if args.output and Path(args.output).suffix.lower() not in SUFFIXES:
        return f'--output {args.output}: must end in .csv or .json'
    if (args.precision == 'int8') != bool(args.calibrate):
        return '--precision int8 and --calibrate LIST, which shows it the ranges, go together'
    if args.precision == 'int8' and args.device == 'gpu':
        return '--precision int8 is computed on the processor; leave out --device gpu'
    if args.num_workers < 0:
        return '--num_workers must be 0 or more'
    return None


def check_outputs(args):
    """Raises UserError or OSError where --output, --plot, --cam or --report cannot be written."""
    for path in filter(None, (args.plot, args.cam)):
        plotting.format_of(path)
    for path in filter(None, (args.output, args.plot, args.cam)):
        check_writable(path)
    if args.report:
        check_folder_writable(args.report)
