"""What a run's lists are, so that --resume goes on with the same pictures in the same order."""

import hashlib
import json
import os
from argparse import Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from common.console import UserError
from pictures import lists
from pictures.class_names import names_file
from pictures.lists import PictureList


def describe_list(path: str, data_dir: str) -> dict[str, str]:
    """sha256 of a list's 'text', its 'pictures' (paths and labels), class names and file sizes.

    Paths count below the folder that they have in common: a list may move with its pictures.
    """
    pictures = lists.read_list(path, data_dir)
    parts = {
        'text': [Path(path).read_bytes()],
        'pictures': [pictures.labels.tobytes(), *_paths_in_common_folder(pictures)],
        'classes': [json.dumps(lists.class_names_of(path)).encode()],
        'files': [_sizes(pictures).tobytes()],
    }
    return {name: _digest(content) for name, content in parts.items()}


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _paths_in_common_folder(pictures: PictureList) -> Iterator[bytes]:
    """Each picture's path in the folder that holds them all, with what no path contains."""
    first, last = min(_paths(pictures)), max(_paths(pictures))  # what these share, all do
    start = len(os.path.commonpath([os.path.dirname(first), last]))
    for path in _paths(pictures):
        yield (
            path[start:].lstrip(os.sep).replace(os.sep, '/').encode(errors='surrogateescape')
            + b'\0'
        )


def _paths(pictures: PictureList) -> Iterator[str]:
    return (os.path.abspath(pictures.path(i)) for i in range(len(pictures)))


def _sizes(pictures: PictureList) -> np.ndarray:
    """Bytes of each file, int64 [N]; -1 for one that is not there."""
    paths = map(pictures.path, range(len(pictures)))
    sizes = [os.path.getsize(path) if os.path.exists(path) else -1 for path in paths]
    return np.array(sizes, np.int64)


def compare_list(path: str, options: Namespace, before: dict[str, str]) -> None:
    """`before`: describe_list's when the run began. Raises UserError where it is another run's.

    A line may be written otherwise, and a picture may have been mended: that gets a remark.
    """
    now = describe_list(path, options.data_dir)
    if now['text'] != before['text'] and now['pictures'] != before.get('pictures'):
        raise UserError(
            f'{path}: differs from the list that the run in {options.output} began with; --resume '
            'needs the same pictures in the same order'
        )
    if now['classes'] != before.get('classes', now['classes']):
        raise other_names(path, options)
    changes = [
        what for what, key in (('lines', 'text'), ('pictures', 'files')) if now[key] != before[key]
    ]
    if changes:
        print(
            f'{path}: its {" and ".join(changes)} have changed since the run began; it goes on '
            'with the new ones'
        )


def other_names(path: str, options: Namespace) -> UserError:
    """What to say of class names beside a list that are not those of the run."""
    return UserError(
        f'{names_file(path) or path}: has other class names, or another order, than the run in '
        f'{options.output} began with; --resume needs the same'
    )
