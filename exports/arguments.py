"""The options of export.py, and which of them go together."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from common.files import DATA
from exports import int8_calibration
from network.config import add_model_flags
from network.preprocessing import CHANNEL_ORDERS, RESIZES

KINDS = ('onnx', 'onnx_int8', 'paddle', 'page', 'teach', 'c')
CALIBRATED = ('onnx_int8', 'c')
MOST_BATCH = 1024  # pictures; the check takes 40 MB each


def parse_options(argv: Optional[Sequence[str]], description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--model',
        help='what infer.py takes, too (default: caffe_params if it is there, else the bundled '
        'Caffe weights)',
    )
    parser.add_argument(
        '--to',
        required=True,
        choices=KINDS,
        help='ONNX; ONNX in int8; the directory of Paddle Inference; one HTML file that holds '
        'all; one in which people teach classes of their own; one C file (and its header) in '
        'int8 for devices with little memory',
    )
    parser.add_argument('--output', required=True, type=Path, help='file or directory to write')
    add_model_flags(parser.add_argument_group('what a bare file leaves open'))
    parser.add_argument(
        '--resize', choices=RESIZES, help="record this, not what the model's configuration says"
    )
    parser.add_argument(
        '--image',
        type=Path,
        default=DATA / 'photos' / 'cat.jpg',
        help='the picture that the check is made on (default: the bundled cat)',
    )
    onnx = parser.add_argument_group('ONNX, and pages where they say so')
    onnx.add_argument(
        '--preprocessing',
        action='store_true',
        help='mean, scale, channel order and softmax in the graph: from uint8 RGB [N, height, '
        'width, 3] to probabilities',
    )
    onnx.add_argument(
        '--batch',
        type=int,
        metavar='N',
        help='fix the number of pictures in the input shape, for RKNN and other converters that '
        'need it (default: any number)',
    )
    onnx.add_argument(
        '--calibrate',
        metavar='LIST',
        help='for int8, C: list of pictures of the usual kind, of which '
        f'{int8_calibration.PICTURES} are used; the labels are not. For a page: '
        'what the network is packed on, if it is not yet',
    )
    onnx.add_argument('--val_list', help='for int8, C: list on which it is compared with float32')
    onnx.add_argument('--data_dir', help="where the lists' paths start (default: their folders)")
    parser.add_argument('--title', help='for a page: its title (default: SqueezeNet)')
    parser.add_argument_group('Paddle Inference').add_argument(
        '--pdmodel',
        action='store_true',
        help='the older .pdmodel in place of .json, for Paddle Lite and Paddle Serving; '
        'FLAGS_enable_pir_api=0 does so, too',
    )
    c = parser.add_argument_group('C')
    c.add_argument(
        '--channels',
        choices=CHANNEL_ORDERS,
        help="order of a pixel's three bytes in the pictures that the file gets (default: RGB)",
    )
    c.add_argument('--class_names', action='store_true', help='put the class names in')
    c.add_argument(
        '--no_softmax',
        action='store_true',
        help='logits alone, no probabilities; then nothing is in floating point',
    )
    args = parser.parse_args(argv)
    _check(parser, args)
    return args


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    int8, c = args.to in CALIBRATED, args.to == 'c'
    if int8 and not args.calibrate:
        parser.error(f'--to {args.to} needs --calibrate LIST, pictures that show it the ranges')
    for name, fits in (
        ('preprocessing', args.to.startswith('onnx')),
        ('batch', args.to.startswith('onnx')),
        ('calibrate', int8 or args.to in ('page', 'teach')),
        ('title', args.to == 'page'),
        ('val_list', int8),
        ('data_dir', args.calibrate),
        ('pdmodel', args.to == 'paddle'),
        ('channels', c),
        ('class_names', c),
        ('no_softmax', c),
    ):
        if getattr(args, name) not in (None, False) and not fits:
            parser.error(f'--{name} does not go with --to {args.to}')
    if args.batch is not None and not 1 <= args.batch <= MOST_BATCH:
        parser.error(f'--batch {args.batch}: must be 1 to {MOST_BATCH}')
