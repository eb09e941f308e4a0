"""The network in NumPy gives what Paddle Inference gives, whatever the network and the pictures."""

import numpy as np
import pytest

from models.inference import Predictor, build_program
from network import architecture
from network.config import make_config
from network.numpy_network import NumpyNetwork
from network.preprocessing import Preprocessing

TOLERANCE = 1e-5  # of the largest logit; sums in another order reach 3e-6


def logits_both_ways(tensors, config, count=2):
    size = config['preprocessing']['crop']
    random = np.random.default_rng(size)
    images = random.uniform(-120, 140, (count, 3, size, size)).astype(np.float32)
    by_paddle = Predictor(build_program(tensors, config))(images)
    return NumpyNetwork(tensors, config)(images), by_paddle


def assert_same(found, expected):
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()
    assert np.ptp(expected) > 0


@pytest.mark.parametrize('version', architecture.VERSIONS)
@pytest.mark.parametrize('bypass', architecture.BYPASSES)
@pytest.mark.parametrize('conv10', [(0, True), (1, True), (0, False)])
def test_logits_are_those_of_paddle(version, bypass, conv10, seeded_tensors):
    pad, relu = conv10
    config = make_config(version, bypass, 10, pad, conv10_relu=relu)
    assert_same(*logits_both_ways(seeded_tensors(version, bypass), config))


@pytest.mark.parametrize('version', architecture.VERSIONS)
@pytest.mark.parametrize('size', [30, 31, 32, 33, 100, 224, 301])
def test_pictures_may_have_other_sizes(version, size, seeded_tensors):
    """Of every remainder by 4: poolings round up, convolutions down."""
    preprocessing = Preprocessing(resize_size=size, crop=size)
    config = make_config(version, 'simple', 10, preprocessing=preprocessing)
    assert_same(*logits_both_ways(seeded_tensors(version), config))


@pytest.mark.parametrize('class_num', [1, 2, 1000])
def test_classes_may_be_any_number(class_num, seeded_tensors):
    config = make_config('1.1', None, class_num, conv10_relu=False)
    assert_same(*logits_both_ways(seeded_tensors('1.1', class_num=class_num), config))


def test_a_picture_gives_the_same_bits_in_any_company(seeded_tensors, images):
    network = NumpyNetwork(seeded_tensors('1.1'), make_config('1.1', None, 10))
    alone, together = network(images[1:]), network(images[[0, 1, 1]])
    assert (together[1:] == alone).all()
    assert (together[0] != alone).any()
