"""What must hold on a GPU: `make test-gpu`, or `python -m pytest tests/gpu` with a GPU Paddle.

Each test compares the GPU with the CPU of the same machine, or with Caffe's golden data, so it
needs nothing but this repository. Skipped where Paddle finds no GPU.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import common.paddle_setup  # noqa: F401 - before Paddle

import numpy as np
import paddle
import pytest
import safetensors.numpy

import reader
from common.device import CPU, choose_device, count_gpus
from evaluation.evaluator import Evaluator
from models import model_io
from network.preprocessing import Preprocessing
from runs.checkpoint import checkpoint_files
from squeezenet import blobs
from training.precision import LOWEST_CAPABILITY, Precision
from training.solver import SGD
from training.step import Learner, SharedDropout, train_step
from training.to_device import device_input, feed

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / 'data'
WEIGHTS = DATA / 'squeezenet_v1.1.caffemodel'
LOSS_MARGIN = 0.05  # of the loss of float32 after 20 updates, for mixed precision

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not count_gpus(), reason='Paddle finds no GPU here'),
]


def those_it_has(*precisions):
    """Parameters; those that this GPU has not are skipped."""
    has = paddle.device.cuda.get_device_capability() if count_gpus() else (0, 0)
    return [
        pytest.param(amp, marks=pytest.mark.skipif(has < lowest, reason=f'no {amp} on this GPU'))
        for amp, lowest in LOWEST_CAPABILITY.items()
        if amp in precisions
    ]


@pytest.fixture
def gpu():
    yield choose_device('gpu')
    paddle.set_device('cpu')


def updates(device, amp=None, count=12, dropout=0.0):
    """(losses, weights) of `count` updates on the golden pictures' noisy copies."""
    paddle.set_device(device.name)
    tensors, config = model_io.read_model(WEIGHTS)
    config['class_num'] = 10
    for name in ('conv10.weight', 'conv10.bias'):
        tensors[name] = tensors[name][:10]
    network = model_io.build_network(tensors, config, SharedDropout(dropout))
    solver = SGD(dict(network.named_parameters()))
    learner = Learner(network, Precision(amp))
    rng = np.random.default_rng(5)
    losses = []
    for iteration in range(count):
        crops = rng.integers(0, 256, (8, 227, 227, 3), np.uint8)
        crops[:4] //= 4  # so that there is something to learn
        labels = np.array([1] * 4 + [7] * 4)
        network.dropout.begin(iteration)
        batches = feed(iter_closing([(crops, labels)]), Preprocessing(), device)
        losses.append(train_step(learner, solver, batches, 1e-4).loss)
    return np.array(losses), solver.flat.vector.numpy()


def iter_closing(items):
    yield from items


def test_golden_blobs(gpu, images, activations, official_tensors):
    config = model_io.make_config('1.1', None, 1000)
    found = blobs(model_io.build_network(official_tensors, config), images)
    for blob, value in found.items():
        golden = {
            field: activations[f'official_v1.1|{blob}|{field}'] for field in ('index', 'value')
        }
        error = np.abs(value.ravel()[golden['index']] - golden['value']).max()
        assert error < 1e-4 * np.abs(value).max(), f'{blob}: {error}'


def test_float32_updates_are_the_cpus(gpu):
    (losses, weights), (wanted, wanted_weights) = updates(gpu), updates(CPU)
    np.testing.assert_allclose(losses[:2], wanted[:2], rtol=3e-4)
    np.testing.assert_allclose(losses, wanted, rtol=1e-2)
    assert np.abs(weights - wanted_weights).max() < 5e-3 * np.abs(wanted_weights).max()


def test_two_runs_give_the_same_bits(gpu):
    one, other = (updates(gpu, dropout=0.5)[1] for _ in range(2))
    assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize('amp', those_it_has('tf32', 'bfloat16', 'float16'))
def test_mixed_precision_falls_to_the_same_loss(gpu, amp):
    losses, _ = updates(choose_device('gpu', amp == 'tf32'), amp, count=20)
    wanted, _ = updates(choose_device('gpu'), count=20)
    assert wanted[-3:].mean() < 0.8 * wanted[:3].mean()
    assert abs(losses[-3:].mean() - wanted[-3:].mean()) < LOSS_MARGIN * wanted[:3].mean()


@pytest.mark.parametrize('amp', those_it_has('bfloat16', 'float16'))
def test_mixed_precision_keeps_activations_short(gpu, amp):
    network = model_io.build_network(*model_io.read_model(WEIGHTS))
    network.train()
    with Precision(amp).autocast():
        output = network.features(paddle.ones([2, 3, 227, 227]))
    assert output.dtype == getattr(paddle, amp)


def test_the_device_makes_the_readers_floats(gpu):
    crops = np.random.default_rng(1).integers(0, 256, (4, 227, 227, 3), np.uint8)
    for how in (Preprocessing(), Preprocessing(channel_order='RGB', scale=0.017)):
        ours = device_input(paddle.to_tensor(crops), how).numpy()
        np.testing.assert_allclose(ours, reader.network_input(crops, how), rtol=1e-6)


