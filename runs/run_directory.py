"""The output directory of a run: whose it is, and what of it may be deleted.

A run claims its output when it begins: none of the names in WRITTEN is there then, so whatever has
one of them later is the run's. Lists are known by their content, since people edit them.
"""

import errno
import hashlib
import itertools
import json
import os
from argparse import Namespace
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from common.console import UserError
from common.files import atomic_write, check_folder_writable, read_regular_file, sync_folder
from pictures.lists import MAX_LIST_BYTES
from runs.checkpoint import checkpoint_files
from runs.lock import OutputTaken, RunLock, acquire

# What a run writes besides lists. Whatever else lies in these folders is somebody's, and stays.
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
    'run.json',
    'events/events.out.tfevents.*',
    'log.csv',
    'curves.png',
)
LIST_NAMES = ('train.txt', 'val.txt', 'test.txt', 'classes.txt')
LIST_OPTIONS = ('train_list', 'val_list', 'test_list')
CLAIM = '.claimed.json'  # {'lists': [sha256 of each list that a run wrote into lists/]}
MAX_CLAIM_BYTES = 1 << 20


def checkpoints_of(options: Namespace) -> Path:
    """The folder of a run's checkpoints."""
    return Path(options.output) / 'checkpoints'


def lists_of(output: Path) -> Path:
    """Where the lists of `train.py FOLDER` lie."""
    return Path(output) / 'lists'


def new_lists_of(output: Path) -> Path:
    """Where they lie until the run begins; paths relative to the one are relative to the other."""
    return Path(output) / '.lists.new'


# --------------------------------------------------------------------------------------------------
# Choosing one
# --------------------------------------------------------------------------------------------------


def open_output(options: Namespace) -> RunLock:
    """The lock on --output, or without one on the first of output, output-2, ... that is free.

    Sets options.output. Raises UserError where the directory does not fit the other flags.
    """
    if options.output is None:
        return _open_free_output(options)
    check_output(options)
    lock = acquire(options.output)
    try:
        check_output(options)  # once more: a run may have begun or ended meanwhile
        _drop_new_lists(options.output)  # of a start that was killed
    except BaseException:
        lock.close()
        raise
    return lock


def _open_free_output(options: Namespace) -> RunLock:
    for number in itertools.count(1):
        options.output = f'output-{number}' if number > 1 else 'output'
        if _written_files(options.output):
            continue
        with suppress(OutputTaken):
            lock = acquire(options.output, seconds=0)
            if not _written_files(options.output):
                break
            lock.close()
    if number > 1:
        print(f'output holds a run already; this one goes to {options.output}', flush=True)
    return lock


def check_output(options: Namespace) -> None:
    """Raises UserError where what --output holds does not fit the other flags; changes nothing."""
    output, files = Path(options.output), _written_files(options.output)
    checkpoints = checkpoint_files(checkpoints_of(options))
    if options.resume:
        if not checkpoints:
            raise UserError(
                f'{output}: holds no checkpoint, so there is nothing to resume; is --output '
                'the directory of the run? A new run starts without --resume'
            )
    elif files:
        if not (checkpoints or os.path.lexists(output / CLAIM)):
            raise UserError(
                f'{files[0]}: is there already, and a run would replace it; choose another --output'
            )
        if not options.overwrite:
            resume = '--resume continues it, ' if checkpoints else ''
            raise UserError(
                f'{output} holds a run already: {resume}--overwrite starts anew, --output names '
                'another directory'
            )
        _check_deletable(output, files, options.model)
    if not options.resume:
        _check_folders(output)


def _check_folders(output: Path) -> None:
    """Raises OSError where something else is in the place of a folder that a run fills."""
    for name in sorted({os.path.dirname(pattern) for pattern in WRITTEN} - {''}):
        if os.path.lexists(output / name) and not (output / name).is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(output / name))


def _written_files(output: Path) -> list[Path]:
    return [path for pattern in WRITTEN for path in sorted(Path(output).glob(pattern))]


