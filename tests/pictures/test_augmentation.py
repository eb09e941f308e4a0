"""Augmentation: what a picture may become, and that nothing but the generator decides it."""

import numpy as np
import pytest

from pictures.augmentation import Augmentation, augment, change_colours, random_part

COLOURED = Augmentation(colour=0.2)
PLAIN = Augmentation(smallest=1, largest=1, aspect=1, mirror=0, colour=0)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def rng(*key):
    return np.random.default_rng(key)


def coordinates(height, width):
    """A picture whose pixels tell where they were: B is the column, G the row."""
    down, right = np.mgrid[:height, :width]
    return np.stack([right, down, 0 * right], axis=2).astype(np.uint8)


def test_the_same_generator_makes_the_same_view_and_another_another():
    picture = noise(120, 200)
    first, again = (augment(picture, rng(1, 2, 3), 227, COLOURED) for _ in range(2))
    assert first.shape == (227, 227, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    for key in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not np.array_equal(first, augment(picture, rng(*key), 227, COLOURED))


def test_the_picture_is_left_alone_and_the_view_is_not_a_part_of_it():
    picture = noise(64, 64)
    before = picture.copy()
    view = augment(picture, rng(0), 64, PLAIN)
    assert np.array_equal(view, picture)
    view[...] = 0
    augment(picture, rng(0), 64, COLOURED)
    assert np.array_equal(picture, before)


def test_parts_lie_in_the_picture_and_have_the_area_and_aspect_that_were_asked_for():
    how = Augmentation(smallest=0.35, largest=0.7, aspect=1.5)
    shares, aspects, corners = [], [], []
    for i in range(2000):
        left, top, width, height = random_part((300, 400), rng(i), how)
        assert 0 <= left <= left + width <= 400
        assert 0 <= top <= top + height <= 300
        shares.append(width * height / (300 * 400))
        aspects.append(width / height)
        corners.append((left, top))
    assert 0.345 < min(shares) < 0.37
    assert 0.67 < max(shares) < 0.705
    assert 0.65 < min(aspects) < 0.72
    assert 1.4 < max(aspects) < 1.52
    assert np.min(corners, axis=0).tolist() == [0, 0]
    assert len(set(corners)) > 1500


@pytest.mark.parametrize('shape', [(10, 3000), (3000, 10), (1, 500)])
def test_a_long_thin_picture_gives_squares_from_anywhere(shape):
    parts = [random_part(shape, rng(i), Augmentation()) for i in range(200)]
    assert {part[2:] for part in parts} == {(min(shape), min(shape))}
    starts = [max(part[:2]) for part in parts]
    assert min(starts) < 0.1 * max(shape)
    assert max(starts) > 0.9 * (max(shape) - min(shape))


@pytest.mark.parametrize('shape', [(1, 1), (1, 2), (2, 3)])
def test_the_smallest_pictures_work(shape):
    for i in range(50):
        assert augment(noise(*shape), rng(i), 33, COLOURED).shape == (33, 33, 3)


def test_half_of_the_views_are_mirrored():
    picture = coordinates(100, 200)
    views = [augment(picture, rng(i), 50) for i in range(400)]
    mirrored = [int(view[0, 0, 0]) > int(view[0, -1, 0]) for view in views]
    assert 150 < sum(mirrored) < 250
    assert all(int(view[0, 0, 1]) < int(view[-1, 0, 1]) for view in views)
    always = augment(picture, rng(5), 50, Augmentation(mirror=1))
    never = augment(picture, rng(5), 50, Augmentation(mirror=0))
    assert np.array_equal(always, never[:, ::-1])


def test_what_is_drawn_does_not_depend_on_the_picture():
    after = []
    for shape in ((40, 60), (10, 3000)):
        generator = rng(7)
        augment(noise(*shape), generator, 32)
        after.append(generator.random())
    assert after[0] == after[1]


def test_colours_are_changed_as_their_definitions_say():
    picture = noise(20, 30) // 4 + 90  # OpenCV's fixed point rounds 0.01 off
    assert np.array_equal(change_colours(picture, 1, 1, 1), picture)
    brighter = change_colours(picture, 1.2, 1, 1)
    assert np.abs(brighter - 1.2 * picture).max() <= 0.51
    grey = change_colours(picture, 1, 1, 0)
    assert np.abs(grey[..., 0] - picture @ [0.114, 0.587, 0.299]).max() <= 0.51
    assert np.array_equal(grey[..., 0], grey[..., 2])
    flat = change_colours(picture, 1, 0.5, 1)
    assert abs(flat.mean() - picture.mean()) < 2
    assert flat.std() == pytest.approx(picture.std() / 2, rel=0.03)


def test_colours_beyond_the_range_are_clipped_not_wrapped():
    picture = np.full((4, 4, 3), 250, np.uint8)
    assert change_colours(picture, 1.2, 1, 1).min() == 255
    assert change_colours(noise(50, 50), 1, 2, 1).min() == 0


def test_colour_stays_mild():
    picture = np.full((50, 50, 3), 128, np.uint8)
    means = [augment(picture, rng(i), 16, COLOURED).mean() for i in range(300)]
    assert 128 * 0.8 - 1 < min(means) < 128 * 0.84
    assert 128 * 1.16 < max(means) < 128 * 1.2 + 1


@pytest.mark.parametrize(
    'wrong',
    [
        {'smallest': 0},
        {'smallest': 0.9, 'largest': 0.5},
        {'largest': 1.5},
        {'aspect': 0.5},
        {'aspect': float('nan')},
        {'mirror': 1.5},
        {'colour': 1},
        {'colour': -0.1},
    ],
)
def test_impossible_amounts_are_refused(wrong):
    with pytest.raises(ValueError, match=r'\d|nan'):
        Augmentation(**wrong)
