"""What train.py promises: it learns, stops and resumes exactly, alone or in several processes."""

import csv
import json
import os
import re
import shutil
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
import train
from common.device import CPU
from models import parameters
from network.preprocessing import Preprocessing
from pictures import lists
from results import evaluation
from training import start
from training.checkpoint import checkpoint_files
from training.options import parse_options
from training.output import choose_output
from training.solver import SGD
from training.step import FrozenFeatures, Learner, SharedDropout, train_step, trained_parameters

ROOT = Path(__file__).parents[2]
DATA = ROOT / 'data'
TIMES = 'images_per_second', 'seconds'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder with small lists: 18 pictures to train on, 7 to evaluate, of three classes."""
    folder = tmp_path_factory.mktemp('lists')
    for name, step in (('train', 9), ('val', 9)):
        lines = (DATA / f'{name}.txt').read_text().splitlines()[::step]
        (folder / f'{name}.txt').write_text('\n'.join(lines) + '\n')
    return folder


def command(folder, output, *arguments):
    flags = '--data_dir', DATA, '--batch_size', 6, '--epochs', 2, '--save_every', 2, '--mirror'
    flags = '--recipe', 'caffe', *flags
    model = (
        ('--model', DATA / 'squeezenet_v1.1.caffemodel')
        if '--from_scratch' not in arguments
        else ()
    )
    lists_ = '--train_list', folder / 'train.txt'
    everything = ROOT / 'train.py', *model, *lists_, *flags, '--output', output, *arguments
    return [sys.executable, *map(str, everything)]


def run(*arguments, timeout=120):
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=timeout, cwd=arguments[0]
    )


def succeed(*arguments):
    result = run(*arguments)
    assert result.returncode == 0, result.stderr + result.stdout
    return result.stdout


def fail(*arguments):
    """Run a command that must end in one line; returns that line."""
    result = run(*arguments)
    assert result.returncode not in (0, None)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


def weights(output, which='last'):
    return safetensors.numpy.load_file(Path(output) / which / 'model.safetensors')


def same_bits(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one.keys() | other.keys())


@pytest.fixture(scope='module')
def whole(folder):
    """The output of a run that nothing interrupted."""
    succeed(folder, folder / 'whole', '--lr', 0.001)
    return folder / 'whole'


def test_fine_tuning_learns_and_writes_everything_it_promises(whole):
    with open(whole / 'log.csv') as file:
        rows = list(csv.DictReader(file))
    assert [row['epoch'] for row in rows] == ['0', '1', '2']
    assert float(rows[-1]['val_top1']) > float(rows[0]['val_top1'])
    assert float(rows[-1]['train_loss']) < float(rows[1]['train_loss'])
    assert {'lr', 'val_loss', 'val_top5', 'images_per_second'} <= set(rows[0])
    assert (whole / 'curves.png').read_bytes().startswith(b'\x89PNG')
    for which in ('best', 'last'):
        tensors, config = parameters.read_model(whole / which)
        assert config['class_num'] == 3 and tensors['conv10.weight'].shape == (3, 512, 1, 1)
    assert (whole / 'report' / 'per_class.csv').exists()
    assert (whole / 'report' / 'confusion.png').exists()
    told = json.loads((whole / 'run.json').read_text())
    assert told['results']['val']['top1'] == max(float(row['val_top1']) for row in rows)
    assert told['options']['lr'] == 0.001 and told['pictures'] == {'train': 18, 'val': 7}
    page = (whole / 'report' / 'index.html').read_text()
    assert 'Worst mistakes' in page or told['results']['val']['top1'] == 1
    assert 'data:image/png;base64,' in page and 'src="http' not in page


@pytest.mark.parametrize('trainer', [1, 2])
def test_resume_after_kill_is_bit_identical(folder, whole, tmp_path, trainer):
    options = '--lr', 0.001, '--trainer', trainer, '--batch_size', 6 // trainer
    reference = whole
    if trainer > 1:  # sums over processes round differently
        reference = tmp_path / 'reference'
        succeed(folder, reference, *options)
    output = tmp_path / 'killed'
    process = subprocess.Popen(
        command(folder, output, *options), stdout=subprocess.DEVNULL, start_new_session=True
    )
    wait_for(lambda: len(checkpoint_files(output / 'checkpoints')) >= 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert 'resuming' in succeed(folder, output, *options, '--resume')
    assert same_bits(weights(output), weights(reference))
    assert same_bits(weights(output, 'best'), weights(reference, 'best'))
    assert log_without_speed(output) == log_without_speed(reference)


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, 'waited in vain'
        time.sleep(0.02)


def log_without_speed(output):
    with open(output / 'log.csv') as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_first_and_the_run_continues_exactly(folder, whole, tmp_path, number):
    output = tmp_path / 'stopped'
    process = subprocess.Popen(
        command(folder, output, '--lr', 0.001, '--save_every', 1000),
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: (output / 'log.csv').exists())
    process.send_signal(number)
    text = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + number
    stopped = int(re.search(r'stopped after iteration (\d+) of 6', text).group(1))
    assert (
        checkpoint_files(output / 'checkpoints')[0].name == f'iteration_{stopped:08d}.safetensors'
    )
    succeed(folder, output, '--resume')  # the other flags come from the checkpoint
    assert same_bits(weights(output), weights(whole))


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


def test_a_damaged_newest_checkpoint_is_noticed_and_the_one_before_used(folder, whole, tmp_path):
    output = tmp_path / 'damaged'
    shutil.copytree(whole, output)
    newest, before = checkpoint_files(output / 'checkpoints')
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    text = succeed(folder, output, '--resume')
    assert f'{newest} is damaged' in text and f'iteration {int(before.stem[-8:])}' in text
    assert same_bits(weights(output), weights(whole))


def test_two_processes_compute_the_updates_of_one_with_twice_the_batch(folder, whole, tmp_path):
    succeed(folder, tmp_path / 'two', '--lr', 0.001, '--trainer', 2, '--batch_size', 3)
    one, two = weights(whole), weights(tmp_path / 'two')
    for name in one:
        assert np.abs(one[name] - two[name]).max() <= 1e-4 * np.abs(one[name]).max(), name
    for mine, other in zip(log_without_speed(whole), log_without_speed(tmp_path / 'two')):
        for key in ('train_loss', 'val_loss'):
            if mine[key]:
                assert float(mine[key]) == pytest.approx(float(other[key]), rel=1e-4)


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


def trainer_of(parent):
    """A child of `parent` that runs train(), not multiprocessing's own helper."""
    for entry in Path('/proc').glob('[0-9]*'):
        try:
            fields = (entry / 'stat').read_text().rsplit(')', 1)[1].split()
            line = (entry / 'cmdline').read_text()
        except OSError:
            continue
        if int(fields[1]) == parent and 'spawn_main' in line:
            return int(entry.name)
    raise AssertionError('no trainer runs')


