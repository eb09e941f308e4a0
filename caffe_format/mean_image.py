"""A mean image in a file: Caffe's own .binaryproto, or the .npy that pycaffe's users make of it.

Caffe subtracts such an image place by place, which this project does not.
"""

import argparse
import io
import itertools
import math
import re
from pathlib import Path
from typing import Union

import numpy as np
from google.protobuf.message import DecodeError
from numpy.lib import format as npy

from caffe_format import protobuf_wire as wire
from caffe_format.blobs import blob_array, blob_shape, read_bytes
from caffe_format.layers import show_shape
from caffe_format.proto import BlobProto
from common.console import UserError, notice

NUMBER = re.compile(r'[-+]?(\d+\.?\d*|\.\d+),?')
SUFFIXES = ('.binaryproto', '.npy')
NPY_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_mean_image(path: Union[str, Path]) -> tuple[float, float, float]:
    """The mean of each channel of a mean image, [3], [3, h, w] or [1, 3, h, w], in the file's
    order, which is BGR by custom. Raises UserError or OSError."""
    content = read_bytes(path)
    read = _from_npy if content.startswith(npy.MAGIC_PREFIX) else _from_binaryproto
    image = read(content, path).astype(np.float64)
    channels_first = image.shape[-3:-2] == (3,) and math.prod(image.shape[:-3]) == 1
    if not (channels_first or image.shape == (3,)) or not image.size:
        raise UserError(
            f'{path}: is no mean image of three channels: {show_shape(image.shape)}; '
            'it should be 3 or 3 x height x width'
        )
    if not np.isfinite(image).all():
        raise UserError(f'{path}: is no mean image: it holds NaN or infinite numbers')
    return tuple(round(float(value), 4) for value in image.reshape(3, -1).mean(axis=1))


def _from_binaryproto(content: bytes, path: Union[str, Path]) -> np.ndarray:
    try:
        wire.check_size(content, BlobProto.DESCRIPTOR)
        blob = BlobProto.FromString(content)
    except (wire.TooMany, wire.Damaged, DecodeError):
        raise UserError(f'{path}: is no mean image (.binaryproto), or is damaged') from None
    return blob_array(blob).reshape(blob_shape(blob, path))


def _from_npy(content: bytes, path: Union[str, Path]) -> np.ndarray:
    """np.load makes room for whatever the header claims, and a pickle for objects."""
    file = io.BytesIO(content)
    try:
        shape, fortran_order, dtype = NPY_HEADERS[npy.read_magic(file)](file)
    except Exception:  # damage shows in many ways
        raise UserError(f'{path}: is a damaged .npy file, or of a form that is not read') from None
    if dtype.kind not in 'fiu':
        raise UserError(f'{path}: holds {dtype} numbers; floats are expected')
    if math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise UserError(f'{path}: is a damaged .npy file: its shape and its bytes do not agree')
    flat = np.frombuffer(content, dtype, offset=file.tell())
    return flat.reshape(shape, order='F' if fortran_order else 'C')


def mean_option(text: str) -> tuple[float, float, float]:
    """--mean's value: numbers, or the file of a mean image."""
    if text.endswith(SUFFIXES):
        mean = read_mean_image(text)
        notice(
            f'{text}: its average of each channel is taken, {mean}, for BGR; Caffe subtracts the '
            'image'
        )
        return mean
    try:
        values = tuple(float(number) for number in text.split(','))
    except ValueError:
        values = ()
    if len(values) not in (1, 3):
        raise argparse.ArgumentTypeError(
            f'{text!r}: give B,G,R with commas, as in 104,117,123, or a mean image '
            f'({" or ".join(SUFFIXES)})'
        )
    return values * (3 // len(values))


def refuse_mean_with_spaces(parser: argparse.ArgumentParser, arguments: list[str]) -> None:
    """`--mean 104 117 123`, of which argparse would take the second for a file."""
    words = []
    for word in arguments:
        words += ['--mean', word.partition('=')[2]] if word.startswith('--mean=') else [word]
    after = itertools.dropwhile('--mean'.__ne__, words)
    numbers = list(itertools.takewhile(NUMBER.fullmatch, itertools.islice(after, 1, None)))
    if len(numbers) > 1:
        joined = ','.join(number.strip(',') for number in numbers)
        parser.error(f'--mean takes B,G,R with commas and without spaces: --mean {joined}')
