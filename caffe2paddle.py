"""Converts Caffe's SqueezeNets to Paddle parameters, checks the result, and converts back.

python caffe2paddle.py data/squeezenet_v1.1.caffemodel --output caffe_params --verify
python caffe2paddle.py data/squeezenet_v1.1.caffemodel --list
python caffe2paddle.py --to_caffe output/best --output tuned/tuned.caffemodel
"""

import argparse
import sys
from pathlib import Path

import common.packages  # noqa: F401 - before NumPy

from caffe_format import caffemodel, mean_image, writing
from caffe_format.layers import net_label, show_shape
from common.console import UserError, one_line_errors, printable, quoted
from common.files import (
    DATA,
    check_folder_writable,
    check_writable,
    read_head,
    write_together,
)
from common.signals import end_on_signals
from evaluation.dead_network import dead_network_warning
from models import model_io
from models.formats import paddle_v2
from models.model_io import NO_OVERRIDES
from network.config import add_model_flags, told
from network.preprocessing import CHANNEL_ORDERS, RESIZES, preprocessing_of
from pictures.class_names import read_class_names


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'caffemodel',
        nargs='?',
        type=Path,
        default=DATA / 'squeezenet_v1.1.caffemodel',
        help='binary weights of SqueezeNet v1.0 or v1.1 (default: the bundled v1.1)',
    )
    parser.add_argument(
        '--output',
        type=Path,
        help='parameter directory to write (default: caffe_params); the file or directory '
        'to write with --to_caffe and --to_v2',
    )
    _add_other_directions(parser)
    _add_pictures(parser)
    _add_structure(parser)
    _add_checks(parser)
    arguments = sys.argv[1:] if arguments is None else arguments
    mean_image.refuse_mean_with_spaces(parser, arguments)
    args = parser.parse_args(arguments)
    if not 0 <= args.tolerance < float('inf'):
        parser.error('--tolerance must be a number of at least 0')
    other = args.list or args.to_caffe or args.to_v2
    if args.verify and other:
        parser.error('--verify goes with a conversion to Paddle')
    if args.list and (given_by(args) or told(args).said()):
        parser.error('--list takes no settings')
    if other and given_by(args):
        parser.error('settings of pictures go with a conversion to Paddle')
    if (args.to_caffe or args.to_v2) and not args.output:
        parser.error('--to_caffe and --to_v2 need --output')
    return args


def _add_other_directions(parser):
    instead = parser.add_argument_group('instead of converting').add_mutually_exclusive_group()
    instead.add_argument('--list', action='store_true', help='print the layers, write nothing')
    instead.add_argument(
        '--to_caffe',
        metavar='MODEL',
        type=Path,
        help='write MODEL, a parameter directory, as the caffemodel --output; beside it '
        'NAME.prototxt, and NAME.labels.txt where it has class names',
    )
    instead.add_argument(
        '--to_v2',
        metavar='MODEL',
        type=Path,
        help="write MODEL as the directory --output in PaddlePaddle v2's form, a file a parameter",
    )


def _add_pictures(parser):
    group = parser.add_argument_group(
        'pictures: what the file does not say, or says wrongly; config.json records it'
    )
    group.add_argument(
        '--resize',
        choices=RESIZES,
        help='how pictures are brought to size before the crop: short side to --resize_size, '
        "warp both sides to it, or none (default: the file's, else short)",
    )
    group.add_argument('--resize_size', type=int, metavar='N', help='pixels (default: 256)')
    group.add_argument(
        '--input_size',
        dest='crop',
        type=int,
        metavar='N',
        help="pixels of the crop's sides (default: the file's crop_size or input, else 227)",
    )
    group.add_argument(
        '--mean',
        type=mean_image.mean_option,
        metavar='B,G,R',
        help='what is subtracted, in BGR order, or a mean image (.binaryproto, .npy), of which the '
        'average of each channel is taken; --mean=-1,0,1 where it is negative '
        "(default: the file's mean_value, else 104,117,123)",
    )
    group.add_argument(
        '--scale', type=float, help="what multiplies afterwards (default: the file's, else 1)"
    )
    group.add_argument(
        '--channel_order', choices=CHANNEL_ORDERS, help='a file cannot say it (default: BGR)'
    )


