"""Writes a model for other runtimes, and checks there at once that it computes what Paddle does.

python export.py --model output/best --to onnx --output my.onnx
python export.py --model output/best --to onnx_int8 --calibrate my/train.txt --output my8.onnx
python export.py --model output/best --to paddle --output my_inference
python export.py --model output/best --to page --output my.html
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import common.paddle_setup  # noqa: F401 - before Paddle

import numpy as np
import paddle

import reader
from common.console import Meter, UserError, one_line_errors
from common.files import DATA, atomic_write
from exports import inference_model, page
from models import parameters
from network.preprocessing import RESIZES, preprocessing_of
from pictures import lists
from results import evaluation

CALIBRATION_PICTURES = 200  # more change nothing that can be measured
CALIBRATION_BATCH = 8
TOLERANCE = 1e-3  # of logits, as a part of the largest one where that is above 1


class ExportError(UserError):
    """The command line asks for something that cannot be done, or a check failed."""


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--model',
        help='what infer.py takes, too (default: caffe_params if it is there, else the bundled '
        'Caffe weights)',
    )
    parser.add_argument(
        '--to',
        required=True,
        choices=list(WRITERS),
        help='ONNX; ONNX in int8; the directory of Paddle Inference; one HTML file that holds all',
    )
    parser.add_argument('--output', required=True, type=Path, help='file or directory to write')
    parser.add_argument(
        '--resize', choices=RESIZES, help="how pictures come to size, if not as the model's says"
    )
    parser.add_argument(
        '--image',
        type=Path,
        default=DATA / 'photos' / 'cat.jpg',
        help='the picture that the check is made on (default: the bundled cat)',
    )
    onnx = parser.add_argument_group('ONNX')
    onnx.add_argument(
        '--preprocessing',
        action='store_true',
        help='mean, scale, channel order and softmax in the graph: from uint8 RGB [N, height, '
        'width, 3] to probabilities',
    )
    onnx.add_argument(
        '--calibrate',
        metavar='LIST',
        help=f'for int8: list of pictures of the usual kind, of which {CALIBRATION_PICTURES} are '
        'used; the labels are not',
    )
    onnx.add_argument('--val_list', help='for int8: list on which it is compared with float32')
    onnx.add_argument('--data_dir', help="where the lists' paths start (default: their folders)")
    paddle_inference = parser.add_argument_group('Paddle Inference')
    paddle_inference.add_argument(
        '--pdmodel',
        action='store_true',
        help='the older .pdmodel in place of .json, for Paddle Lite and Paddle Serving; '
        'so does FLAGS_enable_pir_api=0',
    )
    args = parser.parse_args(argv)
    _check_arguments(parser, args)
    return args


def _check_arguments(parser, args):
    int8 = args.to == 'onnx_int8'
    if int8 and not args.calibrate:
        parser.error('--to onnx_int8 needs --calibrate LIST, pictures that show it the ranges')
    for name, fits in (
        ('preprocessing', args.to.startswith('onnx')),
        ('calibrate', int8),
        ('val_list', int8),
        ('data_dir', int8),
        ('pdmodel', args.to == 'paddle'),
    ):
        if getattr(args, name) and not fits:
            parser.error(f'--{name} does not go with --to {args.to}')


@one_line_errors
def main(argv=None):
    args = parse_arguments(argv)
    if args.pdmodel and inference_model.has_new_programs():  # decided once, as Paddle is loaded
        environment = {**os.environ, 'FLAGS_enable_pir_api': '0'}
        command = [sys.executable, __file__, *(sys.argv[1:] if argv is None else argv)]
        return subprocess.call(command, env=environment)
    paddle.set_device('cpu')
    tensors, config = parameters.read_model(args.model or parameters.default_model())
    config = {**config, 'class_names': evaluation.class_names(config)}
    if args.resize:
        config['preprocessing'] = {**config['preprocessing'], 'resize': args.resize}
    return WRITERS[args.to](args, tensors, config)


# --- the writers ----------------------------------------------------------------------------------


def to_onnx(args, tensors, config):
    onnx_file = _import_onnx_file()
    crop = reader.preprocess(args.image, preprocessing_of(config))
    content = onnx_file.build(tensors, config, args.preprocessing).SerializeToString()
    difference = _onnx_difference(args, tensors, config, content, crop)
    _write_file(args.output, content)
    _say_shapes(args, config)
    _say_difference('ONNX Runtime', args.image, difference)


def to_onnx_int8(args, tensors, config):
    onnx_file = _import_onnx_file()
    from exports import quantised

    calibration = lists.read_list(args.calibrate, args.data_dir)
    pictures = args.val_list and lists.read_list(
        args.val_list, args.data_dir, config['class_num']
    )
    model = onnx_file.build(tensors, config, args.preprocessing)
    content = quantised.quantise(model, _calibration_batches(args, calibration, config))
    _write_file(args.output, content)
    _say_shapes(args, config)
    float_content = model.SerializeToString()
    if pictures:
        batches = _batches(args, pictures, np.arange(len(pictures)), config)
        print(quantised.compare(float_content, content, batches))
    print(quantised.speeds(float_content, content))


def to_paddle(args, tensors, config):
    crop = reader.preprocess(args.image, preprocessing_of(config))
    images = reader.network_input(crop[None], preprocessing_of(config))
    files = inference_model.write(args.output, tensors, config)
    print(f'written: {args.output} ({", ".join(files)})')
    found = inference_model.run(args.output, images)
    _say_difference(
        'Paddle Inference', args.image, _difference(found, _logits(tensors, config, images))
    )


def to_page(args, tensors, config):
    raise NotImplementedError


WRITERS = {'onnx': to_onnx, 'onnx_int8': to_onnx_int8, 'paddle': to_paddle, 'page': to_page}


# --- what they share ------------------------------------------------------------------------------


def _import_onnx_file():
    try:
        from exports import onnx_file
    except ImportError as error:
        raise ExportError(
            f'{error.name} is not installed: pip install -r requirements-export.txt'
        ) from None
    return onnx_file


def _write_file(path, content):
    with atomic_write(path) as file:
        file.write(content)
    print(f'written: {path} ({len(content):,} bytes)')


def _logits(tensors, config, images):
    """What Paddle makes of float32 images [N, 3, crop, crop], operator by operator."""
    network = parameters.build_network(tensors, config)
    network.eval()
    with paddle.no_grad():
        return network(paddle.to_tensor(images)).numpy()
