"""Writes a model for other runtimes, and checks there at once that it computes what Paddle does.

python export.py --model output/best --to onnx --output my.onnx
python export.py --model output/best --to onnx_int8 --calibrate my/train.txt --output my8.onnx
python export.py --model output/best --to paddle --output my_inference
python export.py --model output/best --to page --output my.html
python export.py --to teach --output teach.html
python export.py --model output/best --to c --calibrate my/train.txt --output my
"""

import contextlib
import os
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import common.paddle_start  # noqa: F401 - before Paddle

import numpy as np
import paddle

import exports
import reader
from common.console import Meter, UserError, notice, one_line_errors
from common.files import (
    DATA,
    atomic_write,
    check_folder_writable,
    check_writable,
    read_regular_file,
)
from common.signals import end_on_signals
from evaluation import evaluator, predictions
from exports import browser, c_names, inference_model, int8_calibration, teach_page, web_page
from exports.arguments import parse_options
from models import model_io
from models.formats import packed
from models.inference import build_program, program_suffix
from network.config import told
from network.preprocessing import preprocessing_of
from pictures import lists
from pictures.decoding import load_picture
from training import head

COMPRESS = Path(__file__).with_name('compress.py')
BUNDLED_PACKED = DATA / 'squeezenet_v1.1.sqz'
PAGE_MODEL = 390_000  # bytes of a packed network that leave room for all else in a page of
MOST_BYTES = 500_000  # bytes
TEACH_MODEL = 240_000  # bytes of one without conv10 that leave room for all else in a page of
MOST_TEACH_BYTES = 400_000  # bytes
TOLERANCE = 1e-3  # of logits, as a part of the largest one where that is above 1


@one_line_errors
def main(argv: Optional[Sequence[str]] = None) -> Optional[int]:
    end_on_signals()
    args = parse_options(argv, __doc__)
    if args.pdmodel and program_suffix() != '.pdmodel':  # decided once, as Paddle is loaded
        environment = {**os.environ, 'FLAGS_enable_pir_api': '0'}
        command = [sys.executable, __file__, *(sys.argv[1:] if argv is None else argv)]
        return subprocess.call(command, env=environment)
    check_output(args)
    paddle.set_device('cpu')
    args.model = Path(args.model or model_io.default_model())
    tensors, config = model_io.read_model(args.model, told(args))
    if args.class_names and evaluator.known_names(config) is None:
        raise UserError(f'{args.model}: has no class names; leave out --class_names')
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


def check_output(args: Namespace) -> None:
    """Raises OSError where --output cannot be written, UserError for what cannot be its name."""
    if args.to == 'paddle':
        check_folder_writable(args.output)
    elif args.to == 'c':
        for path in c_names.files(args.output):
            check_writable(path)
    else:
        check_writable(args.output)


# --- one function for each kind -------------------------------------------------------------------


def to_onnx(args: Namespace, tensors: dict, config: dict) -> None:
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


def to_onnx_int8(args: Namespace, tensors: dict, config: dict) -> None:
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


def to_paddle(args: Namespace, tensors: dict, config: dict) -> None:
    program = build_program(tensors, config)
    crop = _check_picture(args, config)
    images = reader.network_input(crop, preprocessing_of(config))
    with tempfile.TemporaryDirectory(prefix='squeezenet-') as folder:
        inference_model.write(folder, program, config)
        found = inference_model.run(folder, images)
    _check('Paddle Inference', found, _logits(tensors, config, crop))
    files = inference_model.write(args.output, program, config)
    print(f'written: {args.output} ({", ".join(files)})')


def to_page(args: Namespace, tensors: dict, config: dict) -> None:
    crop = _check_picture(args, config)  # before a minute of packing
    content, tensors = _packed(args, tensors, config, PAGE_MODEL)
    page = web_page.build(content, config, args.title or 'SqueezeNet')
    runner = browser.find()
    if runner is None:
        print('not checked: neither Chromium, Chrome nor Node is installed')
    else:
        picture = load_picture(args.image)[..., ::-1]
        found = np.array([browser.ask(runner, page, picture)['logits']])
        _check(runner.name, found, _logits(tensors, config, crop))
    _write_file(args.output, page.encode())
    _print_if_large(args.output, MOST_BYTES)