def run(script, *arguments, cwd, **options):
    command = [sys.executable, ROOT / script, *arguments]
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=600, cwd=cwd, **options
    )


def train(output, *flags):
    common = '--model', WEIGHTS, '--epochs', 2, '--save_every', 2, '--output', output
    done = run('train.py', '--recipe', 'caffe', *common, *flags, cwd=output.parent)
    assert done.returncode == 0, done.stderr + done.stdout
    return safetensors.numpy.load_file(output / 'last' / 'model.safetensors')


def test_resume_after_a_kill_gives_the_same_bits(tmp_path):
    whole = train(tmp_path / 'whole', '--batch_size', 16)
    flags = [
        '--recipe',
        'caffe',
        '--epochs',
        '2',
        '--save_every',
        '2',
        '--batch_size',
        '16',
        '--output',
        'killed',
    ]
    command = [sys.executable, ROOT / 'train.py', '--model', WEIGHTS, *flags]
    process = subprocess.Popen(list(map(str, command)), cwd=tmp_path, start_new_session=True)
    while len(checkpoint_files(tmp_path / 'killed' / 'checkpoints')) < 2:
        time.sleep(0.02)
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    resumed = train(tmp_path / 'killed', '--batch_size', 16, '--resume')
    for name, value in whole.items():
        assert value.tobytes() == resumed[name].tobytes(), name


@pytest.mark.skipif(count_gpus() < 2, reason='needs two GPUs')
def test_two_gpus_are_one_with_twice_the_batch(tmp_path):
    one = train(tmp_path / 'one', '--batch_size', 16)
    two = train(tmp_path / 'two', '--batch_size', 8, '--trainer', 2)
    for name, value in one.items():
        assert np.abs(value - two[name]).max() <= 1e-3 * np.abs(value).max(), name


@pytest.mark.skipif(count_gpus() < 2, reason='needs two GPUs')
def test_a_killed_rank_ends_all(tmp_path):
    command = [sys.executable, ROOT / 'train.py', '--trainer', '2', '--recipe', 'caffe']
    command += ['--epochs', '500', '--output', tmp_path / 'lost', '--model', WEIGHTS]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    while not (tmp_path / 'lost' / 'log.csv').exists():
        time.sleep(0.1)
        assert process.poll() is None
    children = Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()
    trainers = [c for c in children if 'spawn_main' in Path(f'/proc/{c}/cmdline').read_text()]
    os.kill(int(trainers[-1]), signal.SIGKILL)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and '--resume continues the run' in error


def test_infer_gives_the_cpus_answers(tmp_path):
    tables = []
    for device in ('cpu', 'gpu'):
        output = tmp_path / f'{device}.csv'
        done = run(
            'infer.py', '--model', WEIGHTS, DATA / 'photos', '--device', device,
            '--output', output, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        tables.append(list(csv.DictReader(output.open())))
    for ours, theirs in zip(*tables):
        assert ours['class0'] == theirs['class0']
        assert float(ours['prob0']) == pytest.approx(float(theirs['prob0']), abs=1e-4)


def test_speeds_are_told(gpu, capsys):
    """Not a check of speed: images/s, and the share of the time that the GPU waits for the host."""
    told = {'gpu': str(gpu), 'paddle': paddle.__version__}
    tensors, config = model_io.read_model(WEIGHTS)
    crops = np.random.default_rng(0).integers(0, 256, (64, 227, 227, 3), np.uint8)
    evaluator = Evaluator(tensors, config, gpu)
    labels = np.zeros(64, np.int64)
    told['inference images/s'] = 64 / seconds(lambda: evaluator.network(crops))
    for amp in (None, 'float16'):
        network = model_io.build_network(tensors, config, SharedDropout(0.5))
        solver, learner = SGD(dict(network.named_parameters())), Learner(network, Precision(amp))

        def fed(learner=learner, solver=solver):
            batches = feed(iter_closing([(crops, labels)]), Preprocessing(), gpu)
            train_step(learner, solver, batches, 1e-6)

        ready = [(device_input(paddle.to_tensor(crops), Preprocessing()), labels)]
        whole = seconds(fed)
        alone = seconds(lambda a=learner, b=solver, c=ready: train_step(a, b, c, 1e-6))
        told[f'training images/s, {amp or "float32"}'] = 64 / whole
        told[f'waiting for the host, {amp or "float32"}'] = max(0.0, 1 - alone / whole)
    with capsys.disabled():
        print('\n' + json.dumps(told, indent=1))
    assert all(value > 0 for name, value in told.items() if 'images/s' in name)


def seconds(work, times=20):
    """Of one call, the mean of many, after some that do not count."""
    for _ in range(5):
        work()
    paddle.device.synchronize()
    start = time.perf_counter()
    for _ in range(times):
        work()
    paddle.device.synchronize()
    return (time.perf_counter() - start) / times