def _check_deletable(output: Path, files: list[Path], model: str) -> None:
    """Raises UserError where --overwrite cannot delete `files`, or the `model` to start from is
    among them."""
    for path in files:
        if path.is_dir() and not path.is_symlink():
            raise UserError(f'{path}: is a folder, which no run has made; choose another --output')
    for folder in {path.parent for path in files} | {output}:
        if folder != output and folder.is_symlink():
            raise UserError(
                f'{folder}: is a link, and --overwrite deletes nothing elsewhere; remove the link, '
                'or choose another --output'
            )
        if not os.access(folder, os.W_OK):
            raise UserError(f'{folder}: cannot be written to, so --overwrite would delete in vain')
    if model is not None:
        start = Path(model).resolve()
        if any(start in (path.resolve(), *path.resolve().parents) for path in files):
            raise UserError(
                f'--overwrite would delete the model {start} that the run starts from; '
                'choose another --output'
            )


def check_new_lists(output: Path) -> None:
    """Raises UserError where the new lists would replace some that no run wrote."""
    target = lists_of(output)
    if target.is_symlink():
        raise UserError(f'{target}: is a link, and no lists are written elsewhere; remove the link')
    check_folder_writable(target)
    known = _known_lists(output)
    for path in _lists_in(new_lists_of(output)):
        old = target / path.name
        if os.path.lexists(old) and _digest(old) not in (*known, _digest(path)):
            raise UserError(
                f'{old}: is there already, and is not as a run wrote it; to train on it use '
                f'--train_list {target / "train.txt"}, else choose another --output'
            )


# --------------------------------------------------------------------------------------------------
# Making it one's own
# --------------------------------------------------------------------------------------------------


def claim(options: Namespace) -> None:
    """Make the output this run's, which is all ready to begin.

    The earlier run's files go, and the new lists come; the options' lists are then those. Whatever
    interrupts this, neither a checkpoint stays with other lists, nor a list that no run knows.
    """
    output, new = Path(options.output), _lists_in(new_lists_of(options.output))
    _delete(_written_files(output))
    keep = {path.name for path in new} if new else _lists_read(options)
    known = _known_lists(output)
    _delete(
        path
        for path in _lists_in(lists_of(output))
        if path.name not in keep and _digest(path) in known
    )
    left = [path for path in _lists_in(lists_of(output)) if _digest(path) in known]
    fresh = [path for path in new if _digest(path) != _digest(lists_of(output) / path.name)]
    with atomic_write(output / CLAIM, 'w') as file:
        json.dump({'lists': sorted({_digest(path) for path in [*left, *fresh]})}, file)
    if fresh:
        lists_of(output).mkdir(exist_ok=True)
    for path in fresh:
        os.replace(path, lists_of(output) / path.name)
        sync_folder(lists_of(output))
    for name in LIST_OPTIONS:
        path = getattr(options, name)
        if path and Path(path).parent == new_lists_of(output):
            setattr(options, name, str(lists_of(output) / Path(path).name))
    _drop_new_lists(output)


def _lists_read(options: Namespace) -> set[str]:
    """Names of all lists where this run reads one of them."""
    read = {
        Path(path).resolve().parent for name in LIST_OPTIONS if (path := getattr(options, name))
    }
    return set(LIST_NAMES) if lists_of(options.output).resolve() in read else set()


def release(lock: RunLock) -> None:
    """Let go of an output; what a run that never began has made there goes."""
    _drop_new_lists(lock.output)
    lock.close()


def _drop_new_lists(output: Path) -> None:
    place = new_lists_of(output)
    _delete(_lists_in(place))
    with suppress(OSError):  # not there, or not empty
        place.unlink() if place.is_symlink() else place.rmdir()


def _lists_in(folder: Path) -> list[Path]:
    """The lists and class names there; none where the folder is a link to another."""
    if folder.is_symlink():
        return []
    return [folder / name for name in LIST_NAMES if os.path.lexists(folder / name)]


def _known_lists(output: Path) -> list[str]:
    """sha256 of what runs have written into lists/."""
    try:
        lists = json.loads(read_regular_file(Path(output) / CLAIM, MAX_CLAIM_BYTES))['lists']
        return [digest for digest in lists if isinstance(digest, str)]
    except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged
        return []


def _digest(path: Path) -> str:
    """sha256 of a file; '' for what is none."""
    try:
        return hashlib.sha256(read_regular_file(path, MAX_LIST_BYTES)).hexdigest()
    except OSError:
        return ''


def _delete(files: Iterable[Path]) -> None:
    """Delete `files`, and the folders that this empties."""
    folders = set()
    for path in files:
        path.unlink(missing_ok=True)
        folders.add(path.parent)
    for folder in folders:
        with suppress(OSError):  # not empty
            folder.rmdir()
