"""Checkpoints: what is saved comes back, damage is noticed, and the one before is used."""

import json
import os

import numpy as np
import pytest
import safetensors.numpy

from common.console import UserError
from runs.checkpoint import checkpoint_files, load_newest, save_checkpoint
from runs.state import RunState


def arrays(iteration):
    """Parameters and moments that differ at every iteration."""
    rng = np.random.default_rng(iteration)
    shapes = {'conv10.weight': (3, 4, 1, 1), 'conv10.bias': (3,)}
    parameters, velocity = (
        {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        for _ in range(2)
    )
    return parameters, {'velocity': velocity}


def state(iteration, **others):
    return RunState(
        **{'config': {}, 'options': {}, 'lists': {}, 'pictures': 9, **others}, iteration=iteration
    )


def save(folder, iteration, keep=9, **others):
    save_checkpoint(folder, *arrays(iteration), state(iteration, **others), keep)


def flat(tensors):
    """{name: array} of a dictionary of arrays or of dictionaries of arrays."""
    return {
        f'{name}{inner}': value
        for name, entry in tensors.items()
        for inner, value in (entry.items() if isinstance(entry, dict) else [('', entry)])
    }


def load(folder):
    """Iteration of the newest sound checkpoint, whose bits are checked; what was reported."""
    said = []
    *found, loaded = load_newest(folder, said.append)
    for tensors, expected in zip(map(flat, found), map(flat, arrays(loaded.iteration))):
        assert {n: t.tobytes() for n, t in tensors.items()} == {
            n: t.tobytes() for n, t in expected.items()
        }
    return loaded.iteration, said


@pytest.fixture
def three(tmp_path):
    """A folder with the checkpoints of iterations 8, 9 and 10."""
    for iteration in (8, 9, 10):
        save(tmp_path, iteration)
    return tmp_path


def test_state_comes_back_bit_for_bit(tmp_path):
    others = {'rows': [{'val_top1': 1 / 3, 'speed': None}], 'options': {'name': 'é猫'}}
    save(tmp_path, 3, **others)
    assert load(tmp_path) == (3, [])
    assert load_newest(tmp_path)[2] == state(3, **others)


def test_newest_is_by_iteration_also_past_a_power_of_ten(tmp_path):
    for iteration in (99_999, 100_000, 9, 10):
        save(tmp_path, iteration)
    assert load(tmp_path)[0] == 100_000


def test_only_the_newest_are_kept(tmp_path):
    for iteration in range(1, 6):
        save(tmp_path, iteration, keep=2)
    assert [path.name for path in checkpoint_files(tmp_path)] == [
        'iteration_00000005.safetensors',
        'iteration_00000004.safetensors',
    ]
    assert len(list(tmp_path.iterdir())) == 2


def without_state(path, content):
    safetensors.numpy.save_file(safetensors.numpy.load(content), path)


def with_another_state(path, content):
    path.write_bytes(content.replace(b'\\"iteration\\": 10', b'\\"iteration\\": 11'))


def with_garbage_for_metadata(path, content):
    tensors = safetensors.numpy.load(content)
    metadata = {'state': '\0{[', 'sha256': 'none'}
    safetensors.numpy.save_file(tensors, path, metadata)


DAMAGES = {
    'flipped byte': lambda path, content: path.write_bytes(
        content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
    ),
    'truncated': lambda path, content: path.write_bytes(content[:-20]),
    'truncated header': lambda path, content: path.write_bytes(content[:30]),
    'empty': lambda path, _: path.write_bytes(b''),
    'zeros': lambda path, content: path.write_bytes(bytes(len(content))),
    'no state': without_state,
    'another state': with_another_state,
    'garbage for metadata': with_garbage_for_metadata,
    'a directory': lambda path, _: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_damaged_newest_is_named_and_the_one_before_is_used(damage, three):
    newest = checkpoint_files(three)[0]
    content = newest.read_bytes()
    DAMAGES[damage](newest, content)
    assert newest.is_dir() or newest.read_bytes() != content
    iteration, said = load(three)
    assert iteration == 9
    assert len(said) == 1
    assert said[0].startswith(f'{newest} is damaged (')


def test_any_flipped_bit_is_noticed(tmp_path):
    save(tmp_path, 1)
    (path,) = checkpoint_files(tmp_path)
    content = path.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        said = []
        with pytest.raises(UserError):
            load_newest(tmp_path, said.append)
        assert len(said) == 1, position


def test_where_all_are_damaged_or_none_is_there_one_line_says_so(three, tmp_path):
    for path in checkpoint_files(three):
        path.write_bytes(b'nothing')
    said = []
    for folder in (three, tmp_path / 'none'):
        with pytest.raises(UserError, match=f'{folder}: holds no checkpoint'):
            load_newest(folder, said.append)
    assert len(said) == 3


@pytest.mark.parametrize('value', [np.nan, np.inf])
@pytest.mark.parametrize('part', ['parameters', 'moments'])
def test_nan_is_not_saved_and_the_old_ones_stay(value, part, three):
    parameters, moments = arrays(11)
    values = {'parameters': parameters, 'moments': moments['velocity']}[part]
    values['conv10.bias'][1] = value
    before = checkpoint_files(three)
    words = r'conv10\.bias is NaN or infinite after iteration 11'
    with pytest.raises(UserError, match=words):
        save_checkpoint(three, parameters, moments, state(11), keep=1)
    assert checkpoint_files(three) == before


def test_interrupted_save_leaves_the_old_ones_and_no_litter(three, monkeypatch):
    def disk_is_full(*_):
        raise OSError(28, 'No space left on device')

    before = sorted(three.iterdir())
    monkeypatch.setattr(os, 'fsync', disk_is_full)
    with pytest.raises(OSError, match='No space left'):
        save(three, 11, keep=1)
    assert sorted(three.iterdir()) == before
    assert load(three) == (10, [])


def test_half_written_file_of_a_killed_process_is_no_checkpoint(three):
    newest = checkpoint_files(three)[0]
    (three / '.iteration_00000011.safetensors.partial').write_bytes(newest.read_bytes()[:50])
    assert load(three) == (10, [])


def test_state_can_be_read_by_other_programs(three):
    with safetensors.safe_open(checkpoint_files(three)[0], 'np') as file:
        assert json.loads(file.metadata()['state'])['iteration'] == 10


@pytest.mark.parametrize('damage', ['truncated', 'flipped byte'])
def test_damaged_files_do_not_count_among_those_that_are_kept(damage, three):
    """Otherwise the sound ones would go and the run be lost."""
    for path in checkpoint_files(three)[:2]:
        DAMAGES[damage](path, path.read_bytes())
    save(three, 7, keep=2)
    assert load(three)[0] == 8
    save(three, 11, keep=2)
    assert [int(path.stem[-8:]) for path in checkpoint_files(three)] == [11, 10, 9, 8]
    save(three, 12, keep=2)
    assert [int(path.stem[-8:]) for path in checkpoint_files(three)] == [12, 11]
