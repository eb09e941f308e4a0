"""Every blob of seven networks as real Caffe computes it, in dygraph; and what Paddle Inference and
NumPy make of them."""

import tempfile

import numpy as np
import paddle
import pytest

from models import model_io
from models.inference import Predictor, build_program
from network import architecture
from network.numpy_network import NumpyNetwork
from squeezenet import blobs

TOLERANCE = 1e-5  # of a blob's own largest value; float32 sums in another order reach 3e-6
OFFICIAL = ('official_v1.1', '1.1', None)
NETS = [OFFICIAL] + [
    (f'seeded_v{version}_{bypass or "none"}', version, bypass)
    for version in architecture.VERSIONS
    for bypass in architecture.BYPASSES
]
each_net = pytest.mark.parametrize('net', NETS, ids=[net[0] for net in NETS])


@pytest.fixture(scope='session')
def model_of(official_tensors, seeded_tensors):
    """Function (net of NETS) -> (tensors, config)."""

    def model_of(net):
        _, version, bypass = net
        if net == OFFICIAL:
            return official_tensors, model_io.make_config(version, bypass, 1000)
        return seeded_tensors(version, bypass), model_io.make_config(version, bypass, 10)

    return model_of


@pytest.fixture(scope='session')
def caffe(activations):
    """Function (net name, blob) -> {field: array} of the golden data."""
    fields = ('shape', 'index', 'value', 'sum_l2_max')
    return lambda name, blob: {field: activations[f'{name}|{blob}|{field}'] for field in fields}


def assert_equal(found, golden, where):
    """`found` is the golden blob: its shape, the sampled positions, and the norms over all."""
    assert found.dtype == np.float32, where
    assert found.shape == tuple(golden['shape']), where
    _, l2, largest = golden['sum_l2_max']
    error = np.abs(found.ravel()[golden['index']] - golden['value']).max() / largest
    assert error < TOLERANCE, where
    assert np.linalg.norm(found.astype(np.float64)) == pytest.approx(l2, rel=TOLERANCE), where
    assert found.max() == pytest.approx(largest, rel=TOLERANCE), where


@each_net
def test_every_blob_is_caffes(net, model_of, images, activations, caffe):
    found = blobs(model_io.build_network(*model_of(net)), images)
    in_caffe = {blob for name, blob, _ in (key.split('|') for key in activations) if name == net[0]}
    assert set(found) == in_caffe
    for blob in found:
        assert_equal(found[blob], caffe(net[0], blob), blob)


def by_paddle(tensors, config, end_layer=None):
    return Predictor(build_program(tensors, config, end_layer))


each_way = pytest.mark.parametrize('network', [by_paddle, NumpyNetwork])


@each_way
@each_net
def test_logits_and_probabilities_are_caffes(network, net, model_of, images, caffe):
    logits = network(*model_of(net))(images)
    assert_equal(logits[:, :, None, None], caffe(net[0], 'pool10'), 'pool10')
    prob = np.exp(logits - logits.max(axis=1, keepdims=True))
    prob /= prob.sum(axis=1, keepdims=True)
    assert_equal(prob[:, :, None, None], caffe(net[0], 'prob'), 'prob')


@each_way
@pytest.mark.parametrize(
    ('net', 'end_layer', 'blob'),
    [
        (OFFICIAL, 'conv1', 'conv1'),
        (OFFICIAL, 'fire5', 'fire5/concat'),
        (OFFICIAL, 'pool5', 'pool5'),
        (OFFICIAL, 'fire9', 'fire9/concat'),
        (OFFICIAL, 'conv10', 'conv10'),
        (('seeded_v1.0_simple', '1.0', 'simple'), 'fire4', 'fire4/concat'),
        (('seeded_v1.0_complex', '1.0', 'complex'), 'fire5', 'fire5/bypass'),
        (('seeded_v1.1_complex', '1.1', 'complex'), 'fire8', 'fire8/bypass'),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else value,
)
def test_network_that_ends_at_a_layer_gives_caffes_blob(
    network, net, end_layer, blob, model_of, images, caffe
):
    found = network(*model_of(net), end_layer=end_layer)(images)
    assert_equal(found, caffe(net[0], blob), blob)


def test_paddle_inference_takes_batches_of_any_size(model_of, images):
    predictor = Predictor(build_program(*model_of(OFFICIAL)))
    together = predictor(images)
    single = predictor(images[1:])
    six = predictor(np.concatenate([images] * 3))
    np.testing.assert_allclose(single, together[1:], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(six, np.concatenate([together] * 3), rtol=1e-5, atol=1e-4)


def test_building_and_loading_leave_dynamic_mode_and_no_files(
    model_of, images, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    Predictor(build_program(*model_of(OFFICIAL)))(images)
    assert paddle.in_dynamic_mode()
    assert not list(tmp_path.iterdir())