def to_teach(args: Namespace, tensors: dict, config: dict) -> None:
    """Writes the page that learns; of the bundled weights their packed file is used."""
    crop = _check_picture(args, config)  # before a minute of packing
    if config.get('source', {}).get('sha256') == model_io.BUNDLED_SHA256 and not args.calibrate:
        content, tensors = BUNDLED_PACKED.read_bytes(), packed.read_packed(BUNDLED_PACKED)[0]
        print(f'{args.model}: as packed in {BUNDLED_PACKED.name}')
    else:
        content, tensors = _packed(args, tensors, config, _size_with_conv10(tensors))
    page = teach_page.build(content, config, tensors['conv10.weight'][:, :, 0, 0])
    runner = browser.find()
    if runner is None:
        print('not checked: neither Chromium, Chrome nor Node is installed')
    else:
        picture = load_picture(args.image)[..., ::-1]
        found = np.array(browser.ask(runner, page, picture, browser.FEATURES))
        wanted, _ = head.MeanFeatures(tensors, config, mirrored=True)(None, crop, None)
        _check(f"{runner.name}'s features", found, wanted.reshape(found.shape))
    _write_file(args.output, page.encode())
    _print_if_large(args.output, MOST_TEACH_BYTES)


def _size_with_conv10(tensors: dict) -> int:
    """The goal in bytes for the whole network whose rest takes TEACH_MODEL without conv10."""
    numbers = {name: tensor.size for name, tensor in tensors.items()}
    rest = sum(size for name, size in numbers.items() if not name.startswith('conv10.'))
    return min(PAGE_MODEL, TEACH_MODEL * sum(numbers.values()) // rest)


def _print_if_large(path: Path, most: int) -> None:
    if path.stat().st_size > most:
        print(f'above {most:,} bytes: a smaller --size of compress.py makes it smaller')


def _packed(args: Namespace, tensors: dict, config: dict, size: int) -> tuple[bytes, dict]:
    """The bytes of the model as a packed file, by default of `size`, and the tensors that they
    hold. UserError."""
    if args.model.is_file() and packed.is_packed(args.model):
        if args.calibrate:
            raise UserError(f'{args.model}: is packed already; leave out --calibrate')
        return read_regular_file(args.model, packed.MOST_BYTES), tensors
    source = ['--train_list', args.calibrate] if args.calibrate else []
    source += ['--data_dir', args.data_dir] if args.data_dir else []
    print(
        f'{args.model}: packed to {size:,} bytes first, by compress.py, '
        + (f'on {args.calibrate}' if source else 'without pictures; --calibrate LIST does better'),
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix='squeezenet-') as folder:
        model, file = Path(folder) / 'model', Path(folder) / 'packed.sqz'
        model_io.write_model(model, tensors, config)
        goal = ['--model', str(model), '--size', str(size), '--output', str(file)]
        if subprocess.call([sys.executable, str(COMPRESS), *goal, *source]):
            raise UserError(f'{args.model}: could not be packed')
        return file.read_bytes(), packed.read_packed(file)[0]


def to_c(args: Namespace, tensors: dict, config: dict) -> None:
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
    source, header = c_names.files(args.output)
    _write_pair((source, network.made.source), (header, network.made.header))
    if pictures:
        exact = onnx_file.session(onnx_file.build(tensors, config, True).SerializeToString())
        with Meter('comparison', len(pictures)) as meter:
            everyone = np.arange(len(pictures))
            batches = int8_calibration.batches(pictures, config, True, everyone, meter)
            print(int8.compare_runs(exact, network.logits_of_rgb, batches))
    print(c_network.sizes(network))


# --- what they share ------------------------------------------------------------------------------


def _check_picture(args: Namespace, config: dict) -> np.ndarray:
    """The crop of --image: uint8 [1, crop, crop, 3] BGR."""
    return reader.preprocess(args.image, preprocessing_of(config))[None]


def _logits(tensors: dict, config: dict, crops: np.ndarray) -> np.ndarray:
    """What Paddle makes of uint8 crops [N, crop, crop, 3] BGR, operator by operator."""
    network = model_io.build_network(tensors, config)
    network.eval()
    images = reader.network_input(crops, preprocessing_of(config))
    with paddle.no_grad():
        return network(paddle.to_tensor(images)).numpy()


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _check(runtime: str, found: np.ndarray, wanted: np.ndarray) -> None:
    """Print the largest difference between what a runtime and Paddle compute. UserError."""
    difference = np.abs(found - wanted).max()
    limit = TOLERANCE * max(1, np.abs(wanted).max())
    if not difference <= limit:  # NaN, too
        raise UserError(
            f'{runtime} differs from Paddle by {difference:.1e}, more than {limit:.1e}; '
            'nothing is written'
        )
    print(f'{runtime} and Paddle agree on the picture: largest difference {difference:.1e}')


def _write_file(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)
    print(f'written: {path} ({len(content):,} bytes)')


def _write_pair(*texts: tuple[Path, str]) -> None:
    """Write (path, text) pairs, none before all are complete beside their places."""
    with contextlib.ExitStack() as stack:
        for path, text in texts:
            stack.enter_context(atomic_write(path)).write(text.encode())
    for path, text in texts:
        print(f'written: {path} ({len(text.encode()):,} bytes)')


if __name__ == '__main__':
    sys.exit(main())
