"""The lists of a run: made of a folder, read as the model's classes, without what is damaged."""

from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import paddle

from common.console import printable
from evaluation.evaluator import read_labelled
from pictures import lists
from pictures.decoding import check_picture
from pictures.image_folder import descend
from pictures.list_making import print_counts, write_lists
from runs.run_directory import LIST_OPTIONS


def make_lists(options: Namespace, place: Path) -> None:
    """Lists of the folder that the command names, in `place`; or those that lie in the folder.

    Sets options.train_list, val_list and, unless the command does, test_list. Raises UserError or
    OSError.
    """
    folder = Path(options.folder)
    paths = lists.lists_in(descend(folder, []))
    if not paths:
        made = write_lists(folder, place, 0.2, options.seed, check_picture, print_line)
        print_counts(made)
        paths = lists.lists_in(place)
    options.train_list, options.val_list = str(paths['train']), str(paths['val'])
    if options.test_list is None and 'test' in paths:
        options.test_list = str(paths['test'])


def read_lists(options, config, left_out):
    """(train, val, test) PictureLists as the run uses them; test is None without --test_list.

    Labels are the model's, found by the classes' names where both sides have them; `left_out` is
    what --skip_bad leaves out.
    """
    found = []
    for name in LIST_OPTIONS:
        path = getattr(options, name)
        pictures = path and read_labelled(path, options.data_dir, config, say=lambda _: None)
        found.append(pictures and pictures.without(left_out.get(name, [])))
    return found


def bad_pictures(options: Namespace, names: Iterable[str] = LIST_OPTIONS) -> dict[str, list[int]]:
    """{list: [indices]} of the pictures that --skip_bad leaves out, each named."""
    found = {}
    for name in names:
        if path := getattr(options, name):
            pictures = lists.read_list(path, options.data_dir)
            found[name], lines = lists.bad_pictures(pictures, check_picture)
            for line in lines:
                print(printable(f'left out: {line}'))
    return found


def class_weights(train_list, config):
    """float32 Tensor [C]: what a picture of each class counts, so that the classes count alike."""
    counts = np.bincount(train_list.labels, minlength=config['class_num'])
    classes = (counts > 0).sum()
    return paddle.to_tensor((len(train_list) / classes / np.maximum(counts, 1)).astype('float32'))


def print_line(text: str) -> None:
    print(printable(text), flush=True)
