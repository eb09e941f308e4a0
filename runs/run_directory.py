"""The output directory of a run: whose it is, and what of it may be deleted."""

import contextlib
import os
from pathlib import Path

from common.console import UserError
from runs.checkpoint import checkpoint_files

# All that a run writes. Whatever else lies in these folders is somebody's, and stays.
WRITTEN = (
    'checkpoints/iteration_*.safetensors',
    'best/model.safetensors',
    'best/config.json',
    'last/model.safetensors',
    'last/config.json',
    'report/per_class.csv',
    'report/confusion.png',
    'report/mistakes.png',
    'report/index.html',
    'lists/train.txt',
    'lists/val.txt',
    'lists/classes.txt',
    'run.json',
    'events/events.out.tfevents.*',
    'log.csv',
    'curves.png',
)


def checkpoints_of(options):
    """The folder of a run's checkpoints."""
    return Path(options.output) / 'checkpoints'


def choose_output(options):
    """Where the run writes: --output, or without one the first of output, output-2, ... that holds
    no run. Raises UserError where that does not fit the other flags."""
    if options.output is None:
        return _free_output()
    holds_run = bool(checkpoint_files(checkpoints_of(options)))
    if options.resume and not holds_run:
        raise UserError(
            f'{options.output}: holds no checkpoint, so there is nothing to resume; is --output '
            'the directory of the run? A new run starts without --resume'
        )
    if holds_run and not (options.resume or options.overwrite):
        raise UserError(
            f'{options.output} holds a run already: --resume continues it, --overwrite starts '
            'anew, --output names another directory'
        )
    return options.output


def _free_output():
    number, name = 1, 'output'
    while checkpoint_files(Path(name) / 'checkpoints'):
        number += 1
        name = f'output-{number}'
    if number > 1:
        print(f'output holds a run already; this one goes to {name}', flush=True)
    return name


def earlier_run(output, model):
    """The files of the run in `output` that --overwrite deletes. Raises UserError where it cannot,
    or where the `model` to start from is among them."""
    files = [path for pattern in WRITTEN for path in sorted(Path(output).glob(pattern))]
    if not files:
        return []
    for folder in {path.parent for path in files} | {Path(output)}:
        if not os.access(folder, os.W_OK):
            raise UserError(f'{folder}: cannot be written to, so --overwrite would delete in vain')
    if model is not None:
        model = Path(model).resolve()
        if any(model in (path.resolve(), *path.resolve().parents) for path in files):
            raise UserError(
                f'--overwrite would delete the model {model} that the run starts from; '
                'choose another --output'
            )
    return files


def delete(files):
    """Delete `files`, and the folders that this empties."""
    for path in files:
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in files}:
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()


def lock(output):
    """Make `output` and keep other runs out of it until this process ends.

    Returns the open file that holds the lock, which the system releases with the process. Raises
    UserError where another run is at work there.
    """
    path = Path(output) / '.lock'
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, 'a')  # noqa: SIM115 - it stays open as long as the run
    try:
        _lock_file(file)
    except OSError:
        file.close()
        raise UserError(
            f'{output}: another run is writing here; wait for its end, or choose another --output'
        ) from None
    return file


def _lock_file(file):
    if os.name == 'nt':
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
