"""Converts Caffe's SqueezeNets to Paddle parameters, checks the result, and converts back.

python caffe2paddle.py data/squeezenet_v1.1.caffemodel --output caffe_params --verify
python caffe2paddle.py data/squeezenet_v1.1.caffemodel --list
python caffe2paddle.py --to_caffe output/best --output tuned/tuned.caffemodel
"""

import argparse
import re
import sys
from pathlib import Path

from caffe_format import caffemodel
from caffe_format.layers import net_label, show_shape
from common.console import UserError, one_line_errors, printable
from common.files import DATA, atomic_write
from models import paddle_v2, parameters
from network.preprocessing import RESIZES

SYNSET = re.compile(r'n\d{8}\s+')


class ConvertError(UserError):
    """The command line asks for something that cannot be done."""


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

    instead = parser.add_argument_group('instead of converting').add_mutually_exclusive_group()
    instead.add_argument('--list', action='store_true', help='print the layers, write nothing')
    instead.add_argument(
        '--to_caffe',
        metavar='MODEL',
        type=Path,
        help='write MODEL, a parameter directory, as the caffemodel --output, '
        'and deploy.prototxt beside it',
    )
    instead.add_argument(
        '--to_v2',
        metavar='MODEL',
        type=Path,
        help="write MODEL as the directory --output in PaddlePaddle v2's form, a file a parameter",
    )

    recorded = parser.add_argument_group('what config.json records')
    recorded.add_argument(
        '--resize',
        choices=RESIZES,
        default='short',
        help='how pictures are brought to size before the 227x227 crop: short side to 256, '
        'warp to 256x256, or none (default: short)',
    )
    recorded.add_argument(
        '--class_names',
        metavar='FILE',
        type=Path,
        help='a name a line, or lines of synset_words.txt (default: data/synset_words.txt '
        'for 1000 classes, else no names)',
    )

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
    args = parser.parse_args(arguments)
    if not 0 <= args.tolerance < float('inf'):
        parser.error('--tolerance must be a number of at least 0')
    if args.verify and (args.list or args.to_caffe or args.to_v2):
        parser.error('--verify goes with a conversion to Paddle')
    if (args.to_caffe or args.to_v2) and not args.output:
        parser.error('--to_caffe and --to_v2 need --output')
    return args


@one_line_errors
def main(arguments=None):
    args = parse_arguments(arguments)
    if args.list:
        return list_layers(args.caffemodel)
    if args.to_caffe:
        return to_caffe(args.to_caffe, args.output)
    if args.to_v2:
        return to_v2(args.to_v2, args.output)
    output = args.output or Path('caffe_params')
    convert(args.caffemodel, output, args.resize, args.class_names)
    if args.verify:
        return verify(output, args.caffemodel, args.image, args.tolerance)
    print(f'next: python infer.py --model {output} data/photos')
    return 0


def list_layers(path):
    """Print a row for every layer: number, name, type, blob shapes, parameters, bytes."""
    rows = caffemodel.describe_layers(path)
    width = max(len(row[1]) for row in rows)
    print(f'{"":>4} {"layer":{width}} {"type":14} {"parameters":>10} {"bytes":>10}  blobs')
    for index, name, kind, shapes, count, size in rows:
        blobs = ', '.join(map(show_shape, shapes))
        name = printable(name)
        print(f'{index:4} {name:{width}} {kind:14} {count:10,} {size:10,}  {blobs}'.rstrip())
    print(f'{len(rows)} layers, {sum(row[4] for row in rows):,} parameters')
    return 0


def convert(path, output, resize='short', class_names=None):
    """Write the parameter directory `output` with what the caffemodel `path` holds."""
    tensors, config = parameters.read_caffemodel(path)
    config['preprocessing']['resize'] = resize
    names = _names_for(config['class_num'], class_names)
    if names:
        config['class_names'] = names
    parameters.write_model(output, tensors, config)
    _report(path, config, tensors)
    print(f'written: {output} (model.safetensors, config.json)')


def _report(path, config, tensors):
    version, bypass, class_num = config['version'], config['bypass'], config['class_num']
    count = sum(tensor.size for tensor in tensors.values())
    print(
        f'{path}: {net_label(version, bypass)}{"" if bypass else " without bypass"}, '
        f'{class_num} {"class" if class_num == 1 else "classes"}, {count:,} parameters'
    )


def _names_for(class_num, path):
    if path is None:
        known = DATA / 'synset_words.txt'
        return read_class_names(known, class_num) if class_num == 1000 and known.exists() else None
    return read_class_names(path, class_num)


def read_class_names(path, class_num):
    """The names in a text file of one class a line; WordNet ids in front of them are left out."""
    try:
        lines = Path(path).read_text(encoding='utf-8-sig').splitlines()
    except UnicodeDecodeError:
        raise ConvertError(f'{path}: is not UTF-8 text') from None
    names = [SYNSET.sub('', line, count=1).strip() for line in lines]
    while names and not names[-1]:
        names.pop()
    if '' in names:
        raise ConvertError(f'{path}:{names.index("") + 1}: there is no name on this line')
    if len(names) != class_num:
        raise ConvertError(f'{path}: has {len(names)} names; the network has {class_num} classes')
    return names


def verify(model, path, image, tolerance):
    """Print how far each blob is from OpenCV's; returns 1 where one is beyond the tolerance."""
    from results.verify import compare  # here, since Paddle takes seconds to load

    rows = compare(model, path, image)
    print(f'\nverify: {image} through Paddle ({model}) and through OpenCV ({path})')
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


def to_caffe(model, output):
    """Write `model` (what --model takes) as the V2 caffemodel `output`, with deploy.prototxt."""
    if output.suffix != '.caffemodel':
        raise ConvertError(f'{output}: --output must end in .caffemodel with --to_caffe')
    tensors, config = parameters.read_model(model)
    version, bypass, class_num = config['version'], config['bypass'], config['class_num']
    pad = config['conv10_pad']
    prototxt = output.with_name('deploy.prototxt')
    caffemodel.write_caffemodel(output, tensors, version, bypass, class_num, pad)
    with atomic_write(prototxt, 'w') as file:
        file.write(caffemodel.deploy_prototxt(version, bypass, class_num, conv10_pad=pad))
    _report(model, config, tensors)
    print(f'written: {output} and {prototxt}')
    print('feed it BGR float32 of 227x227 minus (104, 117, 123); the output is called prob')
    return 0


def to_v2(model, output):
    """Write `model` as a directory of PaddlePaddle v2 parameter files."""
    tensors, config = parameters.read_model(model)
    paddle_v2.write_directory(output, tensors, config)
    _report(model, config, tensors)
    print(f'written: {output} ({len(tensors)} parameter files, config.json)')
    return 0


if __name__ == '__main__':
    sys.exit(main())
