"""Training as Caffe trains: the update rule, the learning-rate policies, and Caffe's own runs."""

import re

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from conftest import GOLDEN, MEAN

from network import architecture
from squeezenet import SqueezeNet
from training.solver import SGD, FlatParameters, Schedule
from training.step import LARGEST_LOSS, Learner, SharedDropout, train_step

RATES = (0.1, 0.1, 0.03, 0.5, 0.0, 0.02, 0.02, 0.001)  # a rate that changes, as in no paper


# --- Caffe's own runs ------------------------------------------------------------------------


def caffes_settings():
    """solver.prototxt as a dict: numbers where they are numbers."""
    text = (GOLDEN / 'solver.prototxt').read_text()
    settings = dict(re.findall(r'(\w+): "?([^"\n]+)', text))
    return {k: float(v) if re.fullmatch(r'[\d.]+', v) else v for k, v in settings.items()}


def feed(pixels, iterations):
    """The batches of golden/README.md: (float32 [4, 3, 227, 227], int64 [4])."""
    four = np.concatenate([pixels, pixels[:, :, ::-1]])
    rng = np.random.RandomState(11)
    for _ in range(iterations):
        noisy = np.clip(four + rng.randint(-20, 21, size=four.shape), 0, 255) - MEAN
        images = np.ascontiguousarray(noisy.transpose(0, 3, 1, 2).astype(np.float32))
        yield images, rng.randint(0, 10, size=4).astype(np.int64)


def follow(tensors, pixels):
    """Caffe's run, as train.py trains: the losses, and the parameters after it."""
    caffe = caffes_settings()
    iterations = int(caffe['max_iter'])
    network = SqueezeNet('1.1', None, 10, dropout=0)
    network.set_state_dict(tensors)
    parameters = dict(network.named_parameters())
    solver = SGD(parameters, caffe['momentum'], caffe['weight_decay'], rule='caffe')
    schedule = Schedule(caffe['lr_policy'], caffe['base_lr'], iterations, caffe['power'])
    losses = []
    for iteration, batch in enumerate(feed(pixels, iterations)):
        batches = [batch] * int(caffe['iter_size'])
        rate = schedule.rate(iteration)
        losses.append(train_step(Learner(network), solver, batches, rate).loss)
    return np.array(losses), {name: value.numpy() for name, value in parameters.items()}


@pytest.fixture(scope='module')
def starts(official_tensors, seeded_tensors):
    first_ten = {name: official_tensors[name][:10] for name in ('conv10.weight', 'conv10.bias')}
    return {'official': {**official_tensors, **first_ten}, 'seeded': seeded_tensors('1.1')}


def errors(golden, losses, parameters):
    """(worst of the losses, relative; worst of the parameters, of each one's largest value)."""
    worst = 0.0
    for name, value in parameters.items():
        layer, kind = name.rsplit('.', 1)
        key = f'{layer.replace(".", "/")}|{kind}|'
        error = np.abs(value.ravel()[golden[key + 'index']] - golden[key + 'value']).max()
        worst = max(worst, error / np.abs(value).max())
    return np.abs(losses / golden['loss'] - 1).max(), worst


def last_bit_changed(tensors, seed):
    """`tensors` with two numbers in three moved to float32's next one; for seed 0 as they are."""
    if seed == 0:
        return tensors
    rng = np.random.default_rng(seed)
    towards = np.array([0, 1, 2], np.float32)  # zero, itself, away from zero
    return {
        name: np.nextafter(value, value * rng.choice(towards, value.shape))
        for name, value in tensors.items()
    }


@pytest.mark.parametrize(
    ('start', 'of_loss', 'of_weights'), [('official', 1e-3, 2e-4), ('seeded', 1e-2, 5e-3)]
)
def test_caffes_run_is_followed_loss_by_loss_to_the_same_weights(
    start, of_loss, of_weights, starts, pixels
):
    """`of_loss` relative; `of_weights` relative to each parameter's largest value.

    The runs are chaotic: starts that differ in their last bits come to losses that differ by 2e-3
    (official) and 6e-2 (seeded) on the way, and another processor's rounding does the same. Caffe's
    run is one of those that rounding allows; where the exact start misses it, a neighbour may find
    it. The first two losses, before chaos sets in, get no such help.
    """
    golden = np.load(GOLDEN / f'solver_{start}.npz')
    found = []
    for seed in range(8):
        losses, parameters = follow(last_bit_changed(starts[start], seed), pixels)
        np.testing.assert_allclose(losses[:2], golden['loss'][:2], rtol=3e-4)
        found.append(errors(golden, losses, parameters))
        if found[-1][0] < of_loss and found[-1][1] < of_weights:
            break
    else:
        pytest.fail(f'errors of losses and weights in {len(found)} runs: {found}')
    assert errors(golden, losses, starts[start])[1] > of_weights  # the start itself would not do


