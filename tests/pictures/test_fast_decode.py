"""At a reduced scale a big JPEG is nearly the same picture, as strictly read; a small one stays.

The big pictures are one of the project's photos, enlarged.
"""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

import reader
from common.files import DATA
from network.preprocessing import Preprocessing
from pictures.augmentation import Augmentation, random_part
from pictures.decoding import PictureError, decode_picture
from pictures.lists import read_list

SHORT = Preprocessing()
PHOTO = cv2.imread(str(DATA / 'photos' / 'grace_hopper.jpg'))  # 600x512


def photo(height, width):
    return Image.fromarray(cv2.resize(PHOTO, (width, height))[..., ::-1])


def jpeg(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', quality=92, **options)
    return buffer.getvalue()


BIG = photo(1400, 1200)


def mean_difference(a, b):
    return np.abs(a.astype(int) - b).mean()


@pytest.mark.parametrize(
    ('size', 'expected'),
    [
        ((375, 500), (375, 500)),
        ((1300, 1023), (1300, 1023)),
        ((1300, 1024), (650, 512)),
        ((1301, 1025), (651, 513)),
        ((2047, 2100), (1024, 1050)),
        ((2048, 2100), (512, 525)),
        ((4100, 4097), (513, 513)),
        ((9000, 8200), (1125, 1025)),
    ],
)
def test_the_scale_is_the_smallest_that_leaves_enough(size, expected):
    data = jpeg(Image.new('L', size[::-1], 'grey'))
    assert decode_picture(data, short_side=512).shape == (*expected, 3)


def test_small_pictures_and_other_kinds_keep_their_bits(tmp_path):
    (tmp_path / 'small.jpg').write_bytes(jpeg(photo(1100, 1023)))
    BIG.save(tmp_path / 'big.png', compress_level=1)
    for path in tmp_path.iterdir():
        fast = reader.preprocess(path, SHORT, fast_decode=True)
        np.testing.assert_array_equal(fast, reader.preprocess(path, SHORT))


def test_without_resizing_all_pixels_are_decoded(tmp_path):
    none = Preprocessing(resize='none')
    (tmp_path / 'big.jpg').write_bytes(jpeg(BIG))
    fast = reader.preprocess(tmp_path / 'big.jpg', none, fast_decode=True)
    np.testing.assert_array_equal(fast, reader.preprocess(tmp_path / 'big.jpg', none))


def test_evaluation_sees_nearly_the_same(tmp_path):
    (tmp_path / 'big.jpg').write_bytes(jpeg(BIG))
    full = reader.preprocess(tmp_path / 'big.jpg', SHORT)
    fast = reader.preprocess(tmp_path / 'big.jpg', SHORT, fast_decode=True)
    assert 0 < mean_difference(fast, full) < 3


@pytest.mark.parametrize('kind', ['L', 'RGB', 'CMYK', 'progressive'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_every_jpeg_is_turned_upright_at_a_reduced_scale_too(kind, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    image = BIG if kind == 'progressive' else BIG.convert(kind)
    data = jpeg(image, exif=exif, progressive=kind == 'progressive')
    full, half = decode_picture(data), decode_picture(data, short_side=600)
    assert half.shape == (full.shape[0] // 2, full.shape[1] // 2, 3)
    area = cv2.resize(full, half.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert mean_difference(half, area) < 2


@pytest.mark.parametrize('short_side', [None, 600, 300, 150])
def test_no_scale_hides_a_hole(short_side):
    data = jpeg(BIG)
    middle = len(data) // 2
    assert decode_picture(data[:-2], short_side).shape[2] == 3  # its end marker alone is missing
    for damaged in (
        data[:middle],
        data[:middle] + data[middle + 2000 :],
        data[:middle] + bytes(2000) + data[middle + 2000 :],
    ):
        with pytest.raises(PictureError, match=r'truncated|damaged'):
            decode_picture(damaged, short_side)


def test_no_scale_admits_what_is_too_large():
    data = bytearray(jpeg(BIG))
    at = data.find(b'\xff\xc0')
    data[at + 5 : at + 9] = b'\xc3\x50\xc3\x50'
    with pytest.raises(PictureError, match='50000x50000'):
        decode_picture(bytes(data), short_side=512)


@pytest.mark.parametrize('width', [444, 500, 600])
def test_no_part_of_a_picture_with_the_short_side_is_smaller_than_the_crop(width):
    rng, how = np.random.default_rng(0), Augmentation()
    assert how.short_side(227) == 444
    sides = [random_part((444, width), rng, how)[2:] for _ in range(2000)]
    assert 227 <= np.min(sides) < 280


def test_training_reduces_less_than_evaluation_where_its_parts_are_small():
    def short_side(preprocessing=SHORT, **options):
        sampling = reader.Sampling(1, augmentation=Augmentation(), **options)
        return sampling.short_side(preprocessing)

    assert short_side() is None
    assert short_side(crop='five', fast_decode=True) == 512 == reader.reduced_side(SHORT)
    assert short_side(crop='area', fast_decode=True) == 888
    assert short_side(Preprocessing(resize='none'), crop='area', fast_decode=True) is None


@pytest.mark.parametrize('crop', ['area', 'five', 'random'])
def test_training_sees_nearly_the_same_parts(tmp_path, crop):
    (tmp_path / 'big.jpg').write_bytes(jpeg(photo(2000, 1800)))
    (tmp_path / 'list.txt').write_text('big.jpg 0\n' * 4)
    pictures, found = read_list(tmp_path / 'list.txt'), []
    for fast in False, True:
        sampling = reader.Sampling(
            4, crop=crop, mirror=True, augmentation=Augmentation(), fast_decode=fast
        )
        ((crops, _),) = reader.train_loader(pictures, SHORT, sampling, epoch=0)
        found.append(crops)
    assert 0 < mean_difference(*found) < 3
