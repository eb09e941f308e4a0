"""The walk's own forward pass is the network's, and moments are what they say."""

import numpy as np
import pytest

from models.model_io import build_network, make_config
from network import architecture, numpy_network
from quantisation import layerwise

SIZE = 79  # pixels; enough for every layer, and quick


@pytest.fixture(scope='module')
def small_images():
    return np.random.default_rng(0).uniform(-120, 120, (2, 3, SIZE, SIZE)).astype(np.float32)


@pytest.mark.parametrize('version', architecture.VERSIONS)
@pytest.mark.parametrize('bypass', architecture.BYPASSES)
def test_walk_computes_what_the_network_computes(seeded_tensors, version, bypass, small_images):
    tensors = seeded_tensors(version, bypass)
    config = make_config(version, bypass, 10, conv10_pad=1)
    met = {}

    def choose(conv, wanted, given):
        assert wanted is given
        met[conv.name] = wanted
        return tensors[f'{conv.name}.weight'], tensors[f'{conv.name}.bias']

    layerwise.walk(tensors, config, small_images, choose)
    weights = [name for name in tensors if name.endswith('.weight')]
    assert [f'{name}.weight' for name in met] == weights
    import paddle

    network = build_network(tensors, config)
    network.eval()
    with paddle.no_grad():
        features = network.features(paddle.to_tensor(small_images)).numpy()
    found = met['conv10'].transpose(0, 3, 1, 2)
    assert np.allclose(found, features, rtol=1e-4, atol=1e-4 * np.abs(features).max())
    conv10 = numpy_network.convolutions(config)['conv10']
    assert (conv10.padding, conv10.relu) == (1, True)


def test_two_networks_walk_side_by_side(seeded_tensors, small_images):
    """`given` follows what was chosen, `wanted` the network as it was."""
    tensors = seeded_tensors('1.1')
    inputs = {}

    def choose(conv, wanted, given):
        inputs[conv.name] = wanted, given
        return 2 * tensors[f'{conv.name}.weight'], 2 * tensors[f'{conv.name}.bias']

    layerwise.walk(tensors, make_config('1.1', None, 10), small_images, choose)
    assert inputs['conv1'][0] is inputs['conv1'][1]
    wanted, given = inputs['fire2.squeeze1x1']
    assert np.allclose(given, 2 * wanted, rtol=1e-4)
    wanted, given = inputs['conv10']
    assert given.mean() > 50 * wanted.mean()


def test_moments_are_of_the_columns_in_the_weights_order():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3, 5, 5, 4)).astype(np.float32)
    weight = rng.standard_normal((6, 4, 3, 3)).astype(np.float32)
    known = weight.reshape(6, -1), rng.standard_normal(6).astype(np.float32)
    conv = numpy_network.Conv('fire2.expand3x3', 3, 1, 1, False)
    places = rng.uniform(0, 1, (3, 5, 5)).astype(np.float32)
    found = layerwise.moments(conv, x, x, known, places, np.random.default_rng(0))
    outputs = numpy_network.convolve(x, weight, known[1], conv)
    columns = numpy_network.columns(x, conv).reshape(3, 5, 5, 9, 4)
    columns = columns.transpose(0, 1, 2, 4, 3).reshape(75, 36)
    columns = np.concatenate([columns, np.ones((75, 1))], axis=1)
    weights = places.reshape(75, 1) / places.sum()
    assert np.allclose(found.inputs, columns.T @ (columns * weights), atol=1e-5)
    assert np.allclose(found.outputs, outputs.reshape(75, 6).T @ (columns * weights), atol=1e-5)
    # pooled: the places' mean of each picture first
    pooled = layerwise.pooled_moments(conv, x, x, known, places)
    share = places.reshape(3, 25, 1) / places.reshape(3, 25, 1).sum(axis=1, keepdims=True)
    means = (columns.reshape(3, 25, 37) * share).sum(axis=1)
    mass = places.reshape(3, 25).sum(axis=1) / places.sum()
    assert np.allclose(pooled.inputs, means.T @ (means * mass[:, None]), atol=1e-5)
