"""What train.py promises: it learns what it is told to, alone or in several processes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import common.paddle_setup  # noqa: F401 - before Paddle

import numpy as np
import paddle
import pytest
import safetensors.numpy
from train_runs import (
    DATA,
    command,
    fail,
    processes,
    same_bits,
    small_lists,
    succeed,
    wait_for,
    weights,
)

import reader
from common.device import CPU
from evaluation.evaluator import Evaluator
from models import model_io
from network.preprocessing import Preprocessing
from pictures import lists
from runs import setup
from runs.checkpoint import checkpoint_files
from runs.options import parse_options
from training.solver import SGD
from training.step import FrozenFeatures, Learner, SharedDropout, train_step, trained_parameters


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return small_lists(tmp_path_factory.mktemp('lists'))


def test_ctrl_c_in_a_terminal_reaches_every_trainer_once(folder, tmp_path):
    """A terminal signals the whole group, and the parent passes the signal on besides."""
    output = tmp_path / 'stopped'
    flags = '--trainer', 2, '--batch_size', 3, '--epochs', 50
    process = subprocess.Popen(
        command(folder, output, *flags), stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_for(lambda: (output / 'log.csv').exists())
    os.killpg(process.pid, signal.SIGINT)
    text = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + signal.SIGINT
    stopped = int(re.search(r'stopped after iteration (\d+) of 150', text).group(1))
    assert (
        checkpoint_files(output / 'checkpoints')[0].name == f'iteration_{stopped:08d}.safetensors'
    )


def test_two_nodes_on_loopback_train_as_two_processes_do(folder, tmp_path):
    launch = [
        sys.executable,
        '-m',
        'paddle.distributed.launch',
        '--master',
        f'127.0.0.1:{free_port()}',
    ]
    flags = '--lr', 0.001, '--batch_size', 3
    nodes = []
    for rank in (0, 1):
        place = '--nnodes', '2', '--rank', str(rank), '--log_dir', str(tmp_path / f'log{rank}')
        script = command(folder, tmp_path / 'nodes', *flags)[1:]
        nodes.append(
            subprocess.Popen(
                [*launch, *place, *script], stderr=subprocess.STDOUT, stdout=subprocess.PIPE
            )
        )
    texts = [node.communicate(timeout=120)[0].decode() for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], texts
    succeed(folder, tmp_path / 'two', *flags, '--trainer', 2)
    assert same_bits(weights(tmp_path / 'nodes'), weights(tmp_path / 'two'))


def free_port():
    import socket

    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


def test_a_killed_trainer_ends_the_run_with_its_name(folder, tmp_path):
    output = tmp_path / 'lost'
    flags = '--trainer', 2, '--batch_size', 3, '--epochs', 50
    process = subprocess.Popen(command(folder, output, *flags), stderr=subprocess.PIPE, text=True)
    wait_for(lambda: (output / 'log.csv').exists())
    os.kill(trainer_of(process.pid), signal.SIGKILL)
    error = process.communicate(timeout=30)[1]
    assert process.returncode == 1
    assert 'was killed (SIGKILL); --resume continues the run' in error
    assert 'Traceback' not in error


def trainer_of(command):
    """A child of the process that runs train(), not multiprocessing's own helper."""
    trainers = [pid for pid, _, parent, _, line in processes()
                if parent == command and 'spawn_main' in line]  # fmt: skip
    assert trainers, 'no trainer runs'
    return trainers[0]


def test_evaluation_counts_every_picture_once_whatever_the_number_of_processes(folder):
    tensors, config = model_io.read_model(DATA / 'squeezenet_v1.1.caffemodel')
    pictures = lists.read_list(folder / 'val.txt', DATA)
    evaluator = Evaluator(tensors, config, CPU)
    whole = evaluator.evaluate(pictures)
    parts = [evaluator.evaluate(pictures, rank, 3) for rank in range(3)]
    indices = np.concatenate([part.indices for part in parts])
    assert sorted(indices) == list(range(len(pictures)))
    assert sum(part.sums() for part in parts) == pytest.approx(whole.sums())
    lonely = evaluator.evaluate(pictures, 20, 21)
    assert lonely.sums().tolist() == [0, 0, 0, 0]


def test_frozen_layers_keep_their_bits_and_the_rest_learns(folder, tmp_path):
    succeed(folder, tmp_path / 'frozen', '--freeze', 'fire8', '--lr', 0.001)
    before, _ = model_io.read_model(DATA / 'squeezenet_v1.1.caffemodel')
    after = weights(tmp_path / 'frozen')
    for name in before:
        if name.startswith('conv10'):
            continue
        unchanged = np.array_equal(before[name], after[name])
        assert unchanged == (not name.startswith('fire9')), name


def test_freezing_trains_what_dygraph_would_train(pixels, images, official_tensors):
    """The features of Paddle Inference lead to the update that a whole forward pass leads to."""
    config = model_io.make_config('1.1', None, 1000)
    labels = np.array([3, 5])
    features = FrozenFeatures(official_tensors, config, 'fire8')
    fast_images, _ = features(None, pixels.astype(np.uint8), labels)
    results = []
    for x, after in ((images, None), (fast_images, 'fire8')):
        network = model_io.build_network(official_tensors, config, dropout=0.0)
        solver = SGD(trained_parameters(network, 'fire8'))
        step = train_step(Learner(network, after=after), solver, [(x, labels)], 0.01)
        results.append((step.loss, {n: v.numpy() for n, v in network.state_dict().items()}))
    (loss, whole), (fast_loss, fast) = results
    assert fast_loss == pytest.approx(loss, rel=1e-5)
    for name, before in official_tensors.items():  # compare what the update changed
        change = np.linalg.norm(whole[name] - before)
        assert np.linalg.norm(whole[name] - fast[name]) <= 2e-3 * change, name


