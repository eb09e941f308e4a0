"""Checkpoints of a training run: all that an exact continuation needs, in one file each.

`iteration_00000120.safetensors` holds the parameters, the solver's moments (`velocity/NAME`, say)
and, in the metadata, the RunState as JSON, with a checksum over everything. A file appears complete
or not at all; should the disk damage the newest one, the one before is taken.
"""

import hashlib
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from common.console import UserError
from common.files import atomic_write, read_regular_file
from runs.state import RunState

MOST_BYTES = 1 << 30  # of 100,000 classes, with two moments, it has half of that
PATTERN = 'iteration_*.safetensors'
DAMAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)  # how it shows


def save_checkpoint(folder, parameters, moments, state, keep):
    """Write the RunState `state` with its arrays; then leave the newest `keep` sound files.

    `parameters`: {name: float32 array}; `moments`: {kind: the same}. Raises UserError,
    and writes nothing, where a number is NaN or infinite.
    """
    tensors = dict(parameters)
    for kind, values in moments.items():
        tensors.update({f'{kind}/{name}': value for name, value in values.items()})
    for name, value in tensors.items():
        if not np.isfinite(value).all():
            raise UserError(
                f'{name} is NaN or infinite after iteration {state.iteration}; the last good '
                f'checkpoint in {folder} is kept'
            )
    text = state.to_json()
    metadata = {'state': text, 'sha256': _checksum(tensors, text)}
    content = safetensors.numpy.save(tensors, metadata)
    with atomic_write(Path(folder) / f'iteration_{state.iteration:08d}.safetensors') as file:
        file.write(content)
    _leave_newest(folder, keep)


def _leave_newest(folder, keep):
    """Delete what is older than the newest `keep` files that could be resumed from."""
    sound = 0
    for path in checkpoint_files(folder):
        if sound >= keep:
            with suppress(PermissionError):  # Windows: a scanner or a backup reads it just now
                path.unlink()
        elif _damage(path) is None:
            sound += 1


def checkpoint_files(folder):
    """The checkpoints in `folder`, newest first."""
    return sorted(Path(folder).glob(PATTERN), reverse=True)


def load_newest(folder, report=print):
    """Returns (parameters, moments, state) of the newest checkpoint that is sound.

    Damaged ones are named through `report`. Raises UserError where none is left.
    """
    for path in checkpoint_files(folder):
        error = _damage(path)
        if error is None:
            return _load(path)
        report(f'{path} is damaged ({error!s:.200}); trying the one before')
    raise UserError(f'{folder}: holds no checkpoint that could be resumed')


def _damage(path):
    """What is wrong with a checkpoint, or None."""
    try:
        _load(path)
    except (OSError, safetensors.SafetensorError, *DAMAGE) as error:
        return error
    return None


def _load(path):
    content = read_regular_file(path, MOST_BYTES)  # not mapped: another run may truncate the file
    tensors = safetensors.numpy.load(content)
    size = int.from_bytes(content[:8], 'little')
    metadata = json.loads(content[8 : 8 + size])['__metadata__']
    if _checksum(tensors, metadata['state']) != metadata['sha256']:
        raise ValueError('its checksum does not fit')
    moments = {}
    for key in sorted(name for name in tensors if '/' in name):
        kind, name = key.split('/', 1)
        moments.setdefault(kind, {})[name] = tensors.pop(key)
    return tensors, moments, RunState.from_json(metadata['state'])


def _checksum(tensors, text):
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensors[name]))
    return digest.hexdigest()
