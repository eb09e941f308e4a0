"""--fast_decode and --cache of train.py: what they change, and what is left of them."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors.numpy

ROOT = Path(__file__).resolve().parents[2]
TEXTURES = ROOT / 'data' / 'textures' / 'train'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Lists of six big JPEGs to train on, as train.py reduces them, and of two others."""
    folder = tmp_path_factory.mktemp('big')
    lines = []
    for label, name in enumerate(('brick', 'grass')):
        for path in sorted((TEXTURES / name).iterdir())[:8:2]:
            big = cv2.resize(cv2.imread(str(path)), (1800, 1800))
            cv2.imwrite(str(folder / f'{name}_{path.name}'), big)
            lines.append(f'{name}_{path.name} {label}\n')
    (folder / 'train.txt').write_text(''.join(lines[:3] + lines[4:7]))
    (folder / 'val.txt').write_text(lines[3] + lines[7])
    return folder


def run(folder, output, *arguments):
    lists = '--train_list', folder / 'train.txt', '--batch_size', 3, '--trainer', 1
    command = [sys.executable, ROOT / 'train.py', *lists, '--output', output, *arguments]
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=200, cwd=folder
    )


def succeed(*arguments):
    done = run(*arguments)
    assert done.returncode == 0, done.stderr + done.stdout


def weights(output):
    return safetensors.numpy.load_file(output / 'last' / 'model.safetensors')


def same_bits(one, other):
    return all(np.array_equal(value, other[name]) for name, value in one.items())


def options_of(output):
    return json.loads((output / 'run.json').read_text())['options']


@pytest.fixture(scope='module')
def fast(folder):
    """The output of two epochs with --fast_decode."""
    succeed(folder, folder / 'fast', '--fast_decode', '--epochs', 2)
    return folder / 'fast'


def test_fast_decode_changes_what_is_trained_on(folder, fast):
    succeed(folder, folder / 'full', '--epochs', 2)
    assert options_of(fast)['fast_decode'] and not options_of(folder / 'full')['fast_decode']
    assert not same_bits(weights(fast), weights(folder / 'full'))


@pytest.mark.parametrize('num_workers', [0, 2])
def test_the_cache_changes_nothing_and_is_gone_at_the_end(folder, fast, tmp_path, num_workers):
    left = tmp_path / 'out' / 'cache'
    left.mkdir(parents=True)
    (left / f'{"0" * 64}.pixels').write_bytes(b'of a killed run')
    (left / 'notes.txt').write_text('mine')
    flags = '--fast_decode', '--epochs', 2, '--cache', 1, '--num_workers', num_workers
    succeed(folder, tmp_path / 'out', *flags)
    assert same_bits(weights(tmp_path / 'out'), weights(fast))
    assert [path.name for path in left.iterdir()] == ['notes.txt']


def test_a_resumed_run_decodes_as_it_did(folder, fast):
    refused = run(folder, fast, '--resume', '--no-fast_decode')
    assert refused.returncode and '--fast_decode False differs from True' in refused.stderr
    succeed(folder, fast, '--resume', '--epochs', 3, '--cache', 1)
    assert options_of(fast)['fast_decode']
    assert not (fast / 'cache').exists()
