"""train.py run on small lists as a program of its own, and what it leaves."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import safetensors.numpy
from conftest import ROOT

DATA = ROOT / 'data'


def small_lists(folder):
    """The folder, with small lists: 18 pictures to train on, 7 to evaluate, of three classes."""
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


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, 'waited in vain'
        time.sleep(0.02)


def processes():
    """(pid, state, parent, group, command line) of every process that /proc shows."""
    for entry in Path('/proc').glob('[0-9]*'):
        try:
            fields = (entry / 'stat').read_text().rsplit(')', 1)[1].split()
            line = (entry / 'cmdline').read_text()
        except OSError:  # it has just ended
            continue
        yield int(entry.name), fields[0], int(fields[1]), int(fields[2]), line