def test_network_of_the_run_is_the_one_of_caffes_prototxt():
    text = (GOLDEN / 'solver_net.prototxt').read_text()
    layers = re.findall(r'name: "(\S+)" type: "Convolution".*?num_output: (\d+)', text)
    shapes = architecture.parameter_shapes('1.1', None, 10)
    biases = [(n[:-5].replace('.', '/'), str(s[0])) for n, s in shapes.items() if 'bias' in n]
    assert layers == biases


# --- the update rule -------------------------------------------------------------------------


def small_problem(seed=0):
    """Parameters {name: Parameter}, a weight and a bias, and a list of gradients {name: array}."""
    rng = np.random.default_rng(seed)
    start = {'weight': rng.normal(size=(3, 4)), 'bias': rng.normal(size=4)}
    start = {name: value.astype(np.float32) for name, value in start.items()}
    gradients = [
        {name: rng.normal(size=value.shape).astype(np.float32) for name, value in start.items()}
        for _ in RATES
    ]
    parameters = {}
    for name, value in start.items():
        parameters[name] = paddle.create_parameter(value.shape, 'float32')
        parameters[name].set_value(value)
    return start, parameters, gradients


def run_solver(rule, rates, momentum=0.9, weight_decay=0.05):
    _, parameters, gradients = small_problem()
    solver = SGD(parameters, momentum, weight_decay, rule)
    for gradient, rate in zip(gradients, rates):
        solver.step(solver.flat.join(gradient), rate)
    return {name: value.numpy() for name, value in parameters.items()}


def test_rule_caffe_keeps_the_rate_in_the_velocity_and_decays_biases():
    """sgd_solver.cpp in NumPy: history = momentum * history + rate * (diff + decay * data)."""
    weights, _, gradients = small_problem()
    history = {name: np.zeros_like(value) for name, value in weights.items()}
    momentum, decay = np.float32(0.9), np.float32(0.05)
    for gradient, rate in zip(gradients, map(np.float32, RATES)):
        for name in weights:
            diff = gradient[name] + decay * weights[name]
            history[name] = momentum * history[name] + rate * diff
            weights[name] = weights[name] - history[name]
    found = run_solver('caffe', RATES)
    for name in weights:
        np.testing.assert_allclose(found[name], weights[name], rtol=1e-6, atol=1e-6)


def test_rule_paddle_is_paddles_momentum_also_when_the_rate_changes():
    _, parameters, gradients = small_problem()
    decay = paddle.regularizer.L2Decay(0.05)
    optimizer = paddle.optimizer.Momentum(1.0, 0.9, list(parameters.values()), weight_decay=decay)
    for gradient, rate in zip(gradients, RATES):
        optimizer.set_lr(rate)
        sum((parameters[n] * paddle.to_tensor(g)).sum() for n, g in gradient.items()).backward()
        optimizer.step()
        optimizer.clear_grad()
    found = run_solver('paddle', RATES)
    for name, value in parameters.items():
        np.testing.assert_allclose(found[name], value.numpy(), rtol=1e-6, atol=1e-6)


def test_rules_agree_at_a_fixed_rate_and_differ_once_it_changes():
    fixed = [run_solver(rule, [0.1] * len(RATES)) for rule in SGD.RULES]
    changing = [run_solver(rule, RATES) for rule in SGD.RULES]
    for name in ('weight', 'bias'):
        np.testing.assert_allclose(fixed[0][name], fixed[1][name], rtol=1e-5, atol=1e-5)
        assert np.abs(changing[0][name] - changing[1][name]).max() > 0.1


def test_unknown_rules_and_policies_are_refused():
    with pytest.raises(ValueError, match="rule is 'adam'"):
        SGD({}, rule='adam')
    with pytest.raises(ValueError, match="policy is 'exp'"):
        Schedule('exp', 0.1, 10)


# --- learning rates --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('policy', 'iteration', 'options', 'expected'),
    [
        ('fixed', 7, {}, 0.04),
        ('poly', 0, {}, 0.04),
        ('poly', 25, {}, 0.03),
        ('poly', 99, {}, 0.0004),
        ('poly', 50, {'power': 2.0}, 0.01),
        ('poly', 75, {'power': 0.5}, 0.02),
        ('step', 9, {'step_size': 10}, 0.04),
        ('step', 10, {'step_size': 10}, 0.004),
        ('step', 35, {'step_size': 10, 'gamma': 0.5}, 0.005),
        ('cosine', 0, {}, 0.04),
        ('cosine', 50, {}, 0.02),
        ('cosine', 25, {}, 0.02 * (1 + 0.5**0.5)),
        ('cosine', 100, {}, 0.0),
    ],
)
def test_learning_rate_is_what_the_policy_says(policy, iteration, options, expected):
    assert Schedule(policy, 0.04, 100, **options).rate(iteration) == pytest.approx(expected)