def test_evaluation_counts_every_picture_once_whatever_the_number_of_processes(folder):
    tensors, config = parameters.read_model(DATA / 'squeezenet_v1.1.caffemodel')
    pictures = lists.read_list(folder / 'val.txt', DATA)
    evaluator = evaluation.Evaluator(tensors, config, CPU)
    whole = evaluator.evaluate(pictures)
    parts = [evaluator.evaluate(pictures, rank, 3) for rank in range(3)]
    indices = np.concatenate([part.indices for part in parts])
    assert sorted(indices) == list(range(len(pictures)))
    assert sum(part.sums() for part in parts) == pytest.approx(whole.sums())
    lonely = evaluator.evaluate(pictures, 20, 21)
    assert lonely.sums().tolist() == [0, 0, 0, 0]


def test_frozen_layers_keep_their_bits_and_the_rest_learns(folder, tmp_path):
    succeed(folder, tmp_path / 'frozen', '--freeze', 'fire8', '--lr', 0.001)
    before, _ = parameters.read_model(DATA / 'squeezenet_v1.1.caffemodel')
    after = weights(tmp_path / 'frozen')
    for name in before:
        if name.startswith('conv10'):
            continue
        unchanged = np.array_equal(before[name], after[name])
        assert unchanged == (not name.startswith('fire9')), name


def test_freezing_trains_what_dygraph_would_train(pixels, images, official_tensors):
    """The features of Paddle Inference lead to the update that a whole forward pass leads to."""
    config = parameters.make_config('1.1', None, 1000)
    labels = np.array([3, 5])
    features = FrozenFeatures(official_tensors, config, 'fire8')
    fast_images, _ = features(None, pixels.astype(np.uint8), labels)
    results = []
    for x, after in ((images, None), (fast_images, 'fire8')):
        network = parameters.build_network(official_tensors, config, dropout=0.0)
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


