"""Pictures as ONNX Runtime is fed with them, and those that int8's ranges are measured on."""

import numpy as np

import reader
from common.console import Meter
from network.preprocessing import preprocessing_of

PICTURES = 200
BATCH = 8  # pictures


def feed(crops, config, preprocessing=False):
    """uint8 crops [N, crop, crop, 3] BGR as onnx_file.build's model takes them."""
    if preprocessing:
        return np.ascontiguousarray(crops[..., ::-1])
    return reader.network_input(crops, preprocessing_of(config))


def batches(pictures, config, preprocessing, indices, meter):
    """Yields (feed, labels int64 [N]) of the pictures at `indices` of a PictureList."""
    for _, crops, labels in reader.eval_loader(pictures, preprocessing_of(config), BATCH, indices):
        yield feed(crops, config, preprocessing), labels
        meter.count(len(labels))


def calibration_feeds(pictures, config, preprocessing=False):
    """The feeds of up to PICTURES of the list `pictures`; its labels are not looked at."""
    count = min(len(pictures), PICTURES)
    print(f'{pictures.source}: calibrating with {count} of {len(pictures)} pictures', flush=True)
    chosen = np.linspace(0, len(pictures) - 1, count).round().astype(int)  # lists go by class
    with Meter('calibration', count) as meter:
        return [feed for feed, _ in batches(pictures, config, preprocessing, chosen, meter)]
