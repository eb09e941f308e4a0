"""The pictures that a network is compressed on, and those that it is judged on."""

import os
import re
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

import reader
from common.console import Meter, UserError, notice
from common.files import read_regular_file
from network.preprocessing import preprocessing_of
from pictures import lists
from pictures.folder_tree import expand_paths

CROPS = 1000  # that the network is fitted on
FEWEST = 50
BYTES_A_CROP = 13 << 20  # of 227x227, what a walk through v1.1 keeps (measured: 12.6 MB)
VIEWS = (4, 5, 3, 7, 1)  # of a picture, while there are too few: crop_at's, plus 5 if mirrored
HELD_OUT = 8  # every eighth picture, where there is no val list
MOST_HELD_OUT = 500
NOISE = 96  # pictures of coloured noise, where there are no others


class CalibrationData(NamedTuple):
    """crops, judged: uint8 [N, h, w, 3] to fit and to judge on; labels of the latter, if known.

    remarks: lines that say what was taken.
    """

    crops: np.ndarray
    judged: np.ndarray
    labels: Optional[np.ndarray]
    remarks: list


def gather(args, config, val):
    """The Material that compress.py's arguments ask for; `val` is the PictureList of --val_list,
    with the model's labels, or None. Raises UserError."""
    preprocessing, remarks = preprocessing_of(config), []
    paths = _paths(args)
    judged, labels = np.zeros((0, 1, 1, 3), np.uint8), None
    if val:
        judged = _crops([(val.path(i), 4) for i in range(len(val))], preprocessing)
        labels = val.labels
    elif len(paths) >= 2 * HELD_OUT:
        order = np.random.default_rng(args.seed).permutation(len(paths))
        count = min(len(paths) // HELD_OUT, MOST_HELD_OUT)
        judged = _crops([(paths[i], 4) for i in order[:count]], preprocessing)
        paths = [paths[i] for i in sorted(order[count:])]
        remarks.append(f'{count} of the pictures are held out, to compare the networks on')
    if not paths:
        remarks.append(
            'no pictures: fitted on coloured noise, which loses far more, and of a network of '
            'many classes leaves little; give some 1,000 pictures of any kind (--pictures)'
        )
        return CalibrationData(_noise(preprocessing.crop, args.seed), judged, labels, remarks)
    most = _most_crops(preprocessing.crop)
    chosen = _choose(paths, args.seed, min(CROPS, most))
    remarks.append(f'fitted on {len(chosen)} crops of {len(paths)} pictures')
    if most < CROPS:
        remarks.append(f'more than {most} crops would not fit into the free memory of this machine')
    return CalibrationData(_crops(chosen, preprocessing), judged, labels, remarks)


def _most_crops(size):
    """How many crops of `size` pixels the free memory has room for, where the system tells it."""
    try:
        text = Path('/proc/meminfo').read_text(encoding='ascii')
    except OSError:  # not Linux
        return CROPS
    free = int(re.search(r'MemAvailable: +(\d+) kB', text)[1]) * 1024
    return max(FEWEST, int(free / (BYTES_A_CROP * (size / 227) ** 2)))


def _paths(args):
    if args.train_list:
        found = lists.read_list(args.train_list, args.data_dir)
        return [found.path(i) for i in range(len(found))]
    paths = []
    for path in args.pictures or ():
        if path.lower().endswith('.txt') and not os.path.isdir(path):
            paths += _listed(path, args.data_dir)
        else:
            paths += expand_paths([path], notice)
    return paths


def _listed(path, data_dir):
    """The paths on a list's lines, behind which a label may stand."""
    try:
        text = read_regular_file(path, lists.MAX_LIST_BYTES).decode('utf-8-sig')
    except UnicodeDecodeError:
        raise UserError(f'{path}: not UTF-8; save the list as UTF-8 text') from None
    lines = list(filter(None, map(str.strip, text.split('\n'))))
    if not lines:
        raise UserError(f'{path}: the list is empty')
    found = []
    for line in lines:
        place = os.path.join(data_dir or os.path.dirname(path), line)
        if not os.path.exists(place) and len(line.split()) > 1:
            place = os.path.join(data_dir or os.path.dirname(path), line.rsplit(None, 1)[0])
        found.append(place)
    return found


def _choose(paths, seed, count):
    """[(path, view)]: `count` of them, every picture's centre before any other view."""
    order = np.random.default_rng(seed).permutation(len(paths))
    return [(paths[i], view) for view in VIEWS for i in order][:count]


def _crops(chosen, preprocessing):
    size = preprocessing.crop
    found = np.empty((len(chosen), size, size, 3), np.uint8)
    with Meter('reading', len(chosen)) as meter:
        for target, (path, view) in zip(found, chosen):
            picture = reader.load_picture(path)
            with reader.named(path):
                picture = reader.resize(picture, preprocessing)
            crop = reader.crop_at(picture, view % 5, size)
            target[...] = crop[:, ::-1] if view >= 5 else crop
            meter.count(1)
    return found


def _noise(size, seed):
    """Pictures whose spectrum falls as photographs' does, by 1/f, grey more than coloured."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    frequency[0, 0] = 1 / size
    found = np.empty((NOISE, size, size, 3), np.uint8)
    for picture in found:
        noise = random.standard_normal((4, size, size))
        smooth = np.fft.irfft2(np.fft.rfft2(noise) / frequency, s=(size, size))
        smooth /= smooth.std(axis=(1, 2), keepdims=True)
        colours = 115 + random.uniform(30, 70) * (smooth[0] + 0.4 * smooth[1:])
        picture[...] = np.clip(colours, 0, 255).transpose(1, 2, 0)
    return found
