"""A run of train.py and its output: all is in it, and a run that was stopped resumes exactly."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
from argparse import Namespace
from contextlib import closing

import common.paddle_setup  # noqa: F401 - before Paddle

import numpy as np
import paddle
import pytest
from train_runs import DATA, command, fail, same_bits, small_lists, succeed, wait_for, weights

import train
from common.console import UserError
from models import model_io
from runs.checkpoint import checkpoint_files
from runs.list_identity import compare_list, describe_list
from runs.options import parse_options
from runs.run_directory import open_output

TIMES = 'images_per_second', 'seconds'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return small_lists(tmp_path_factory.mktemp('lists'))


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
        tensors, config = model_io.read_model(whole / which)
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


def test_without_an_output_a_new_run_goes_beside_the_old_one(whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second, third = (parse_options([]) for _ in range(3))
    with closing(open_output(first)), closing(open_output(second)):  # at the same time
        assert (first.output, second.output) == ('output', 'output-2')
    assert not list(tmp_path.iterdir())  # as neither began
    shutil.copytree(whole, tmp_path / 'output')
    with closing(open_output(third)):
        assert third.output == 'output-2'
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


class TestTheListsOfARun:
    @pytest.fixture
    def options(self, tmp_path):
        """Of a run on 3 pictures of each of two classes."""
        for name in ('cat/1', 'cat/2', 'cat/3', 'dog/1', 'dog/2', 'dog/3'):
            place = tmp_path / 'mine' / f'{name}.jpg'
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b'x' * int(name[-1]))
        self.write(tmp_path / 'train.txt', 'mine/cat', 'mine/dog')
        return Namespace(data_dir=None, output='run')

    @staticmethod
    def write(path, *folders, numbers=(1, 2, 3)):
        lines = [f'{f}/{n}.jpg {label}\n' for label, f in enumerate(folders) for n in numbers]
        path.parent.mkdir(exist_ok=True)
        path.write_text(''.join(lines))

    def test_sorting_within_the_labels_makes_others(self, options, tmp_path):
        path = tmp_path / 'train.txt'
        before = describe_list(path, None)
        compare_list(path, options, before)
        self.write(path, 'mine/cat', 'mine/dog', numbers=(1, 3, 2))
        with pytest.raises(UserError, match='the same pictures in the same order'):
            compare_list(path, options, before)
        self.write(path, 'mine/dog', 'mine/cat')
        with pytest.raises(UserError, match='the same pictures in the same order'):
            compare_list(path, options, before)

    def test_a_list_may_move_and_its_lines_may_be_written_otherwise(
        self, options, tmp_path, capsys
    ):
        before = describe_list(tmp_path / 'train.txt', None)
        self.write(tmp_path / 'new' / 'train.txt', '../mine/cat', f'{tmp_path}/mine/dog')
        compare_list(tmp_path / 'new' / 'train.txt', options, before)
        assert 'its lines have changed' in capsys.readouterr().out

    def test_other_pictures_of_the_same_names_get_a_remark(self, options, tmp_path, capsys):
        before = describe_list(tmp_path / 'train.txt', None)
        (tmp_path / 'mine' / 'cat' / '1.jpg').write_bytes(b'mended')
        compare_list(tmp_path / 'train.txt', options, before)
        assert 'its pictures have changed' in capsys.readouterr().out

    def test_class_names_in_another_order_are_others(self, options, tmp_path):
        (tmp_path / 'classes.txt').write_text('cat\ndog\n')
        before = describe_list(tmp_path / 'train.txt', None)
        (tmp_path / 'classes.txt').write_text('dog\ncat\n')
        with pytest.raises(UserError, match='has other class names, or another order'):
            compare_list(tmp_path / 'train.txt', options, before)

    def test_of_an_older_run_the_text_must_be_the_same(self, options, tmp_path):
        path = tmp_path / 'train.txt'
        before = describe_list(path, None)
        before = {'text': before['text'], 'files': before['files'], 'labels': 'of old'}
        compare_list(path, options, before)
        path.write_text(path.read_text() + '\n')
        with pytest.raises(UserError, match='the same pictures in the same order'):
            compare_list(path, options, before)


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
