"""Pictures are resized and cropped to the pixel, and batches do not depend on workers.

An epoch takes every picture once, in an order of its own, however it is divided or continued.
"""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from sample_pictures import (
    RGB_IMAGE,
    encoded,
    save_fixture,  # noqa: F401 - a fixture
)

import reader
from network.preprocessing import Preprocessing
from pictures.lists import read_list

SHORT = Preprocessing()
ROOT = Path(__file__).resolve().parents[2]


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
        np.testing.assert_array_equal(reader.crop_at(picture, which, 227), expected)


def test_preprocess_names_the_file_that_is_too_small(save):
    path = save(encoded(RGB_IMAGE, 'PNG'))
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
                crops = [reader.crop_at(resized, which, 227) for which in range(5)]
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
