"""Writes a model for other runtimes, and checks there at once that it computes what Paddle does.

python export.py --model output/best --to onnx --output my.onnx
python export.py --model output/best --to onnx_int8 --calibrate my/train.txt --output my8.onnx
python export.py --model output/best --to paddle --output my_inference
python export.py --model output/best --to page --output my.html
python export.py --to teach --output teach.html
python export.py --model output/best --to c --calibrate my/train.txt --output my
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import common.paddle_start  # noqa: F401 - before Paddle

import numpy as np
import paddle

import exports
import reader
from common.console import Meter, UserError, end_on_signals, notice, one_line_errors
from common.files import (
    DATA,
    atomic_write,
    check_folder_writable,
    check_writable,
    read_regular_file,
)
from evaluation import evaluator, predictions
from exports import browser, c_source, inference_model, int8_calibration, teach_page, web_page
from models import model_io
from models.formats import packed
from models.inference import build_program, program_suffix
from network.config import add_model_flags, told
from network.preprocessing import CHANNEL_ORDERS, RESIZES, preprocessing_of
from pictures import lists
from pictures.decoding import load_picture

COMPRESS = Path(__file__).with_name('compress.py')
KINDS = ('onnx', 'onnx_int8', 'paddle', 'page', 'teach', 'c')
CALIBRATED = ('onnx_int8', 'c')
BUNDLED_PACKED = DATA / 'squeezenet_v1.1.sqz'
PAGE_MODEL = 390_000  # bytes of a packed network that leave room for all else in a page of
MOST_BYTES = 500_000  # bytes
MOST_BATCH = 1024  # pictures; the check takes 40 MB each
TOLERANCE = 1e-3  # of logits, as a part of the largest one where that is above 1


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
    _check_arguments(parser, args)
    return args


def _check_arguments(parser, args):
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


@one_line_errors
def main(argv=None):
    end_on_signals()
    args = parse_arguments(argv)
    if args.pdmodel and program_suffix() != '.pdmodel':  # decided once, as Paddle is loaded
        environment = {**os.environ, 'FLAGS_enable_pir_api': '0'}
        command = [sys.executable, __file__, *(sys.argv[1:] if argv is None else argv)]
        return subprocess.call(command, env=environment)
    check_output(args)
    paddle.set_device('cpu')
    args.model = Path(args.model or model_io.default_model())
    tensors, config = model_io.read_model(args.model, told(args))
    config['class_names'] = evaluator.class_names(config)
    if args.resize:
        config['preprocessing']['resize'] = args.resize
    write = {
        'onnx': to_onnx,
        'onnx_int8': to_onnx_int8,
        'paddle': to_paddle,
        'page': to_page,
        'teach': to_teach,
        'c': to_c,
    }
    return write[args.to](args, tensors, config)


def check_output(args):
    """Raises OSError where --output cannot be written."""
    if args.to == 'paddle':
        check_folder_writable(args.output)
    elif args.to == 'c':
        for path in c_source.files(args.output):
            check_writable(path)
    else:
        check_writable(args.output)


# --- one function for each kind -------------------------------------------------------------------


def to_onnx(args, tensors, config):
    onnx_file = exports.load('onnx_file')
    content = onnx_file.build(tensors, config, args.preprocessing).SerializeToString()
    if args.batch:
        content = onnx_file.with_fixed_batch(content, args.batch)
    crop = _check_picture(args, config)
    feed = int8_calibration.feed(crop, config, args.preprocessing)
    try:
        found = onnx_file.session(content)(feed.repeat(args.batch or 1, axis=0))
    except ImportError:
        print('not checked: onnxruntime is not installed (pip install -r requirements-export.txt)')
    else:
        wanted = _logits(tensors, config, crop)
        _check('ONNX Runtime', found, _softmax(wanted) if args.preprocessing else wanted)
    _write_file(args.output, content)


def to_onnx_int8(args, tensors, config):
    int8, onnx_file = exports.load('int8'), exports.load('onnx_file')
    calibrated_on = lists.read_list(args.calibrate, args.data_dir)
    pictures = args.val_list and evaluator.read_labelled(
        args.val_list, args.data_dir, config, notice
    )
    crop = _check_picture(args, config)
    feeds = int8_calibration.calibration_feeds(calibrated_on, config, args.preprocessing)
    content = int8.quantise(tensors, config, args.preprocessing, feeds)
    float_content = onnx_file.build(tensors, config, args.preprocessing).SerializeToString()

    feed = int8_calibration.feed(crop, config, args.preprocessing)
    written = onnx_file.with_fixed_batch(content, args.batch) if args.batch else content
    found = onnx_file.session(written)(feed.repeat(args.batch or 1, axis=0))
    wanted = _softmax(_logits(tensors, config, crop))
    difference = np.abs((found if args.preprocessing else _softmax(found)) - wanted).max()
    print(f'int8 and Paddle in float32 on {args.image}: probabilities within {difference:.1e}')
    _write_file(args.output, written)
    print(f'float32 has {len(float_content):,} bytes')
    print(int8.speeds(float_content, content, feed))
    if pictures:
        with Meter('comparison', len(pictures)) as meter:
            everyone = np.arange(len(pictures))
            batches = int8_calibration.batches(
                pictures, config, args.preprocessing, everyone, meter
            )
            print(int8.compare(float_content, content, batches))


def to_paddle(args, tensors, config):
    program = build_program(tensors, config)
    crop = _check_picture(args, config)
    images = reader.network_input(crop, preprocessing_of(config))
    with tempfile.TemporaryDirectory(prefix='squeezenet-') as folder:
        inference_model.write(folder, program, config)
        found = inference_model.run(folder, images)
    _check('Paddle Inference', found, _logits(tensors, config, crop))
    files = inference_model.write(args.output, program, config)
    print(f'written: {args.output} ({", ".join(files)})')


def to_page(args, tensors, config):
    crop = _check_picture(args, config)  # before a minute of packing
    content, tensors = _packed(args, tensors, config)
    page = web_page.build(content, config, args.title or 'SqueezeNet')
    runner = browser.find()
    if runner is None:
        print('not checked: neither Chromium, Chrome nor Node is installed')
    else:
        picture = load_picture(args.image)[..., ::-1]
        found = np.array([browser.ask(runner, page, picture)['logits']])
        _check(runner.name, found, _logits(tensors, config, crop))
    _write_file(args.output, page.encode())
    if args.output.stat().st_size > MOST_BYTES:
        print(f'above {MOST_BYTES:,} bytes: a smaller --size of compress.py makes it smaller')


def to_teach(args, tensors, config):
    """Writes the page that learns; of the bundled weights their packed file is used."""
    if config.get('source', {}).get('sha256') == model_io.BUNDLED_SHA256 and not args.calibrate:
        content = BUNDLED_PACKED.read_bytes()
        print(f'{args.model}: as packed in {BUNDLED_PACKED.name}')
    else:
        content, tensors = _packed(args, tensors, config)
    page = teach_page.build(content, config, tensors['conv10.weight'][:, :, 0, 0])
    _write_file(args.output, page.encode())


def _packed(args, tensors, config):
    """The bytes of the model as a packed file, and the tensors that they hold."""
    if args.model.is_file() and packed.is_packed(args.model):
        return read_regular_file(args.model, packed.MOST_BYTES), tensors
    source = ['--train_list', args.calibrate] if args.calibrate else []
    source += ['--data_dir', args.data_dir] if args.data_dir else []
    print(
        f'{args.model}: packed to {PAGE_MODEL:,} bytes first, by compress.py, '
        + (f'on {args.calibrate}' if source else 'without pictures; --calibrate LIST does better'),
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix='squeezenet-') as folder:
        model, file = Path(folder) / 'model', Path(folder) / 'packed.sqz'
        model_io.write_model(model, tensors, config)
        goal = ['--model', str(model), '--size', str(PAGE_MODEL), '--output', str(file)]
        if subprocess.call([sys.executable, str(COMPRESS), *goal, *source]):
            raise UserError(f'{args.model}: could not be packed')
        return file.read_bytes(), packed.read_packed(file)[0]


def to_c(args, tensors, config):
    c_network, int8 = exports.load('c_network'), exports.load('int8')
    onnx_file = exports.load('onnx_file')
    options = c_network.check_options(
        args, config, predictions.temperature_of(config), predictions.threshold_of(config)
    )
    calibrated_on = lists.read_list(args.calibrate, args.data_dir)
    pictures = args.val_list and evaluator.read_labelled(
        args.val_list, args.data_dir, config, notice
    )
    crop = _check_picture(args, config)
    network = c_network.build(tensors, config, options, calibrated_on)
    print(network.check(np.concatenate([crop, crop[:, :, ::-1], crop[:, ::-1]])))
    found, wanted = (
        _softmax(network.logits_of_rgb(crop[..., ::-1])),
        _softmax(_logits(tensors, config, crop)),
    )
    difference = np.abs(found - wanted).max()
    print(f'int8 and Paddle in float32 on {args.image}: probabilities within {difference:.1e}')
    source, header = c_source.files(args.output)
    _write_pair((source, network.made.source), (header, network.made.header))
    if pictures:
        exact = onnx_file.session(onnx_file.build(tensors, config, True).SerializeToString())
        with Meter('comparison', len(pictures)) as meter:
            everyone = np.arange(len(pictures))
            batches = int8_calibration.batches(pictures, config, True, everyone, meter)
            print(int8.compare_runs(exact, network.logits_of_rgb, batches))
    print(c_network.sizes(network))


# --- what they share ------------------------------------------------------------------------------


def _check_picture(args, config):
    """The crop of --image: uint8 [1, crop, crop, 3] BGR."""
    return reader.preprocess(args.image, preprocessing_of(config))[None]


def _logits(tensors, config, crops):
    """What Paddle makes of uint8 crops [N, crop, crop, 3] BGR, operator by operator."""
    network = model_io.build_network(tensors, config)
    network.eval()
    images = reader.network_input(crops, preprocessing_of(config))
    with paddle.no_grad():
        return network(paddle.to_tensor(images)).numpy()


def _softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _check(runtime, found, wanted):
    """Print the largest difference between what a runtime and Paddle compute. UserError."""
    difference = np.abs(found - wanted).max()
    limit = TOLERANCE * max(1, np.abs(wanted).max())
    if not difference <= limit:  # NaN, too
        raise UserError(
            f'{runtime} differs from Paddle by {difference:.1e}, more than {limit:.1e}; '
            'nothing is written'
        )
    print(f'{runtime} and Paddle agree on the picture: largest difference {difference:.1e}')


def _write_file(path, content):
    with atomic_write(path) as file:
        file.write(content)
    print(f'written: {path} ({len(content):,} bytes)')


def _write_pair(*texts):
    """Write (path, text) pairs, none before all are complete beside their places."""
    with contextlib.ExitStack() as stack:
        for path, text in texts:
            stack.enter_context(atomic_write(path)).write(text.encode())
    for path, text in texts:
        print(f'written: {path} ({len(text.encode()):,} bytes)')


if __name__ == '__main__':
    sys.exit(main())