def test_without_an_output_a_new_run_goes_beside_the_old_one(whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert choose_output(parse_options([])) == 'output'
    shutil.copytree(whole, tmp_path / 'output')
    assert choose_output(parse_options([])) == 'output-2'
    assert parse_options(['--resume']).output == 'output'


def test_overwrite_deletes_what_a_run_wrote_and_nothing_else(folder, whole, tmp_path):
    """Pictures of classes that are called best, report, ... may lie in the same folder."""
    output = tmp_path / 'mixed'
    shutil.copytree(whole, output)
    pictures = [output / name / 'cat.jpg' for name in ('best', 'last', 'report', 'checkpoints')]
    for picture in pictures:
        shutil.copy(DATA / 'photos' / 'cat.jpg', picture)
    succeed(folder, output, '--overwrite', '--epochs', 1)
    assert all(picture.exists() for picture in pictures)
    assert len(log_without_speed(output)) == 2


def test_two_runs_do_not_write_into_one_output(folder, tmp_path):
    output = tmp_path / 'busy'
    first = subprocess.Popen(
        command(folder, output, '--epochs', 50), stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_for(lambda: checkpoint_files(output / 'checkpoints'))
        for flag in ('--resume', '--overwrite'):
            assert 'another run is writing here' in fail(folder, output, flag, '--epochs', 50)
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    succeed(folder, output, '--overwrite', '--epochs', 1)


def test_a_mended_line_does_not_end_the_run(folder, whole, tmp_path):
    output = tmp_path / 'mended'
    shutil.copytree(whole, output)
    lines = (folder / 'train.txt').read_text().splitlines()
    lines[0] = f'./{lines[0]}'
    (tmp_path / 'train.txt').write_text('\n'.join(lines) + '\n')
    shutil.copy(folder / 'val.txt', tmp_path)
    text = succeed(
        folder, output, '--lr', 0.001, '--resume', '--train_list', tmp_path / 'train.txt',
        '--val_list', tmp_path / 'val.txt',
    )  # fmt: skip
    assert 'train.txt: its lines have changed since the run began' in text


class TestRefusals:
    def test_a_resume_where_there_is_nothing(self, folder, tmp_path):
        line = fail(folder, tmp_path / 'typo', '--resume')
        assert 'nothing to resume' in line and not (tmp_path / 'typo').exists()

    @pytest.mark.parametrize('flag', ['--overwrite', '--resume'])
    def test_more_trainers_than_gpus(self, folder, whole, monkeypatch, capsys, flag):
        monkeypatch.setattr(paddle.device, 'is_compiled_with_cuda', lambda: True)
        monkeypatch.setattr(paddle.device.cuda, 'device_count', lambda: 1)
        monkeypatch.setattr(paddle, 'set_device', lambda _: None)
        monkeypatch.setattr(paddle, 'set_flags', lambda _: None)
        arguments = command(folder, whole, '--lr', 0.001, '--trainer', 2, '--batch_size', 3, flag)
        assert train.main(arguments[2:]) == 1
        assert '--trainer 2: this machine shows 1 GPU' in capsys.readouterr().err
        assert checkpoint_files(whole / 'checkpoints')

    @pytest.mark.parametrize(
        'mistake',
        [
            ('--train_list', 'nowhere.txt'),
            ('--model', 'nowhere'),
            ('--freeze', 'fire99'),
            ('--device', 'cpu', '--amp', 'float16'),
        ],
    )
    def test_a_mistake_beside_overwrite_deletes_nothing(self, folder, whole, tmp_path, mistake):
        output = tmp_path / 'kept'
        shutil.copytree(whole, output)
        fail(folder, output, '--overwrite', *mistake)
        assert same_bits(weights(output, 'best'), weights(whole, 'best'))
        assert checkpoint_files(output / 'checkpoints')

    def test_overwriting_the_model_to_start_from(self, folder, whole, tmp_path):
        output = tmp_path / 'kept'
        shutil.copytree(whole, output)
        line = fail(folder, output, '--overwrite', '--model', output / 'best')
        assert 'would delete the model' in line
        assert same_bits(weights(output, 'best'), weights(whole, 'best'))

    def test_an_output_with_a_run_in_it(self, folder, whole):
        assert '--resume continues it, --overwrite starts anew' in fail(folder, whole)

    def test_another_rate_on_resume(self, folder, whole):
        line = fail(folder, whole, '--resume', '--lr', 0.5)
        assert '--lr 0.5 differs from 0.001' in line

    def test_another_number_of_processes_on_resume_without_the_batch_to_match(self, folder, whole):
        line = fail(folder, whole, '--resume', '--lr', 0.001, '--batch_size', 3)
        assert 'batches of 3 and did of 6' in line

    def test_another_list_on_resume(self, folder, whole, tmp_path):
        other = tmp_path / 'train.txt'
        other.write_text('\n'.join((folder / 'train.txt').read_text().splitlines()[::-1]) + '\n')
        line = fail(folder, whole, '--resume', '--lr', 0.001, '--train_list', other)
        assert 'differs from the list' in line

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
    start.check(parse_options([*flags, '--from_scratch']))
    assert capsys.readouterr().out.startswith(
        '3 pictures are in the train list and in the val list'
    )


def test_training_from_scratch_starts_with_the_fillers(folder, tmp_path):
    flags = '--from_scratch', '--version', '1.0', '--bypass', 'complex', '--epochs', 1
    succeed(folder, tmp_path / 'scratch', *flags)
    _, config = parameters.read_model(tmp_path / 'scratch' / 'last')
    assert (config['version'], config['bypass'], config['class_num']) == ('1.0', 'complex', 3)


def test_an_iteration_of_several_batches_reads_what_one_big_batch_reads(folder):
    pictures = lists.read_list(folder / 'train.txt', DATA)
    batches = [reader.Sampling(6, 3, mirror=True), reader.Sampling(2, 3, mirror=True, iter_size=3)]
    big, small = (reader.train_loader(pictures, Preprocessing(), how, 0) for how in batches)
    big = next(big)
    parts = [next(small) for _ in range(3)]
    assert np.array_equal(big[0], np.concatenate([images for images, _ in parts]))
