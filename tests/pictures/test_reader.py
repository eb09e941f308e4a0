"""Pictures load as OpenCV loads them, broken ones are named, and batches do not depend on workers.

Every file is made here, by OpenCV or Pillow, so that the expected pixels are known.
"""

import io
import os
import struct
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import reader
from network.preprocessing import Preprocessing
from pictures.lists import read_list

SHORT = Preprocessing()
ROOT = Path(__file__).resolve().parents[2]

# A smooth BGR picture, so that JPEG changes it little
ROWS, COLUMNS = np.mgrid[:60, :90]
BGR = np.stack([ROWS * 4, COLUMNS * 2, 255 - ROWS - COLUMNS], axis=-1).astype(np.uint8)
Image.init()
RGB_IMAGE = Image.fromarray(np.ascontiguousarray(BGR[..., ::-1]))
GREY = np.array(RGB_IMAGE.convert('L'))
JPEG_ERROR = 6  # largest difference that quality 95 leaves in this picture


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


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
PALETTE = RGB_IMAGE.quantize(32)
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


@pytest.fixture
def save(tmp_path):
    def save(data, name='picture'):
        path = tmp_path / name
        path.write_bytes(data)
        return str(path)

    return save


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


@pytest.mark.parametrize('orientation', UPRIGHT)
def test_exif_orientations_are_applied(save, orientation):
    path = save(with_orientation(orientation, quality=95))
    expected = UPRIGHT[orientation](BGR).astype(int)
    picture = reader.load_picture(path)
    np.testing.assert_array_equal(picture, cv2.imread(path))
    assert picture.shape == expected.shape
    assert np.abs(picture - expected).max() <= JPEG_ERROR