def test_a_loss_that_explodes_stops_the_run_and_keeps_the_last_checkpoint(folder, tmp_path):
    line = fail(folder, tmp_path / 'nan', '--lr', 1e30)
    assert 'NaN or infinite at iteration' in line and '--lr' in line
    assert checkpoint_files(tmp_path / 'nan' / 'checkpoints')
    for path in checkpoint_files(tmp_path / 'nan' / 'checkpoints'):
        for name, value in safetensors.numpy.load_file(path).items():
            assert np.isfinite(value).all(), name


def test_dropout_of_several_processes_is_the_dropout_of_one():
    x = paddle.ones([12, 4, 3, 3])
    whole = SharedDropout(0.5, seed=5)(x)
    ranks = [SharedDropout(0.5, 5, rank, 3) for rank in range(3)]
    parts = [rank(x[:2]) for _ in range(2) for rank in ranks]  # two batches an update
    assert np.array_equal(whole.numpy(), paddle.concat(parts).numpy())
    assert set(np.unique(whole.numpy())) == {0.0, 2.0}
    assert len({row.tobytes() for row in whole.numpy()}) == 12
    ranks[0].begin(1)
    assert not np.array_equal(ranks[0](x[:2]).numpy(), parts[0].numpy())


class TestRefusals:
    def test_mixed_precision_on_a_cpu(self, folder, tmp_path):
        line = fail(folder, tmp_path / 'amp', '--device', 'cpu', '--amp', 'bfloat16')
        assert 'needs a GPU' in line

    def test_a_missing_picture_is_named_before_anything_starts(self, folder, tmp_path):
        (tmp_path / 'train.txt').write_text('nowhere.jpg 0\nneither.jpg 1\n')
        shutil.copy(folder / 'val.txt', tmp_path)
        line = fail(folder, tmp_path / 'out', '--train_list', tmp_path / 'train.txt')
        assert 'train.txt, line 1' in line and 'nowhere.jpg' in line

    def test_a_label_of_the_val_list_that_training_does_not_know(self, folder, tmp_path):
        shutil.copy(folder / 'train.txt', tmp_path)
        picture = (folder / 'val.txt').read_text().split()[0]
        (tmp_path / 'val.txt').write_text(f'{picture} 7\n')
        line = fail(folder, tmp_path / 'out', '--train_list', tmp_path / 'train.txt')
        assert 'val.txt, line 1' in line and '7' in line

    def test_a_layer_to_freeze_that_is_none(self, folder, tmp_path):
        line = fail(folder, tmp_path / 'out', '--freeze', 'fire99')
        assert 'fire99' in line and 'fire9' in line


def test_class_names_beside_the_list_travel_with_the_model(folder, tmp_path):
    shutil.copy(folder / 'train.txt', tmp_path)
    shutil.copy(folder / 'val.txt', tmp_path)
    (tmp_path / 'classes.txt').write_text('brick\ngrass\ngravel\n')
    succeed(folder, tmp_path / 'out', '--train_list', tmp_path / 'train.txt', '--epochs', 1)
    config = json.loads((tmp_path / 'out' / 'best' / 'config.json').read_text())
    assert config['class_names'] == ['brick', 'grass', 'gravel']


def test_event_files_hold_each_epochs_numbers(folder, tmp_path):
    succeed(folder, tmp_path / 'out', '--epochs', 1, '--tensorboard')
    (path,) = (tmp_path / 'out' / 'events').iterdir()
    content = path.read_bytes()
    assert content.count(b'val_top1') == 2 and content.count(b'train_loss') == 1


def test_pictures_on_both_lists_are_remarked(folder, tmp_path, capsys):
    lines = (folder / 'val.txt').read_text().splitlines()
    (tmp_path / 'val.txt').write_text('\n'.join(lines))
    (tmp_path / 'train.txt').write_text('\n'.join(lines[::3]))
    flags = '--train_list', str(tmp_path / 'train.txt'), '--data_dir', str(DATA)
    setup.check(parse_options([*flags, '--from_scratch']))
    assert capsys.readouterr().out.startswith(
        '3 pictures are in the train list and in the val list'
    )


def test_training_from_scratch_starts_with_the_fillers(folder, tmp_path):
    flags = '--from_scratch', '--version', '1.0', '--bypass', 'complex', '--epochs', 1
    succeed(folder, tmp_path / 'scratch', *flags)
    _, config = model_io.read_model(tmp_path / 'scratch' / 'last')
    assert (config['version'], config['bypass'], config['class_num']) == ('1.0', 'complex', 3)


def test_an_iteration_of_several_batches_reads_what_one_big_batch_reads(folder):
    pictures = lists.read_list(folder / 'train.txt', DATA)
    batches = [reader.Sampling(6, 3, mirror=True), reader.Sampling(2, 3, mirror=True, iter_size=3)]
    big, small = (reader.train_loader(pictures, Preprocessing(), how, 0) for how in batches)
    big = next(big)
    parts = [next(small) for _ in range(3)]
    assert np.array_equal(big[0], np.concatenate([images for images, _ in parts]))
