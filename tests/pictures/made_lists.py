"""Folders of pictures, and the lists that are made of them."""

from typing import NamedTuple

from list_files import picture

from pictures import decoding, list_making


def make_folder(folder, classes):
    number = 0
    for name, count in classes.items():
        for i in range(count):
            picture(folder / name / f'{i}.png', number)
            number += 1
    return folder


class Made(NamedTuple):
    class_names: list
    sides: dict
    remarks: list


def divide(folder, output=None, fraction=0.2, seed=0, test=0.0):
    """The FolderLists, and the remarks on them."""
    remarks = []
    made = list_making.write_lists(
        folder, output or folder, fraction, seed, decoding.check_picture, remarks.append, test
    )
    return Made(*made, remarks)