def _add_structure(parser):
    group = parser.add_argument_group('the network: what weights alone do not say')
    add_model_flags(group)
    group.add_argument(
        '--ceil_mode',
        action='store_true',
        help="field 13 of pooling layers is a fork's ceil_mode, not BVLC Caffe's round_mode",
    )
    group.add_argument(
        '--class_names',
        metavar='FILE',
        type=Path,
        help='a name a line, or lines of synset_words.txt (default: data/synset_words.txt '
        'for 1000 classes, else no names)',
    )


def _add_checks(parser):
    check = parser.add_argument_group('checking')
    check.add_argument(
        '--verify',
        action='store_true',
        help='compare every blob of one picture with what OpenCV 4 makes of the caffemodel',
    )
    check.add_argument(
        '--image',
        type=Path,
        default=DATA / 'photos' / 'cat.jpg',
        help='the picture for --verify (default: the bundled cat)',
    )
    check.add_argument(
        '--tolerance',
        type=float,
        default=1e-4,
        help="largest difference allowed, as a part of the blob's largest value (default: 1e-4)",
    )


def given_by(args):
    """What the user says of the file: `given` of `caffemodel.read_net`."""
    given = {
        'resize': args.resize,
        'resize_size': args.resize_size,
        'crop': args.crop,
        'mean': args.mean,
        'scale': args.scale,
        'channel_order': args.channel_order,
        'ceil_mode': args.ceil_mode or None,
    }
    return {name: value for name, value in given.items() if value is not None}


@one_line_errors
def main(arguments=None):
    end_on_signals()
    args = parse_arguments(arguments)
    if args.list:
        return list_layers(args.caffemodel)
    if args.to_caffe:
        return to_caffe(args.to_caffe, args.output, told(args))
    if args.to_v2:
        return to_v2(args.to_v2, args.output, told(args))
    output, given = args.output or Path('caffe_params'), given_by(args)
    convert(args.caffemodel, output, told(args), given, args.class_names)
    if args.verify:
        return verify(output, args.caffemodel, args.image, args.tolerance, given)
    print(f'next: python infer.py --model {quoted(output)} data/photos')
    return 0


def list_layers(path):
    """Print a row for every layer: number, name, type, blob shapes, parameters, bytes."""
    rows = caffemodel.describe_layers(path)
    width = max(len(row[1]) for row in rows)
    print(f'{"":>4} {"layer":{width}} {"type":14} {"parameters":>10} {"bytes":>10}  blobs')
    for index, name, kind, shapes, count, size in rows:
        blobs = ', '.join(map(show_shape, shapes))
        name, kind = printable(name), printable(kind)
        print(f'{index:4} {name:{width}} {kind:14} {count:10,} {size:10,}  {blobs}'.rstrip())
    print(f'{len(rows)} layers, {sum(row[4] for row in rows):,} parameters')
    return 0


def convert(path, output, said=NO_OVERRIDES, given=None, class_names=None):
    """Write the parameter directory `output` with what the caffemodel `path` holds.

    said, given: what the user knows of the network and better of its pictures, see
    `model_io.read_caffemodel`.
    """
    check_folder_writable(output)
    tensors, config = model_io.read_caffemodel(path, said, given=given)
    names = _names_for(config['class_num'], class_names)
    if names:
        config['class_names'] = names
    model_io.write_model(output, tensors, config)
    _report(path, config, tensors)
    print(f'written: {printable(output)} (model.safetensors, config.json)')
    dead = dead_network_warning(tensors, config)
    if dead:
        print(f'WARNING: {printable(path)}: {dead}', file=sys.stderr)


