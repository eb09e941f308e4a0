"""The network: its size, its parameters and fillers, what it accepts, and its dropout."""

import math

import numpy as np
import paddle
import pytest

from network import architecture
from squeezenet import Fire, SqueezeNet, blobs

VARIANTS = [(v, b) for v in architecture.VERSIONS for b in architecture.BYPASSES]
SMALLEST = {'1.0': 21, '1.1': 17}  # pixels


def zeros(*shape):
    return np.zeros(shape, np.float32)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-120, 150, shape).astype(np.float32)


# --- parameters ------------------------------------------------------------------------------


@pytest.mark.parametrize(('version', 'count'), [('1.1', 1_235_496), ('1.0', 1_248_424)])
def test_parameter_count_is_the_published_one(version, count):
    assert sum(parameter.size for parameter in SqueezeNet(version).parameters()) == count


@pytest.mark.parametrize(('version', 'bypass'), VARIANTS)
def test_parameters_have_the_names_order_and_shapes_of_the_table(version, bypass):
    network = SqueezeNet(version, bypass, class_num=7)
    expected = list(architecture.parameter_shapes(version, bypass, 7).items())
    assert [(n, tuple(p.shape)) for n, p in network.named_parameters()] == expected
    assert [(n, tuple(t.shape)) for n, t in network.state_dict().items()] == expected


def test_fillers_are_caffes():
    """xavier: uniform within sqrt(3 / fan_in); conv10: gaussian 0.01; biases: zero."""
    paddle.seed(1)
    for name, parameter in SqueezeNet('1.1', 'complex').named_parameters():
        value = parameter.numpy().astype(np.float64)
        if name.endswith('.bias'):
            assert not value.any(), name
        elif name == 'conv10.weight':
            assert value.std() == pytest.approx(0.01, rel=0.01)
            assert abs(value.mean()) < 1e-4
            assert np.abs(value).max() > 0.04  # a gaussian has tails, a uniform of this std none
        else:
            bound = math.sqrt(3 / np.prod(value.shape[1:]))
            assert 0.99 * bound < np.abs(value).max() <= bound * (1 + 1e-6), name
            assert value.std() == pytest.approx(bound / math.sqrt(3), rel=0.06), name
            assert abs(value.mean()) < 0.06 * bound, name


def test_fillers_depend_on_the_seed_alone():
    made = []
    for seed in (5, 5, 6):
        paddle.seed(seed)
        made.append({n: p.numpy().tobytes() for n, p in SqueezeNet().named_parameters()})
    assert made[0] == made[1]
    assert made[0]['conv1.weight'] != made[2]['conv1.weight']


# --- inputs ----------------------------------------------------------------------------------


@pytest.mark.parametrize('version', architecture.VERSIONS)
def test_smallest_input_works_and_one_pixel_less_is_refused(version):
    network = SqueezeNet(version, class_num=3)
    network.eval()
    n = SMALLEST[version]
    assert network.smallest == n
    assert network(paddle.to_tensor(noise(1, 3, n, n))).shape == [1, 3]
    for height, width in [(n - 1, 227), (227, n - 1)]:
        with pytest.raises(ValueError, match=rf'{height}x{width} are too small.* at least {n} '):
            network(paddle.to_tensor(zeros(1, 3, height, width)))


@pytest.mark.parametrize('version', architecture.VERSIONS)
@pytest.mark.parametrize(('height', 'width'), [(300, 250), (64, 227), (226, 228)])
def test_other_sizes_work_and_every_blob_has_the_tables_size(version, height, width):
    network = SqueezeNet(version, 'complex', class_num=3)
    found = blobs(network, noise(1, 3, height, width))
    shapes = [architecture.output_shapes(version, side) for side in (height, width)]
    for row in network.stages:
        name = f'{row.name}/bypass' if isinstance(row, architecture.Fire) else row.name
        assert found[name].shape[2:] == tuple(side[row.name][1] for side in shapes), name
    mean = found['conv10'].mean(axis=(2, 3), keepdims=True)
    np.testing.assert_allclose(found['pool10'], mean, rtol=1e-5, atol=1e-7)


def test_size_after_pooling_is_rounded_up():
    """By Caffe's formula, ceil((size - 3) / 2) + 1, where Paddle's default rounds down."""
    shapes = architecture.output_shapes('1.1', 230)
    sizes = [shapes[name][1] for name in ('conv1', 'pool1', 'pool3', 'pool5')]
    assert sizes == [114, 57, 28, 14]


def test_conv10_pad_surrounds_conv10s_input_by_zeros():
    plain, padded = (SqueezeNet('1.0', class_num=4, conv10_pad=pad) for pad in (0, 1))
    bias = np.array([0.5, -0.5, 1.0, 0.0], np.float32)
    plain.set_state_dict({**plain.state_dict(), 'conv10.bias': paddle.to_tensor(bias)})
    padded.set_state_dict(plain.state_dict())
    inner, whole = (blobs(network, noise(1, 3, 100, 90)) for network in (plain, padded))
    border = np.maximum(bias, 0)[None, :, None, None]
    expected = np.broadcast_to(border, whole['conv10'].shape).copy()
    expected[:, :, 1:-1, 1:-1] = inner['conv10']
    np.testing.assert_allclose(whole['conv10'], expected, atol=1e-5)
    np.testing.assert_allclose(
        whole['pool10'], expected.mean(axis=(2, 3), keepdims=True), atol=1e-5
    )


