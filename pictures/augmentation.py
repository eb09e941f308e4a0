"""What training does to a picture so that no epoch sees the same pixels twice.

Few and cheap: a random part at the network's size, mirrored half of the time and, where asked for,
its colours a little changed. All of it is a function of the picture and of `rng`, a numpy Generator
that the caller makes from seed, epoch and index alone; so neither a resumed run nor the number of
readers changes what is seen.
"""

import math
from dataclasses import dataclass

import numpy as np

from pictures.decoding import cv2

TRIES = 10  # parts that may not fit into the picture before a square is taken
GREY = np.array([0.114, 0.587, 0.299])  # of B, G, R: ITU-R BT.601's luma


@dataclass(frozen=True)
class Augmentation:
    """How much of it. Raises ValueError for what cannot be done.

    `smallest` and `largest`: the part's share of the picture's area. `aspect`: its width is at most
    so many times its height, or the other way round. `mirror`: the probability. `colour`: by how
    much brightness, contrast and saturation are multiplied, 1 - colour to 1 + colour each.
    """

    smallest: float = 0.35
    largest: float = 1.0
    aspect: float = 4 / 3
    mirror: float = 0.5
    colour: float = 0.0

    def __post_init__(self):
        if not 0 < self.smallest <= self.largest <= 1:
            raise ValueError(f'a part of {self.smallest} to {self.largest} of a picture')
        if not self.aspect >= 1:
            raise ValueError(f'aspect is {self.aspect}; it must be at least 1')
        if not 0 <= self.mirror <= 1:
            raise ValueError(f'mirror is {self.mirror}; it must be 0 to 1')
        if not 0 <= self.colour < 1:
            raise ValueError(f'colour is {self.colour}; it must be 0 to less than 1')

    def short_side(self, size):
        """The shorter side of a picture whose every part has `size` pixels at least on each side.

        That is of a square picture; the parts of any other are longer.
        """
        return math.ceil(size * math.sqrt(self.aspect / self.smallest))


def augment(picture, rng, size, how=Augmentation()):
    """A random view of a picture: uint8 [h, w, 3] BGR to uint8 [size, size, 3], a new array.

    Bilinear as in evaluation, so that training meets the same artefacts. How many numbers are
    drawn from `rng` does not depend on the picture.
    """
    left, top, width, height = random_part(picture.shape[:2], rng, how)
    part = picture[top : top + height, left : left + width]
    view = cv2.resize(part, (size, size), interpolation=cv2.INTER_LINEAR)
    mirrored = rng.random() < how.mirror
    factors = rng.uniform(1 - how.colour, 1 + how.colour, 3)
    if mirrored:
        view = cv2.flip(view, 1)
    return change_colours(view, *factors) if how.colour else view


def random_part(shape, rng, how):
    """(left, top, width, height) in pixels of a part of a picture of `shape` (height, width).

    Of ten drawn the first that fits, as in the Inception papers' training; where none does, the
    picture is long and thin and the largest square is taken, at random too.
    """
    height, width = shape
    areas = rng.uniform(how.smallest, how.largest, TRIES) * (height * width)
    ratios = how.aspect ** rng.uniform(-1, 1, TRIES)
    across, down = rng.random(2)
    sizes = np.stack([np.sqrt(areas * ratios), np.sqrt(areas / ratios)], axis=1)
    sizes = np.maximum(np.rint(sizes).astype(int), 1)
    fitting = sizes[(sizes <= (width, height)).all(axis=1)]
    part_width, part_height = fitting[0] if len(fitting) else [min(height, width)] * 2
    left = int(across * (width - part_width + 1))
    top = int(down * (height - part_height + 1))
    return left, top, int(part_width), int(part_height)


def change_colours(picture, brightness, contrast, saturation):
    """Multiply each by its factor; uint8 [h, w, 3] BGR in and out, values beyond 0..255 clipped.

    Contrast is about the picture's mean grey, saturation about each pixel's own: all three are one
    affine map of a pixel.
    """
    saturated = saturation * np.eye(3) + (1 - saturation) * GREY
    mean_grey = brightness * GREY @ picture.reshape(-1, 3).mean(axis=0)
    offset = np.full((3, 1), (1 - contrast) * mean_grey)
    return cv2.transform(picture, np.hstack([contrast * brightness * saturated, offset]))
