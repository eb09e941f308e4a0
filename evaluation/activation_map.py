"""Where a network looked: conv10's map of a class, which is its class activation map.

The logit of a class is the mean of that map, so no gradient is needed (Zhou et al., "Learning Deep
Features for Discriminative Localization", arXiv:1512.04150).
"""

from pathlib import Path

import numpy as np

import reader
from figures.image_grid import surest_mistakes
from models.cpu_network import cpu_network
from network import architecture
from network.preprocessing import preprocessing_of
from pictures.decoding import cv2, load_picture

STRENGTH = 0.6  # of the colour where the network looked most


class ActivationMaps:
    """The maps of the network with `tensors` and `config`, computed on the processor."""

    def __init__(self, tensors, config, by_numpy=False):
        self.preprocessing = preprocessing_of(config)
        self.network = cpu_network(tensors, config, 'conv10', by_numpy=by_numpy)
        self.centres = cell_centres(config['version'], config['conv10_pad'])

    def crop(self, path):
        """What the network sees of a picture file: uint8 [crop, crop, 3]. Raises PictureError."""
        picture = load_picture(path)
        return reader.centre_crop(
            reader.resize(picture, self.preprocessing), self.preprocessing.crop
        )

    def map(self, crop, number):
        """float32 [h, w] of class `number`, whose mean is the logit; `crop` as of `crop`."""
        return self.network(reader.network_input(crop[None], self.preprocessing))[0, number]

    def overlay(self, crop, number):
        """The crop, coloured where the network looked for class `number`: uint8 [h, w, 3] BGR.

        Each cell of the map lies where the pixels are that it sees; the colours go from the map's
        smallest value to its largest.
        """
        values = self.map(crop, number)
        spread = values.max() - values.min()
        values = (values - values.min()) / spread if spread > 0 else np.zeros_like(values)
        first, step = self.centres
        grid = (np.arange(len(crop), dtype=np.float32) - first) / step
        columns, rows = np.meshgrid(grid, grid)
        heat = cv2.remap(values, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        colours = cv2.applyColorMap(np.uint8(255 * heat), cv2.COLORMAP_INFERNO)
        share = STRENGTH * np.sqrt(heat)[..., None]
        return np.uint8(np.round((1 - share) * crop + share * colours))


def cell_centres(version, conv10_pad=0):
    """(first, step): conv10's cell i sees pixels around first + i * step, in both directions."""
    first, step = 0.0, 1
    for row in architecture.stages(version):
        if isinstance(row, architecture.Fire):
            continue  # its convolutions keep the places
        pooled = isinstance(row, architecture.MaxPool)
        kernel, stride = (3, 2) if pooled else (row.kernel, row.stride)
        pad = conv10_pad if row.name == 'conv10' else 0
        first += ((kernel - 1) / 2 - pad) * step
        step *= stride
    return first, step


def worst_mistakes(evaluation, pictures, names, maps, most=24):
    """What page.mistake_cards takes: of the mistakes that the network was surest of, JPEGs of what
    it saw and where it looked (for the class that it took it for), and lines of text."""
    predicted, certainty = evaluation.classes[:, 0], evaluation.probabilities[:, 0]
    for i in surest_mistakes(evaluation.labels, predicted, certainty)[:most]:
        path = pictures.path(evaluation.indices[i])
        crop = maps.crop(path)
        lines = (
            f'is {names[evaluation.labels[i]]}',
            f'taken for {names[predicted[i]]} ({certainty[i]:.0%})',
            Path(path).name,
        )
        yield _jpeg(crop), _jpeg(maps.overlay(crop, predicted[i])), lines


def _jpeg(picture):
    return cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
