"""What the cache gives is what would be made anew, within its limit, by however many processes."""

import os
from functools import partial

import cv2
import numpy as np
import pytest

import reader
from network.preprocessing import Preprocessing
from pictures import cache
from pictures.augmentation import Augmentation
from pictures.cache import PictureCache
from pictures.decoding import PictureError, load_picture
from pictures.lists import read_list

SHORT = Preprocessing()
PIXELS = 300 * 280 * 3  # bytes of each picture here


@pytest.fixture
def pictures(tmp_path):
    """A list of five JPEGs of noise."""
    for i in range(5):
        picture = np.random.default_rng(i).integers(0, 256, (300, 280, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f'{i}.jpg'), picture)
    (tmp_path / 'list.txt').write_text(''.join(f'{i}.jpg {i}\n' for i in range(5)))
    return read_list(tmp_path / 'list.txt')


@pytest.fixture
def kept(tmp_path):
    return PictureCache(tmp_path / 'cache', 10**8)


def no_load(path, short_side):
    raise AssertionError('it was decoded again')


no_load.__name__ = 'load_picture'


def test_a_picture_is_decoded_once(pictures, kept):
    path = pictures.path(0)
    first = kept.kept(load_picture, path, None)
    again = kept.kept(no_load, path, None)
    assert again.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    with pytest.raises(AssertionError):
        kept.kept(no_load, path, 100)  # at another scale it is another picture


def test_a_picture_that_has_changed_is_decoded_again(pictures, kept):
    path = pictures.path(0)
    kept.kept(load_picture, path, None)
    os.utime(path, ns=(1, 1))
    with pytest.raises(AssertionError):
        kept.kept(no_load, path, None)


@pytest.mark.parametrize('num_workers', [0, 3])
def test_batches_are_the_same_with_and_without_it(pictures, kept, num_workers):
    sampling = reader.Sampling(2, 5, 'area', augmentation=Augmentation(colour=0.2))

    def epochs(load):
        return [
            crops
            for epoch in range(3)
            for crops, _ in reader.train_loader(
                pictures, SHORT, sampling, epoch, num_workers=num_workers, load=load
            )
        ]

    with_it = epochs(partial(kept.kept, load_picture))
    np.testing.assert_array_equal(with_it, epochs(load_picture))
    assert len(list(kept.folder.glob('*.pixels'))) == len(pictures)


def test_it_stays_within_its_limit(pictures, tmp_path):
    small = PictureCache(tmp_path / 'cache', 2.5 * PIXELS)
    found = [small.kept(load_picture, pictures.path(i), None) for i in range(5)]
    assert len(list(small.folder.glob('*.pixels'))) == 2
    for i, picture in enumerate(found):
        np.testing.assert_array_equal(picture, load_picture(pictures.path(i)))


def test_it_leaves_room_on_the_disk(pictures, kept, monkeypatch):
    monkeypatch.setattr(cache, 'LEFT_FREE', 1 << 60)
    assert kept.kept(load_picture, pictures.path(0), None).shape == (300, 280, 3)
    assert not list(kept.folder.glob('*.pixels'))


def test_where_it_cannot_be_written_pictures_are_decoded(pictures, tmp_path):
    nowhere = PictureCache(tmp_path / 'no' / 'folder', 10**8)
    assert nowhere.kept(load_picture, pictures.path(0), None).shape == (300, 280, 3)
    assert not nowhere.folder.exists()


def test_a_file_that_was_damaged_is_made_again(pictures, kept):
    kept.kept(load_picture, pictures.path(0), None)
    (file,) = kept.folder.glob('*.pixels')
    file.write_bytes(file.read_bytes()[:1000])
    picture = kept.kept(load_picture, pictures.path(0), None)
    np.testing.assert_array_equal(picture, load_picture(pictures.path(0)))


def test_bad_and_missing_pictures_are_named_as_ever(kept, tmp_path):
    (tmp_path / 'bad.jpg').write_bytes(b'\xff\xd8 nothing')
    for name, words in (('bad.jpg', 'cannot decode'), ('none.jpg', 'No such file')):
        with pytest.raises(PictureError, match=f'{name}: {words}'):
            kept.kept(load_picture, tmp_path / name, None)


def test_clearing_deletes_its_own_files_alone(pictures, kept):
    kept.kept(load_picture, pictures.path(0), None)
    (written,) = kept.folder.glob('*.pixels')
    written.with_name(f'.{written.name}.0123.partial').write_bytes(b'of a killed process')
    mine = [kept.folder / name for name in ('my.pixels', '.mine.partial')]
    for path in mine:
        path.write_text('mine')
    kept.clear()
    assert set(kept.folder.iterdir()) == set(mine)
    for path in mine:
        path.unlink()
    kept.clear()
    assert not kept.folder.exists()
