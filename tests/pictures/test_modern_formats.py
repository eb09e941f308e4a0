"""HEIC and JPEG XL: read by what they hold, upright, within limits, refused when damaged.

pillow-heif makes the HEIC files; JPEG XL is decoded where its plug-in is installed.
"""

import io
import sys

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from pictures import decoding, headers, modern_formats
from pictures.decoding import PictureError, decode_picture, load_picture

RGB = np.zeros((40, 64, 3), np.uint8)  # red, blue; green, black
RGB[:20, :32, 0] = RGB[:20, 32:, 2] = RGB[20:, :32, 1] = 250
# Where the red quarter is after turning by each EXIF orientation: its centre in parts of the sides.
RED_AT = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}


def heic(picture, **options):
    made, file = pillow_heif.from_pillow(Image.fromarray(picture)), io.BytesIO()
    made.save(file, quality=95, **options)
    return file.getvalue()


def exif(orientation):
    data = Image.Exif()
    data[0x112] = orientation
    return data.tobytes()


def red_quarter(picture):
    """(down, right) of the quarter where uint8 [h, w, 3] BGR is red."""
    height, width = picture.shape[:2]
    centres = picture[height // 4 :: height // 2, width // 4 :: width // 2].astype(int)
    red = centres[..., 2] - centres[..., 0] - centres[..., 1]
    return np.unravel_index(red.argmax(), red.shape)


def test_a_heic_has_the_pixels_of_its_picture():
    assert np.abs(decode_picture(heic(RGB)).astype(int) - RGB[..., ::-1]).max() < 20
    grey = decode_picture(heic(RGB[..., 0]))
    assert grey.shape == (40, 64, 3)
    assert grey[5, 5].min() > 230
    assert grey[35, 60].max() < 20


@pytest.mark.parametrize('orientation', RED_AT)
def test_a_heic_is_turned_once(orientation):
    """pillow-heif writes the turn into the container and leaves the EXIF data as they are."""
    picture = decode_picture(heic(RGB, exif=exif(orientation)))
    assert picture.shape[:2] == ((64, 40) if orientation > 4 else (40, 64))
    assert red_quarter(picture) == RED_AT[orientation]


def test_transparent_parts_of_a_heic_are_white():
    rgba = np.zeros((32, 32, 4), np.uint8)
    rgba[:16, :, 3] = 255
    picture = decode_picture(heic(rgba))
    assert picture[:12].max() < 20
    assert picture[20:].min() > 235


def test_a_heic_is_known_by_its_bytes_whatever_its_name(tmp_path):
    (tmp_path / 'photo.jpg').write_bytes(heic(RGB))
    assert load_picture(tmp_path / 'photo.jpg').shape == (40, 64, 3)


@pytest.mark.parametrize('share', [0.1, 0.5, 0.9])
def test_a_truncated_heic_is_refused(share):
    whole = heic(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for data in (whole[: int(share * len(whole))], whole[:-1]):
        with pytest.raises(PictureError, match='cannot decode: a damaged or truncated HEIC file'):
            decode_picture(data)


def test_a_heic_that_claims_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch):
    data = heic(np.zeros((64, 64, 3), np.uint8))
    # Image spatial extents (ISO/IEC 23008-12, 6.5.3): version and flags, width, height.
    at = data.index(b'ispe') + 8
    huge = data[:at] + (9490).to_bytes(4, 'big') * 2 + data[at + 8 :]
    monkeypatch.setattr(pillow_heif.HeifFile, 'to_pillow', lambda _: pytest.fail('decoded'))
    with pytest.raises(PictureError, match=f'at most {headers.MOST_IN_FOUR} are read'):
        decode_picture(huge)


@pytest.mark.parametrize(
    ('data', 'module', 'package'),
    [
        (heic(RGB), 'pillow_heif', 'pillow-heif'),
        (b'\xff\x0a\t\xce' + bytes(20), 'pillow_jxl', 'pillow-jxl-plugin'),
    ],
)
def test_a_decoder_that_is_not_installed_is_named(monkeypatch, data, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(PictureError, match=f'not here: pip install {package}'):
        decode_picture(data)


@pytest.mark.parametrize(
    ('stream', 'size'),
    [
        ('ff0a09ce00258802007007b5', (64, 40)),  # multiples of eight, no ratio
        ('0000000c4a584c200d0a870a', None),
        ('ff0a', None),
    ],
)
def test_the_size_in_a_jpeg_xl_header(stream, size):
    data = bytes.fromhex(stream)
    if size is None:
        with pytest.raises(PictureError, match='damaged or truncated JPEG XL'):
            modern_formats.jpeg_xl_size(data)
    else:
        assert modern_formats.jpeg_xl_size(data) == size
        box = (len(data) + 8).to_bytes(4, 'big') + b'jxlc' + data
        first = bytes.fromhex('0000000c4a584c200d0a870a')
        assert modern_formats.jpeg_xl_size(first + box) == size


def test_a_jpeg_xl_of_too_many_pixels_is_refused():
    # Not small; the height has 30 bits, all of them set; the ratio is 1:1 (ISO/IEC 18181-1, D.3).
    bits = 0 | 0b11 << 1 | (1 << 30) - 1 << 3 | 1 << 33
    data = b'\xff\x0a' + bits.to_bytes(12, 'little')
    with pytest.raises(PictureError, match=r'1073741824x1073741824: .* pixels; at most'):
        decode_picture(data)


def test_jpeg_xl_is_read_where_its_plug_in_is_installed(tmp_path):
    pytest.importorskip('pillow_jxl')
    for options in ({'lossless': True}, {'lossless': True, 'exif': exif(6)}):
        file = io.BytesIO()
        Image.fromarray(RGB).save(file, 'JXL', **options)
        assert (decode_picture(file.getvalue()) == RGB[..., ::-1]).all()
        with pytest.raises(PictureError, match='damaged or truncated JPEG XL'):
            decode_picture(file.getvalue()[:-3])
    Image.fromarray(RGB).save(tmp_path / 'a.jpg', exif=exif(6), quality=95)
    file = io.BytesIO()
    Image.open(tmp_path / 'a.jpg').save(file, 'JXL')  # which packs the JPEG itself
    assert (decode_picture(file.getvalue()) == load_picture(tmp_path / 'a.jpg')).all()


@pytest.mark.parametrize(
    ('data', 'says'),
    [
        (b'version https://git-lfs.github.com/spec/v1\noid', 'a Git LFS pointer; .* git lfs pull'),
        (b'\n<!DOCTYPE html><html>', 'a saved web page'),
        (b'PK\x03\x04', 'a zip file'),
        (b'%PDF-1.7', 'a PDF file'),
        (b'\0\0\0\x18ftypqt  ' + bytes(40), "a video or another file of the brand 'qt'"),
    ],
)
def test_what_is_taken_for_a_picture_is_named(data, says):
    with pytest.raises(PictureError, match=f'cannot decode: {says}'):
        decoding.decode_picture(data)
