"""PaddlePaddle v2's parameters: directories and tars of one file each, which the first Paddle had.

A file is a header and float32 numbers without a shape. A directory is named as caffe2paddle of
those days did, by Caffe's layers (`_fire2.squeeze1x1.w0`, `.wbias`) or by default, in order
(`___conv_0__.w0`); a tar is what `parameters.to_tar` wrote, with a `.protobuf` beside each.
"""

import os
import re
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from common.console import UserError
from common.files import atomic_write, partial_neighbour, read_regular_file
from models.formats import tar
from models.tensors import finish
from network import architecture
from network.config import config_text, settle

HEADER = struct.Struct('<iIQ')  # format 0, bytes per value 4, number of values
NAME = re.compile(
    r'_*(conv10|conv1|fire[2-9])(?:[^a-z0-9]+(squeeze1x1|expand1x1|expand3x3|bypass1x1))?'
    r'[^a-z0-9]+(?:(w0|weights?)|(?:wbias|bias|w1))',
    re.IGNORECASE,
)
DEFAULT_NAME = re.compile(r'_*conv_(\d{1,9})__\.(?:(w0)|wbias)')
MOST_BYTES = 256 << 20  # of a parameter, and of an unpacked tar


def write_directory(directory, tensors, config):
    """Write the parameters as a new directory, with config.json, which keeps what they cannot tell.

    It appears whole, or not at all. Raises UserError where there is something already.
    """
    directory = Path(directory)
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise UserError(f'{directory}: is there already; name a new directory')
    directory.parent.mkdir(parents=True, exist_ok=True)
    aside = partial_neighbour(directory)
    aside.mkdir()
    try:
        with atomic_write(aside / 'config.json', 'w') as file:
            file.write(config_text(config))
        for name, value in tensors.items():
            layer, kind = name.rsplit('.', 1)
            suffix = 'w0' if kind == 'weight' else 'wbias'
            with atomic_write(aside / f'_{layer}.{suffix}') as file:
                file.write(HEADER.pack(0, 4, value.size) + value.astype('<f4').tobytes())
        os.rename(aside, directory)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def read_directory(directory, told, say):
    """(tensors, config) of such a directory; `told` and `say` as in read_model."""
    files = (
        (path.name, path, read_regular_file(path, MOST_BYTES))
        for path in sorted(directory.iterdir())
        if _is_parameter(path.name) and not path.is_dir()
    )
    flat = _collect(files, directory)
    if not flat:
        raise UserError(
            f'{directory}: is no model; it holds neither model.safetensors nor files of '
            'PaddlePaddle v2 parameters (_conv1.w0, _conv1.wbias, ...)'
        )
    return _shape(flat, directory, directory, told, say)


def read_tar(content, path, told, say):
    """(tensors, config) of what `parameters.to_tar` wrote, packed by gzip or not."""
    if content.startswith(tar.GZIP_START):
        content = tar.gunzip(content, MOST_BYTES, path)
    flat = _collect(_members(content, path), path)
    if not flat:
        raise UserError(f'{path}: is a tar, but holds no parameters of PaddlePaddle v2')
    return _shape(flat, path, path.parent, told, say)


def _members(content: bytes, path: Path) -> Iterator[tuple[str, str, memoryview]]:
    """(name, where, content) of the parameters; nothing is unpacked to the disk."""
    for full_name, body in tar.regular_files(content, path):
        name = full_name.rsplit('/', 1)[-1]
        if _is_parameter(name):
            yield name, f'{path}: {name}', body


def _is_parameter(name):
    return NAME.fullmatch(name) or DEFAULT_NAME.fullmatch(name)


def _collect(files, whole):
    """{name: float32 values without a shape}, by name, of (file name, where, content)."""
    named, numbered = {}, {}
    for file_name, where, content in files:
        match = DEFAULT_NAME.fullmatch(file_name)
        if match:
            found, key = numbered, (int(match[1]), 'weight' if match[2] else 'bias')
        else:
            layer, part, weight = NAME.fullmatch(file_name).groups()
            layer = '.'.join(filter(None, (layer, part))).lower()
            found, key = named, f'{layer}.{"weight" if weight else "bias"}'
        if key in found:
            raise UserError(f'{where}: is a second file for {key}')
        found[key] = _values(content, where)
        if named and numbered:
            raise UserError(f"{where}: has a name of another kind than the others'; keep one kind")
    return named or _in_order(numbered, whole)


def _in_order(numbered, where):
    """{name: values}: default names count the convolutions as the network has them."""
    layers = [name[: -len('.bias')] for name in architecture.parameter_shapes() if 'bias' in name]
    numbers = sorted({number for number, _ in numbered})
    if numbered and len(numbers) != len(layers):
        raise UserError(
            f'{where}: is of {len(numbers)} numbered convolutions (___conv_0__.w0 ...); a '
            f'SqueezeNet without complex bypass has {len(layers)}'
        )
    layer_of = dict(zip(numbers, layers))
    return {f'{layer_of[number]}.{kind}': values for (number, kind), values in numbered.items()}


def _values(content, where):
    if len(content) < HEADER.size:
        raise UserError(f'{where}: is shorter than the 16-byte header of a v2 parameter')
    form, value_size, count = HEADER.unpack_from(content)
    if form != 0 or value_size != 4:
        raise UserError(f'{where}: header says format {form}, {value_size} bytes; not 0 and 4')
    if not count:
        raise UserError(f'{where}: header promises no values')
    if len(content) != HEADER.size + 4 * count:
        held = (len(content) - HEADER.size) / 4
        raise UserError(f'{where}: header promises {count} values, the file holds {held:g}')
    return np.frombuffer(content, '<f4', offset=HEADER.size)


def _shape(flat, where, folder, told, say):
    """(tensors, config) of values without shapes; config.json may lie in `folder`."""
    for name in ('conv1.weight', 'conv10.bias'):
        if name not in flat:
            raise UserError(f'{where}: there is no file for {name}')
    version = '1.0' if flat['conv1.weight'].size == 96 * 3 * 7 * 7 else '1.1'
    bypass = 'complex' if 'fire2.bypass1x1.weight' in flat else None
    config = settle(where, folder, (version, bypass, len(flat['conv10.bias'])), told, say)
    shapes = architecture.parameter_shapes(config['version'], config['bypass'], config['class_num'])
    tensors = {}
    for name, values in flat.items():
        shape = shapes.get(name, values.shape)
        size = np.prod(shape, dtype=object)  # config.json may ask for any number of classes
        if values.size != size:
            raise UserError(f'{where}: {name} has {values.size} values; {list(shape)} needs {size}')
        tensors[name] = values.reshape(shape)
    return finish(tensors, config, where)