@pytest.mark.parametrize('orientation', UPRIGHT)
@pytest.mark.parametrize('kind', ['PNG', 'TIFF', 'WEBP', 'AVIF'])
def test_exif_orientations_are_applied_once_in_every_kind(save, kind, orientation):
    if kind == 'AVIF' and 'AVIF' not in Image.SAVE:
        pytest.skip('this Pillow writes no AVIF')
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
        (b'<html>404</html>', 'no kind of picture'),
        (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n', 'no kind of picture'),
        (encoded(Image.fromarray(np.ones((9, 9), np.float32)), 'TIFF'), '32-bit pixels'),
        (cv2.imencode('.tiff', np.ones((9, 9, 3), np.float32))[1].tobytes(), 'such as floats'),
        (b'\0\0\0\x18ftypheic' + bytes(99), 'HEIC is not read; save the picture as JPEG'),
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


def noise(height, width, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ('height', 'width', 'new_size'),
    [
        (300, 400, (341, 256)),
        (400, 300, (256, 341)),
        (375, 500, (341, 256)),
        (100, 100, (256, 256)),
        (256, 300, (300, 256)),
        (1000, 513, (256, 499)),
        (2, 601, (76928, 256)),
    ],
)
def test_short_side_resize_and_centre_crop_to_the_pixel(height, width, new_size):
    picture = noise(height, width)
    resized = reader.resize(picture, SHORT)
    expected = cv2.resize(picture, new_size, interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(resized, expected)
    top, left = (new_size[1] - 227) // 2, (new_size[0] - 227) // 2
    crop = expected[top : top + 227, left : left + 227]
    np.testing.assert_array_equal(reader.centre_crop(resized, 227), crop)


def test_warp_and_none():
    picture = noise(230, 300)
    expected = cv2.resize(picture, (256, 256), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(reader.resize(picture, Preprocessing('warp')), expected)
    assert reader.resize(picture, Preprocessing('none')) is picture
    with pytest.raises(reader.PictureError, match='300x226 pixels; without resizing'):
        reader.resize(picture[:226], Preprocessing('none'))


def test_a_picture_too_long_and_thin_is_refused():
    with pytest.raises(reader.PictureError, match='1x10000 pixels are too long and thin'):
        reader.resize(noise(10_000, 1), SHORT)


def test_five_crops_are_the_corners_and_the_centre():
    picture = noise(256, 301)
    starts = [(0, 0), (0, 74), (29, 0), (29, 74), (14, 37)]
    for which, (top, left) in enumerate(starts):
        expected = picture[top : top + 227, left : left + 227]
        np.testing.assert_array_equal(reader.five_crop(picture, which, 227), expected)


def test_preprocess_names_the_file_that_is_too_small(save):
    path = save(LOSSLESS['RGB PNG'][0])
    assert reader.preprocess(path, SHORT).shape == (227, 227, 3)
    with pytest.raises(reader.PictureError, match=f'^{path}: 90x60 pixels'):
        reader.preprocess(path, Preprocessing('none'))


def test_subtract_mean():
    batch = np.stack([noise(227, 227, 1), noise(227, 227, 2)])
    images = reader.network_input(batch, Preprocessing())
    assert images.dtype == np.float32
    assert images.flags.c_contiguous
    expected = batch.astype(np.float32).transpose(0, 3, 1, 2) - np.float32(
        [[[104]], [[117]], [[123]]]
    )
    np.testing.assert_array_equal(images, expected)


COUNT = 11


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    """A list of 11 pictures with labels 0 to 10."""
    folder = tmp_path_factory.mktemp('pictures')
    for i in range(COUNT):
        cv2.imwrite(str(folder / f'{i}.png'), noise(40, 50, i))
    (folder / 'list.txt').write_text(''.join(f'{i}.png {i}\n' for i in range(COUNT)))
    return read_list(folder / 'list.txt')


def assert_same(batches, expected):
    batches, expected = list(batches), list(expected)
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected):
        for array, wanted in zip(batch, other):
            assert array.dtype == wanted.dtype
            np.testing.assert_array_equal(array, wanted)


def train_batches(pictures, batch_size=2, epoch=0, start=0, num_workers=0, **options):
    sampling = reader.Sampling(batch_size, seed=5, mirror=True, **options)
    return list(reader.train_loader(pictures, SHORT, sampling, epoch, start, num_workers))


def test_batches_do_not_depend_on_the_number_of_workers(pictures):
    training = train_batches(pictures)
    warp = Preprocessing('warp')
    evaluation = list(reader.eval_loader(pictures, warp, 4))
    for num_workers in 1, 3:
        assert_same(train_batches(pictures, num_workers=num_workers), training)
        assert_same(
            reader.eval_loader(pictures, Preprocessing('warp'), 4, num_workers=num_workers),
            evaluation,
        )


def test_training_batches_are_crops_of_their_pictures(pictures):
    seen = set()
    for epoch in range(4):
        for images, labels in train_batches(pictures, epoch=epoch):
            assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
            for image, label in zip(images, labels):
                resized = reader.resize(reader.load_picture(pictures.path(label)), SHORT)
                crops = [reader.five_crop(resized, which, 227) for which in range(5)]
                crops += [crop[:, ::-1] for crop in crops]
                seen.add([np.array_equal(image, crop) for crop in crops].index(True))
    assert seen == set(range(10))


def test_without_mirror_there_are_five_crops_and_each_epoch_has_its_own():
    indices, crops = reader.epoch_order(1000, 1000, seed=1, epoch=0, crops=5)
    assert sorted(indices) == list(range(1000))
    assert set(crops) == set(range(5))
    for seed, epoch in (1, 1), (2, 0):
        others, other_crops = reader.epoch_order(1000, 1000, seed, epoch, crops=5)
        assert (others != indices).any()
        assert (other_crops != crops).any()


def views(pictures, **options):
    batches = reader.train_loader(pictures, SHORT, reader.Sampling(4, **options), 0)
    return np.concatenate([images for images, _ in batches])


def test_random_crops_are_parts_of_the_resized_picture_anywhere(pictures):
    """As Caffe's training crops; the picture is as it was resized, the place is drawn."""
    seen = set()
    for seed in range(3):
        indices, _ = reader.Sampling(4, seed, 'random').positions(COUNT, 0)
        for image, index in zip(views(pictures, seed=seed, crop='random'), indices):
            whole = reader.resize(reader.load_picture(pictures.path(index)), SHORT)
            windows = np.lib.stride_tricks.sliding_window_view(whole, (227, 227, 3))
            found = np.argwhere((windows[:, :, 0, 0, 0] == image[0, 0]).all(axis=-1))
            places = [(y, x) for y, x in found if (whole[y : y + 227, x : x + 227] == image).all()]
            assert places
            seen.update(places)
    assert len(seen) > 20


@pytest.mark.parametrize('crop', ['random', 'area'])
def test_drawn_views_depend_on_seed_epoch_and_position_alone(pictures, crop):
    augmentation = reader.Augmentation() if crop == 'area' else None
    how = {'seed': 3, 'crop': crop, 'mirror': True, 'augmentation': augmentation}
    whole = reader.train_loader(pictures, SHORT, reader.Sampling(4, **how), 1)
    whole = [images for images, _ in whole]
    workers_ = reader.train_loader(pictures, SHORT, reader.Sampling(4, **how), 1, num_workers=2)
    later = reader.train_loader(pictures, SHORT, reader.Sampling(4, **how), 1, start=1)
    halves = [
        [images for images, _ in reader.train_loader(pictures, SHORT, half, 1)]
        for half in (reader.Sampling(2, **how, rank=rank, world=2) for rank in range(2))
    ]
    for images, (others, _) in zip(whole, workers_):
        assert np.array_equal(images, others)
    assert np.array_equal(next(later)[0], whole[1])
    for images, first, second in zip(whole, *halves):
        assert np.array_equal(images, np.concatenate([first, second]))
    other_epoch = reader.train_loader(pictures, SHORT, reader.Sampling(4, **how), 2)
    assert not np.array_equal(next(other_epoch)[0], whole[0])


def test_an_epoch_is_filled_up_to_whole_iterations(pictures):
    assert reader.Sampling(2, world=2, iter_size=2).iterations(COUNT) == 2
    labels = np.concatenate([labels for _, labels in train_batches(pictures, 4)])
    assert len(labels) == 12
    assert sorted(labels[:COUNT]) == list(range(COUNT))
    assert labels[COUNT] == labels[0]
    assert [len(labels) for _, labels in train_batches(pictures, 32)] == [32]


def test_two_ranks_see_together_what_one_of_twice_the_batch_sees(pictures):
    whole = train_batches(pictures, 4, iter_size=2)
    ranks = [train_batches(pictures, 2, rank=r, world=2, iter_size=2) for r in range(2)]
    both = [[np.concatenate(pair) for pair in zip(*halves)] for halves in zip(*ranks)]
    assert_same(both, whole)


def test_start_continues_an_epoch_where_it_was_left(pictures):
    whole = train_batches(pictures, 2, iter_size=2)
    assert_same(train_batches(pictures, 2, iter_size=2, start=2), whole[4:])
    assert train_batches(pictures, 2, iter_size=2, start=3, num_workers=1) == []


@pytest.mark.parametrize('world', [1, 3, 13])
def test_evaluation_takes_every_picture_once(pictures, world):
    seen = []
    for rank in range(world):
        for indices, images, labels in reader.eval_loader(
            pictures, SHORT, 3, np.arange(rank, COUNT, world)
        ):
            seen.extend(indices)
            np.testing.assert_array_equal(indices, labels)
            expected = reader.preprocess(pictures.path(indices[0]), SHORT)
            np.testing.assert_array_equal(images[0], expected)
    assert sorted(seen) == list(range(COUNT))


def brightness(indices, images, labels):
    return indices, images.mean(axis=(1, 2, 3))


def test_work_is_done_where_the_pictures_are_read(pictures):
    here = list(reader.eval_loader(pictures, SHORT, 4, work=brightness))
    assert_same(reader.eval_loader(pictures, SHORT, 4, num_workers=2, work=brightness), here)
    assert here[0][1].shape == (4,)


@pytest.mark.parametrize('num_workers', [0, 2])
@pytest.mark.parametrize('name', ['gone.png', 'broken.jpg'])
def test_a_bad_picture_names_its_list_line(pictures, num_workers, name):
    folder = Path(pictures.data_dir)
    (folder / 'broken.jpg').write_bytes(encoded(RGB_IMAGE, 'JPEG')[:700])
    text = (folder / 'list.txt').read_text().replace('7.png', name)
    (folder / 'bad.txt').write_text(text)
    bad = read_list(folder / 'bad.txt')
    with pytest.raises(reader.PictureError) as error:
        list(reader.eval_loader(bad, SHORT, 2, num_workers=num_workers))
    assert str(error.value).startswith(f'{folder}/bad.txt, line 8: {folder}/{name}: ')
    assert len(str(error.value).splitlines()) == 1


def test_pictures_need_no_paddle():
    code = 'import reader, sys; sys.exit("paddle" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT).returncode == 0
