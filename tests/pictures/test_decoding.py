"""Pictures of every kind load as OpenCV loads them, upright, and on white where transparent.

Every file is made here, by OpenCV or Pillow, so that the expected pixels are known.
"""

import warnings

import cv2
import numpy as np
import pytest
from PIL import Image
from sample_pictures import (
    BGR,
    PALETTE,
    RGB_IMAGE,
    ROWS,
    encoded,
    save_fixture,  # noqa: F401 - a fixture
)

import reader

GREY = np.array(RGB_IMAGE.convert('L'))
JPEG_ERROR = 6  # largest difference that quality 95 leaves in this picture


def with_orientation(orientation, kind='JPEG', **options):
    exif = Image.Exif()
    exif[0x112] = orientation
    return encoded(RGB_IMAGE, kind, exif=exif, **options)


def rgba():
    image = RGB_IMAGE.copy()
    image.putalpha(Image.fromarray((ROWS % 256).astype(np.uint8)))
    return image


GREY_BGR = np.dstack([GREY] * 3)
ON_WHITE = Image.alpha_composite(Image.new('RGBA', (90, 60), 'white'), rgba())
ON_WHITE = np.array(ON_WHITE.convert('RGB'))[..., ::-1]
PALETTE_BGR = np.array(PALETTE.convert('RGB'))[..., ::-1]
CLEAR_BGR = np.where((np.array(PALETTE) == 3)[..., None], 255, PALETTE_BGR)
WIDE = BGR.astype(np.uint16) * 257
LOSSLESS = {
    'RGB PNG': (encoded(RGB_IMAGE, 'PNG'), BGR),
    'grey PNG': (encoded(RGB_IMAGE.convert('L'), 'PNG'), GREY_BGR),
    'grey and alpha PNG': (encoded(RGB_IMAGE.convert('LA'), 'PNG'), GREY_BGR),
    'RGBA PNG': (encoded(rgba(), 'PNG'), ON_WHITE),
    'palette PNG': (encoded(PALETTE, 'PNG'), PALETTE_BGR),
    'palette PNG with transparency': (encoded(PALETTE, 'PNG', transparency=3), CLEAR_BGR),
    '16-bit PNG': (cv2.imencode('.png', WIDE)[1].tobytes(), BGR),
    '16-bit grey PNG': (cv2.imencode('.png', GREY.astype(np.uint16) * 257)[1].tobytes(), GREY_BGR),
    'GIF': (encoded(PALETTE, 'GIF'), PALETTE_BGR),
    'GIF with transparency': (encoded(PALETTE, 'GIF', transparency=3), CLEAR_BGR),
    'WebP': (encoded(RGB_IMAGE, 'WEBP', lossless=True), BGR),
    'RGBA TIFF': (encoded(rgba(), 'TIFF'), ON_WHITE),
    'RGBA WebP': (encoded(rgba(), 'WEBP', lossless=True, exact=True), ON_WHITE),
    'BMP': (encoded(RGB_IMAGE, 'BMP'), BGR),
    'TIFF': (encoded(RGB_IMAGE, 'TIFF'), BGR),
    '16-bit TIFF': (cv2.imencode('.tiff', WIDE)[1].tobytes(), BGR),
    'PPM': (encoded(RGB_IMAGE, 'PPM'), BGR),
    'TGA, by Pillow': (encoded(RGB_IMAGE, 'TGA'), BGR),
    'PCX, by Pillow': (encoded(RGB_IMAGE, 'PCX'), BGR),
}


@pytest.mark.parametrize('kind', LOSSLESS)
def test_lossless_kinds_load_to_the_pixel(save, kind):
    data, expected = LOSSLESS[kind]
    picture = reader.load_picture(save(data))
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, expected)