@pytest.mark.parametrize(
    ('choice', 'words'),
    [
        ({'version': '1.2'}, "version is '1.2'"),
        ({'bypass': 'double'}, "bypass is 'double'"),
        ({'class_num': 0}, 'class_num is 0'),
        ({'class_num': 2.5}, 'class_num is 2.5'),
        ({'class_num': True}, 'class_num is True'),
    ],
)
def test_choices_that_make_no_network_are_refused(choice, words):
    with pytest.raises(ValueError, match=words):
        SqueezeNet(**choice)


# --- a part of the network -------------------------------------------------------------------


@pytest.mark.parametrize('after', ['conv1', 'pool3', 'fire5', 'fire9'])
def test_features_then_classify_is_the_whole_network_bit_for_bit(after):
    network = SqueezeNet('1.1', 'simple', class_num=5)
    network.eval()
    x = paddle.to_tensor(noise(2, 3, 100, 100))
    parts = network.classify(network.features(x, after), after)
    assert parts.numpy().tobytes() == network(x).numpy().tobytes()


def test_features_of_an_unknown_layer_are_refused():
    with pytest.raises(ValueError, match='no layer is called fire10'):
        SqueezeNet().features(paddle.to_tensor(zeros(1, 3, 32, 32)), 'fire10')


# --- training --------------------------------------------------------------------------------


@pytest.mark.parametrize('bypass', architecture.BYPASSES)
def test_gradients_in_training_are_those_of_evaluation(bypass):
    """Which takes Paddle's operators as they are; training has some of its own."""
    paddle.seed(1)
    network = SqueezeNet('1.1', bypass, 10, dropout=0.0)
    labels, found = paddle.to_tensor([1, 2]), []
    for mode in (network.eval, network.train):
        mode()
        loss = paddle.nn.functional.cross_entropy(
            network(paddle.to_tensor(noise(2, 3, 99, 90))), labels
        )
        loss.backward()
        found.append({name: value.grad.numpy() for name, value in network.named_parameters()})
        network.clear_gradients()
    for name, wanted in found[0].items():
        assert np.abs(wanted).max() > 0
        assert np.abs(found[1][name] - wanted).max() < 2e-5 * np.abs(wanted).max()


# --- Fire ------------------------------------------------------------------------------------


def numpy_convolution(x, layer):
    """Stride 1; a 3x3 kernel is padded by 1."""
    weight, bias = (value.numpy().astype(np.float64) for value in (layer.weight, layer.bias))
    k = weight.shape[-1]
    padded = np.pad(x, [(0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(2, 3))
    return np.einsum('nchwij,ocij->nohw', windows, weight) + bias[None, :, None, None]


@pytest.mark.parametrize('bypass', architecture.BYPASSES)
def test_fire_is_squeeze_then_two_expands_side_by_side_plus_bypass(bypass):
    paddle.seed(0)
    fire = Fire(10, 3, 4, 6, bypass)
    for index, parameter in enumerate(fire.parameters()):
        if len(parameter.shape) == 1:
            values = np.random.default_rng(index).normal(size=parameter.shape)
            parameter.set_value(values.astype(np.float32))
    x = np.random.default_rng(0).normal(size=(2, 10, 7, 5)).astype(np.float32)
    squeezed = np.maximum(numpy_convolution(x, fire.squeeze1x1), 0)
    expands = [numpy_convolution(squeezed, layer) for layer in (fire.expand1x1, fire.expand3x3)]
    expected = np.maximum(np.concatenate(expands, axis=1), 0)
    if bypass == 'simple':
        expected = expected + x
    if bypass == 'complex':
        expected = expected + numpy_convolution(x, fire.bypass1x1)  # no ReLU on either
    np.testing.assert_allclose(fire(paddle.to_tensor(x)).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ((64, 128, 64, 64), 's1x1 = 128 must be below e1x1 \\+ e3x3 = 128'),
        ((64, 16, 64, 64, 'double'), "bypass is 'double'"),
        ((64, 16, 64, 64, 'simple'), 'as many channels in \\(64\\) as out \\(128\\)'),
    ],
)
def test_numbers_that_make_no_fire_module_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Fire(*arguments)


# --- dropout ---------------------------------------------------------------------------------


def what_conv10_sees(network, features):
    seen = []
    hook = network.conv10.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network.classify(features)
    hook.remove()
    return seen[0].numpy()


def test_dropout_scales_what_it_keeps_in_training_and_does_nothing_in_evaluation():
    paddle.seed(3)
    network = SqueezeNet(class_num=2, dropout=0.25)
    features = paddle.to_tensor(np.random.default_rng(0).uniform(1, 2, (4, 512, 5, 5)), 'float32')
    network.eval()
    assert what_conv10_sees(network, features).tobytes() == features.numpy().tobytes()
    network.train()
    seen = what_conv10_sees(network, features)
    kept = seen != 0
    np.testing.assert_allclose(seen[kept], features.numpy()[kept] / 0.75, rtol=1e-6)
    assert kept.mean() == pytest.approx(0.75, abs=0.01)
    assert (what_conv10_sees(network, features) != seen).any()  # anew every time


def test_dropout_is_half_by_default_and_can_be_none():
    features = paddle.ones([2, 512, 5, 5])
    assert what_conv10_sees(SqueezeNet(class_num=2), features).max() == 2.0
    assert (what_conv10_sees(SqueezeNet(class_num=2, dropout=0), features) == 1.0).all()
