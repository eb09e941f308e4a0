"""What becomes of the processes of --trainer N, and of their output, when the command ends."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from train_runs import command, processes, small_lists, wait_for

from common.console import UserError
from runs.checkpoint import checkpoint_files
from runs.lock import acquire


@pytest.fixture
def running(tmp_path):
    """(the command, its output), which has begun to train in two processes."""
    folder, output = small_lists(tmp_path), tmp_path / 'run'
    flags = '--trainer', 2, '--batch_size', 3, '--epochs', 500, '--num_workers', 1
    process = subprocess.Popen(
        command(folder, output, *flags), stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_for(lambda: len(checkpoint_files(output / 'checkpoints')) > 1, seconds=300)
    yield process, output
    for pid in members(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.communicate()


def members(group):
    """The processes of a group that are not multiprocessing's own helper."""
    return [pid for pid, state, _, its_group, line in processes()
            if its_group == group and state != 'Z' and 'resource_tracker' not in line]  # fmt: skip


def test_a_hangup_of_the_command_lets_its_trainers_save_and_end(running):
    process, output = running
    process.send_signal(signal.SIGHUP)
    text = process.communicate(timeout=200)[0]
    assert process.returncode == 128 + signal.SIGHUP
    assert 'stopped after iteration' in text
    acquire(output, seconds=0).close()
    wait_for(lambda: not members(process.pid))


def test_after_a_kill_of_the_command_no_other_run_is_admitted_before_its_trainers_end(running):
    process, output = running
    process.kill()
    process.wait()
    acquire(output, seconds=200).close()
    left = {path.name for path in checkpoint_files(output / 'checkpoints')}
    wait_for(lambda: not members(process.pid))
    assert {path.name for path in checkpoint_files(output / 'checkpoints')} == left
    assert not list(output.rglob('*.partial'))


def test_a_live_run_refuses_others_and_a_kill_of_all_leaves_no_semaphore(running):
    process, output = running
    with pytest.raises(UserError, match='another run is writing here'):
        acquire(output, seconds=0)
    for pid in members(process.pid):
        maps = Path(f'/proc/{pid}/maps').read_text().splitlines()
        named = [line for line in maps if '/dev/shm/' in line and '(deleted)' not in line]
        assert not named