@pytest.mark.parametrize(
    ('data', 'expected', 'error'),
    [
        (encoded(RGB_IMAGE, 'JPEG', quality=95), BGR, JPEG_ERROR),
        (encoded(RGB_IMAGE, 'JPEG', quality=95, progressive=True), BGR, JPEG_ERROR),
        (encoded(RGB_IMAGE.convert('L'), 'JPEG', quality=95), GREY_BGR, JPEG_ERROR),
        # Pillow writes CMYK as Photoshop does: inverted, with Adobe's marker
        (encoded(RGB_IMAGE.convert('CMYK'), 'JPEG', quality=95), BGR, JPEG_ERROR + 2),
    ],
    ids=['baseline', 'progressive', 'grey', 'CMYK'],
)
def test_jpeg_kinds_load_right_and_as_cv2_loads_them(save, data, expected, error):
    path = save(data, 'picture.jpg')
    picture = reader.load_picture(path)
    np.testing.assert_array_equal(picture, cv2.imread(path))
    assert np.abs(picture.astype(int) - expected).max() <= error


# What must be done to the stored picture to see it upright (EXIF 2.3, tag 274)
UPRIGHT = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: np.rot90(p),
}


Image.init()  # loads all that can write
AVIF = pytest.param(
    'AVIF', marks=pytest.mark.skipif('AVIF' not in Image.SAVE, reason='before Pillow 11.3')
)


@pytest.mark.parametrize('orientation', UPRIGHT)
def test_exif_orientations_are_applied(save, orientation):
    path = save(with_orientation(orientation, quality=95))
    expected = UPRIGHT[orientation](BGR).astype(int)
    picture = reader.load_picture(path)
    np.testing.assert_array_equal(picture, cv2.imread(path))
    assert picture.shape == expected.shape
    assert np.abs(picture - expected).max() <= JPEG_ERROR


@pytest.mark.parametrize('orientation', UPRIGHT)
@pytest.mark.parametrize('kind', ['PNG', 'TIFF', 'WEBP', AVIF])
def test_exif_orientations_are_applied_once_in_every_kind(save, kind, orientation):
    options = {'WEBP': {'lossless': True}, 'AVIF': {'quality': 100, 'subsampling': '4:4:4'}}
    picture = reader.load_picture(
        save(with_orientation(orientation, kind, **options.get(kind, {})))
    )
    expected = UPRIGHT[orientation](BGR).astype(int)
    assert picture.shape == expected.shape
    assert np.abs(picture - expected).max() <= (JPEG_ERROR if kind == 'AVIF' else 0)


def test_damaged_exif_data_do_no_harm(save):
    data = with_orientation(6).replace(b'Exif\0\0MM\0*', b'Exif\0\0MM\0\0')
    data = data.replace(b'Exif\0\0II*\0', b'Exif\0\0II\0\0')
    assert b'\0\0\0\0' in data[:40] and reader.load_picture(save(data)).shape == BGR.shape


def test_exif_data_that_end_too_early_do_no_harm_and_are_not_warned_of(save):
    cut = b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\x08\0\0\x01\0\x06\0\0\0\0\0\0'
    path = save(encoded(RGB_IMAGE, 'JPEG', exif=cut))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter('always')
        assert reader.load_picture(path).shape == BGR.shape
    assert not warned


def test_a_black_drawing_on_a_transparent_ground_is_black_on_white(save):
    alpha = np.zeros((20, 20), np.uint8)
    alpha[5:10] = 255
    drawing = Image.merge('LA', [Image.new('L', (20, 20)), Image.fromarray(alpha)])
    for kind in ('PNG', 'WEBP', 'TIFF'):
        options = {'lossless': True} if kind == 'WEBP' else {}
        image = drawing.convert('RGBA') if kind == 'WEBP' else drawing
        picture = reader.load_picture(save(encoded(image, kind, **options)))
        np.testing.assert_array_equal(picture, np.dstack([255 - alpha] * 3))


def test_pillow_loads_the_same_where_opencv_cannot(save, monkeypatch):
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: None)
    for kind, (data, expected) in LOSSLESS.items():
        if 'PNG' not in kind and kind != 'PPM':
            np.testing.assert_array_equal(reader.load_picture(save(data)), expected)
    assert reader.load_picture(save(with_orientation(6))).shape == (90, 60, 3)