# --- train_step ------------------------------------------------------------------------------


@pytest.fixture
def small_start(seeded_tensors):
    """A network without dropout, its parameters, and 4 pictures of 64x64 with labels."""
    network = SqueezeNet('1.1', None, 10, dropout=0)
    network.set_state_dict(seeded_tensors('1.1'))
    images = np.random.default_rng(2).uniform(-120, 150, (4, 3, 64, 64)).astype(np.float32)
    return network, dict(network.named_parameters()), (images, np.array([1, 0, 9, 3]))


def copies(parameters):
    return {name: value.numpy().copy() for name, value in parameters.items()}


@pytest.mark.parametrize('parts', [2, 4])
def test_iter_size_equals_one_large_batch(small_start, seeded_tensors, parts):
    network, parameters, (images, labels) = small_start
    in_parts = list(zip(np.split(images, parts), np.split(labels, parts)))
    steps, ends = [], []
    for batches in ([(images, labels)], in_parts):
        network.set_state_dict(seeded_tensors('1.1'))
        solver = SGD(parameters)
        steps.append([train_step(Learner(network), solver, batches, rate) for rate in (1e-4, 5e-5)])
        ends.append(copies(parameters))
    for whole, part in zip(*steps):
        assert part.loss == pytest.approx(whole.loss, rel=1e-5)
        assert part.top1 == whole.top1
    for name, value in ends[0].items():
        assert np.abs(ends[1][name] - value).max() < 1e-5 * np.abs(value).max(), name
        assert np.abs(value - seeded_tensors('1.1')[name]).max() > 0, name


def test_step_reports_loss_and_top1_of_before_the_update(small_start):
    network, parameters, (images, labels) = small_start
    logits = network(paddle.to_tensor(images))
    labels[:3] = logits[:3].argmax(axis=1).numpy()
    expected = float(F.cross_entropy(logits, paddle.to_tensor(labels)))
    right = np.mean(logits.numpy().argmax(axis=1) == labels)
    step = train_step(Learner(network), SGD(parameters), [(images, labels)], 1e-4)
    assert step.loss == pytest.approx(expected, rel=1e-6)
    assert step.top1 == right >= 0.75
    assert step.stop is False


def test_step_on_nan_raises_and_changes_nothing(small_start):
    network, parameters, (images, labels) = small_start
    solver = SGD(parameters)
    train_step(Learner(network), solver, [(images, labels)], 1e-4)
    before, velocity = copies(parameters), solver.moments['velocity'].numpy().copy()
    broken = images.copy()
    broken[2, 1, 30, 30] = np.nan
    with pytest.raises(FloatingPointError):
        train_step(Learner(network), solver, [(images, labels), (broken, labels)], 1e-4)
    for name, value in before.items():
        assert parameters[name].numpy().tobytes() == value.tobytes(), name
        assert parameters[name].grad is None or not parameters[name].grad.any(), name
    assert solver.moments['velocity'].numpy().tobytes() == velocity.tobytes()


def test_parameters_are_views_of_one_vector_in_the_network_too(small_start):
    """A release of Paddle that copies instead would train nothing."""
    network, parameters, (images, _) = small_start
    flat = FlatParameters(parameters)
    before = network(paddle.to_tensor(images)).numpy()
    flat.vector.subtract_(0.01 * flat.vector)
    assert np.abs(network(paddle.to_tensor(images)).numpy() - before).max() > 0
    start = 0
    for name, value in parameters.items():
        part = flat.vector.numpy()[start : start + value.size]
        assert part.tobytes() == value.numpy().tobytes(), name
        start += value.size
    assert start == flat.vector.size


def test_loss_is_cut_where_caffe_cuts_it_and_its_gradient_is_not(small_start):
    """softmax_loss_layer.cpp: -log(max(prob, FLT_MIN)), whose gradient is prob minus one-hot."""
    network, parameters, (images, _) = small_start
    with paddle.no_grad():
        network.conv10.bias.set_value(np.array([500] + [0] * 9, np.float32))
    solver = SGD(parameters, weight_decay=0)
    wrong = np.full(4, 3)
    step = train_step(Learner(network), solver, [(images, wrong)], 1e-3)
    assert step.loss == pytest.approx(LARGEST_LOSS, abs=1e-5)
    moved = network.conv10.bias.numpy()
    assert moved[0] < 500 and moved[3] >= 0


def test_shared_dropout_does_nothing_in_evaluation():
    layer = SharedDropout(0.5)
    layer.eval()
    x = paddle.rand([2, 8, 3, 3])
    assert layer(x).numpy().tobytes() == x.numpy().tobytes()
