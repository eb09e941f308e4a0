"""Broken files, and what is no picture, are errors that name them; what does no harm is none.

Nothing is printed beside them, and what a file claims of its size costs neither time nor memory.
"""

import os
import struct
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from sample_pictures import (
    BGR,
    PALETTE,
    RGB_IMAGE,
    encoded,
    save_fixture,  # noqa: F401 - a fixture
)

import reader

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'GIF', 'WEBP', 'BMP', 'TIFF'])
def test_half_a_file_is_an_error(save, capfd, kind):
    data = encoded(PALETTE if kind == 'GIF' else RGB_IMAGE, kind)
    path = save(data[: len(data) // 2])
    with pytest.raises(reader.PictureError, match='cannot decode') as error:
        reader.load_picture(path)
    assert str(error.value).startswith(f'{path}: ')
    assert capfd.readouterr() == ('', '')


PHOTO = (ROOT / 'data' / 'photos' / 'cat.jpg').read_bytes()
START = PHOTO.rfind(b'\xff\xda') + 14  # of the pixels
HALF = (START + len(PHOTO)) // 2


@pytest.mark.parametrize(
    'data',
    [
        PHOTO[:HALF] + b'\xff\xd9',
        PHOTO[:START] + b'\xff\xd9',
        PHOTO[: HALF - 3000] + bytes(6000) + PHOTO[HALF + 3000 :],
        PHOTO[:HALF] + bytes(70) + PHOTO[HALF + 70 :],
        PHOTO[: START + 99] + bytes(len(PHOTO) - START - 101) + b'\xff\xd9',
        PHOTO[:HALF] + PHOTO[HALF + 2000 :],
    ],
    ids=[
        'cut and closed',
        'header alone',
        'zeros inside',
        'few zeros',
        'zeros alone',
        'bytes lost',
    ],
)
def test_a_jpeg_with_a_hole_is_an_error(save, capfd, data):
    """OpenCV and Pillow fill it with grey, or go on with the wrong colours."""
    path = save(data)
    with pytest.raises(reader.PictureError, match='cannot decode: a damaged JPEG file'):
        reader.load_picture(path)
    assert capfd.readouterr() == ('', '')


def test_a_truncated_jpeg_is_an_error_and_one_without_its_end_marker_is_whole(save, capfd):
    with pytest.raises(reader.PictureError, match='cannot decode: a truncated JPEG file'):
        reader.load_picture(save(PHOTO[:HALF]))
    whole = reader.load_picture(save(PHOTO))
    for end in (-1, -2):
        np.testing.assert_array_equal(reader.load_picture(save(PHOTO[:end])), whole)
    assert capfd.readouterr() == ('', '')


def test_a_filling_before_a_jpegs_end_marker_is_harmless(save):
    whole = reader.load_picture(save(PHOTO))
    for filling in (bytes(500), b'\xff' * 500):
        picture = reader.load_picture(save(PHOTO[:-2] + filling + b'\xff\xd9'))
        np.testing.assert_array_equal(picture, whole)


@pytest.mark.parametrize('options', [{}, {'optimize': True}, {'progressive': True}])
def test_zeros_that_an_encoder_wrote_are_no_hole(save, options):
    image = Image.new('RGB', (2000, 1000), 'white')  # optimised, its code is of zeros alone
    image.paste(RGB_IMAGE, (50, 900))
    data = encoded(image, 'JPEG', **options)
    assert bytes(64) in data or 'optimize' not in options
    assert (reader.load_picture(save(data))[:800] == 255).all()


def test_a_jpeg_of_unusual_sampling_is_read(save):
    data = bytearray(encoded(RGB_IMAGE, 'JPEG', subsampling=0))
    data[data.find(b'\xff\xc0') + 11] = 0x31  # 3x1, which libjpeg-turbo's newer interface lacks
    assert reader.load_picture(save(bytes(data))).shape == BGR.shape


@pytest.mark.parametrize('compression', ['tiff_lzw', 'tiff_deflate'])
def test_a_damaged_tiff_is_an_error_and_prints_nothing(save, capfd, compression):
    data = encoded(RGB_IMAGE, 'TIFF', compression=compression)
    with pytest.raises(reader.PictureError, match='cannot decode'):
        reader.load_picture(save(data[:40] + b'\xff\xd9' * 60 + data[160:]))
    print('heard', file=sys.stderr)
    assert capfd.readouterr() == ('', 'heard\n')


def test_bytes_after_the_end_are_harmless(save):
    for kind in 'JPEG', 'PNG':
        data = encoded(RGB_IMAGE, kind)
        whole = reader.load_picture(save(data))
        np.testing.assert_array_equal(reader.load_picture(save(data + bytes(99))), whole)


def chunk(name, data):
    return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))


def huge_png(width, height):
    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    rows = chunk(b'IDAT', zlib.compress(bytes(100_000)))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + rows + chunk(b'IEND', b'')


def huge_jpeg():
    data = bytearray(encoded(RGB_IMAGE, 'JPEG'))
    at = data.find(b'\xff\xc0')
    data[at + 5 : at + 9] = struct.pack('>HH', 50_000, 50_000)
    return bytes(data)


@pytest.mark.parametrize('data', [huge_png(50_000, 50_000), huge_jpeg()], ids=['PNG', 'JPEG'])
def test_a_picture_that_claims_to_be_huge_is_refused_at_once(save, data):
    start = time.process_time()
    with pytest.raises(reader.PictureError, match='2500000000 pixels'):
        reader.load_picture(save(data))
    assert time.process_time() - start < 2


def test_a_png_chunk_that_claims_gigabytes_is_refused_at_once(save):
    data = encoded(RGB_IMAGE, 'PNG')
    at = data.find(b'IDAT') - 4
    start = time.process_time()
    with pytest.raises(reader.PictureError, match='damaged or truncated PNG'):
        reader.load_picture(save(data[:at] + b'\xfa\0\0\0' + data[at + 4 :]))
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ('data', 'says'),
    [
        (b'', 'the file is empty'),
        (b'<html>404</html>', 'a saved web page'),
        (b'404 Not Found', 'no kind of picture'),
        (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n', 'no kind of picture'),
        (encoded(Image.fromarray(np.ones((9, 9), np.float32)), 'TIFF'), '32-bit pixels'),
        (cv2.imencode('.tiff', np.ones((9, 9, 3), np.float32))[1].tobytes(), 'such as floats'),
        (b'\0\0\0\x18ftypheic' + bytes(99), 'a damaged or truncated HEIC file'),
    ],
)
def test_what_is_no_picture_is_an_error(save, capfd, data, says):
    with pytest.raises(reader.PictureError, match=says):
        reader.load_picture(save(data))
    assert capfd.readouterr() == ('', '')


def test_paths_that_cannot_be_read_are_errors(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    for path, says in [
        (tmp_path / 'none.jpg', 'none.jpg: No such file'),
        (tmp_path, 'Is a directory'),
        (tmp_path / 'pipe', 'not a regular file'),  # opening it would wait for a writer
        ('/dev/zero', 'not a regular file'),
        ('a\0b', 'null'),
        ('x' * 5000, 'name too long'),
    ]:
        with pytest.raises(reader.PictureError, match=f'(?i){says}'):
            reader.load_picture(path)