def _report(path, config, tensors):
    version, bypass, class_num = config['version'], config['bypass'], config['class_num']
    count = sum(tensor.size for tensor in tensors.values())
    print(
        f'{printable(path)}: {net_label(version, bypass)}{"" if bypass else " without bypass"}, '
        f'{class_num} {"class" if class_num == 1 else "classes"}, {count:,} parameters'
    )
    if config['conv10_pad'] or not config['conv10_relu']:
        padded = 'padded' if config['conv10_pad'] else 'not padded'
        print(f'conv10: {padded}, {"a" if config["conv10_relu"] else "no"} ReLU behind it')
    pictures = preprocessing_of(config)
    mean = ', '.join(f'{value:g}' for value in pictures.mean)
    size = {'short': 'short side to ', 'warp': 'warped to '}.get(pictures.resize)
    print(
        f'pictures: {f"{size}{pictures.resize_size}" if size else "not resized"}, '
        f'crop of {pictures.crop}x{pictures.crop}, {pictures.channel_order} minus ({mean})'
        + (f', times {pictures.scale:g}' if pictures.scale != 1 else '')
    )


def _names_for(class_num, path):
    known = DATA / 'synset_words.txt'
    if path is None and class_num == 1000 and known.exists():
        path = known
    return path and read_class_names(path, class_num)


def verify(model, path, image, tolerance, given=None):
    """Print how far each blob is from OpenCV's; returns 1 where one is beyond the tolerance."""
    from evaluation.against_opencv import compare  # here, since Paddle takes seconds to load

    rows = compare(model, path, image, given)
    print(
        f'\nverify: {printable(image)} through Paddle ({printable(model)}) '
        f'and through OpenCV ({printable(path)})'
    )
    print(f'{"blob":18} {"shape":14} {"largest":>10} {"difference":>11} {"relative":>9}')
    failed = []
    for row in rows:
        good = row.relative <= tolerance  # not so for NaN
        if not good:
            failed.append(row.blob)
        print(
            f'{row.blob:18} {show_shape(row.shape):14} {row.largest:10.4g} {row.difference:11.2e} '
            f'{row.relative:9.1e} {"ok" if good else "FAIL"}'
        )
    if failed:
        print(
            f'{len(failed)} of {len(rows)} blobs differ by more than {tolerance:g} of their '
            f'largest value, {failed[0]} first',
            file=sys.stderr,
        )
        return 1
    print(f'all {len(rows)} blobs agree within {tolerance:g} of their largest value')
    return 0


def to_caffe(model, output, said=NO_OVERRIDES):
    """Write `model` (what --model takes) as the V2 caffemodel `output`, and what goes beside it."""
    if output.suffix != '.caffemodel':
        raise UserError(f'{output}: --output must end in .caffemodel with --to_caffe')
    check_writable(output)
    tensors, config = model_io.read_model(model, said)
    names = config.get('class_names') or _names_for(config['class_num'], None)
    prototxt, labels = output.with_suffix('.prototxt'), output.with_suffix('.labels.txt')
    _refuse_foreign(prototxt, [prototxt, labels])
    contents = {
        output: writing.caffemodel_bytes(tensors, config),
        prototxt: writing.deploy_prototxt(config).encode(),
    }
    if names:
        contents[labels] = ''.join(f'{" ".join(name.split())}\n' for name in names).encode()
    write_together(contents)
    if not names:
        labels.unlink(missing_ok=True)
    _report(model, config, tensors)
    print(f'written: {printable(", ".join(map(str, contents)))}')
    print(writing.feeding(config))
    return 0


def _refuse_foreign(prototxt, beside):
    """Raises UserError where a file would be overwritten that --to_caffe did not write."""
    try:
        ours = read_head(prototxt, len(writing.MARK)) == writing.MARK.encode()
    except FileNotFoundError:
        ours = False
    for path in beside:
        if path.exists() and not ours:
            raise UserError(f'{path}: is there already; choose another name for --output')


def to_v2(model, output, said=NO_OVERRIDES):
    """Write `model` as a directory of PaddlePaddle v2 parameter files."""
    tensors, config = model_io.read_model(model, said)
    paddle_v2.write_directory(output, tensors, config)
    _report(model, config, tensors)
    print(f'written: {printable(output)} ({len(tensors)} parameter files, config.json)')
    return 0


if __name__ == '__main__':
    sys.exit(main())
