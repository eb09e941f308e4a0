"""Checkpoints of a training run: all that an exact continuation needs, in one file each.

`iteration_00000120.safetensors` holds the parameters, the velocity (`velocity/NAME`) and, as JSON
in the metadata, the progress, with a checksum over everything. A file appears complete or not at
all; should the disk damage the newest one, the one before is taken.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from common.console import UserError
from common.files import atomic_write

PATTERN = 'iteration_*.safetensors'
VELOCITY = 'velocity/'
DAMAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)  # how it shows


class CheckpointError(UserError):
    """There is nothing to resume from, or the run to resume was another one."""


def save_checkpoint(folder, parameters, velocity, progress, keep):
    """Write the state after `progress['iteration']` updates; then leave the newest `keep` files.

    `parameters` and `velocity`: {name: float32 array}; `progress`: anything that JSON can hold.
    Raises CheckpointError, and writes nothing, where a number is NaN or infinite.
    """
    tensors = dict(parameters)
    tensors.update({VELOCITY + name: value for name, value in velocity.items()})
    for name, value in tensors.items():
        if not np.isfinite(value).all():
            raise CheckpointError(
                f'{name} is NaN or infinite after iteration {progress["iteration"]}; the last good '
                f'checkpoint in {folder} is kept'
            )
    text = json.dumps(progress)
    metadata = {'progress': text, 'sha256': _checksum(tensors, text)}
    content = safetensors.numpy.save(tensors, metadata)
    with atomic_write(Path(folder) / f'iteration_{progress["iteration"]:08d}.safetensors') as file:
        file.write(content)
    for old in checkpoint_files(folder)[keep:]:
        old.unlink()


def checkpoint_files(folder):
    """The checkpoints in `folder`, newest first."""
    return sorted(Path(folder).glob(PATTERN), reverse=True)


def load_newest(folder, report=print):
    """Returns (parameters, velocity, progress) of the newest checkpoint that is sound.

    Damaged ones are named through `report`. Raises CheckpointError where none is left.
    """
    for path in checkpoint_files(folder):
        try:
            return _load(path)
        except (OSError, safetensors.SafetensorError, *DAMAGE) as error:
            report(f'{path} is damaged ({error!s:.200}); trying the one before')
    raise CheckpointError(f'{folder}: holds no checkpoint that could be resumed')


def _load(path):
    with safetensors.safe_open(path, 'np') as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata() or {}
    if _checksum(tensors, metadata['progress']) != metadata['sha256']:
        raise ValueError('its checksum does not fit')
    velocity = {
        name[len(VELOCITY) :]: tensors.pop(name)
        for name in sorted(tensors)
        if name.startswith(VELOCITY)
    }
    progress = json.loads(metadata['progress'])
    if not isinstance(progress, dict) or not isinstance(progress.get('iteration'), int):
        raise ValueError('it does not tell its iteration')
    return tensors, velocity, progress


def _checksum(tensors, text):
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensors[name]))
    return digest.hexdigest()
