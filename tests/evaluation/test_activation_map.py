"""Where a network looked: the map is conv10's, and lies where its pixels are."""

import numpy as np
import paddle
import pytest

import reader
from evaluation.activation_map import ActivationMaps, cell_centres
from models import model_io
from network.preprocessing import preprocessing_of

KINDS = [('1.1', 0, True), ('1.1', 0, False), ('1.0', 1, True)]


@pytest.mark.parametrize(('version', 'pad', 'relu'), KINDS)
def test_the_mean_of_a_map_is_the_logit(version, pad, relu, seeded_tensors, pixels):
    config = model_io.make_config(version, None, 10, pad, conv10_relu=relu)
    tensors = seeded_tensors(version)
    maps = ActivationMaps(tensors, config)
    network = model_io.build_network(tensors, config)
    network.eval()
    crop = pixels[0].astype(np.uint8)
    images = reader.network_input(crop[None], preprocessing_of(config))
    logits = network(paddle.to_tensor(images)).numpy()[0]
    means = [maps.map(crop, number).mean() for number in range(10)]
    assert means == pytest.approx(logits.tolist(), rel=1e-4, abs=1e-4)
    assert relu or min(maps.map(crop, number).min() for number in range(10)) < 0


def test_centres_of_the_cells():
    assert cell_centres('1.1') == (15, 16)
    assert cell_centres('1.0') == (17, 16)
    assert cell_centres('1.0', conv10_pad=1) == (1, 16)


@pytest.mark.parametrize(('version', 'pad', 'relu'), KINDS)
@pytest.mark.parametrize('place', [(60, 170), (140, 75)])
def test_what_changes_in_the_picture_changes_the_map_there(
    version, pad, relu, place, seeded_tensors
):
    maps = ActivationMaps(
        seeded_tensors(version), model_io.make_config(version, None, 10, pad, conv10_relu=relu)
    )
    grey = np.full((227, 227, 3), 117, np.uint8)
    marked = grey.copy()
    row, column = place
    marked[row - 8 : row + 8, column - 8 : column + 8] = np.random.default_rng(0).integers(
        0, 256, (16, 16, 3)
    )
    change = sum(np.abs(maps.map(marked, n) - maps.map(grey, n)) for n in range(10))
    first, step = maps.centres
    weights = change / change.sum()
    centres = first + step * np.arange(len(change))
    assert (weights.sum(1) @ centres, weights.sum(0) @ centres) == pytest.approx(place, abs=12)


def test_an_overlay_is_coloured_where_the_map_is_high(seeded_tensors, pixels):
    maps = ActivationMaps(seeded_tensors('1.1'), model_io.make_config('1.1', None, 10))
    crop = np.full_like(pixels[0], 117).astype(np.uint8)
    crop[:80, :80] = pixels[0][:80, :80]
    number = max(range(10), key=lambda n: np.ptp(maps.map(crop, n)))
    overlay, values = maps.overlay(crop, number), maps.map(crop, number)
    changed = np.abs(overlay.astype(int) - crop).sum(axis=2)
    first, step = maps.centres
    at = (first + step * np.arange(len(values))).astype(int)
    assert overlay.dtype == np.uint8
    assert overlay.shape == crop.shape
    high = np.unravel_index(values.argmax(), values.shape)
    low = np.unravel_index(values.argmin(), values.shape)
    assert changed[at[low[0]], at[low[1]]] == 0
    assert changed[at[high[0]], at[high[1]]] > 100
