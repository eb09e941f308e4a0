"""Pictures: decoding, resizing, cropping, the mean; and the loaders that make batches of them.

    python reader.py FOLDER --val 0.2 --test 0.1     # lists, from a folder of class folders

Pictures are numpy arrays, uint8 [height, width, 3] in BGR order, as Caffe's were.
"""

import argparse
import math
import sys
from dataclasses import dataclass
from typing import Optional

from common.opencv_setup import MAX_PIXELS

import numpy as np

from common.console import one_line_errors, printable
from pictures import workers
from pictures.augmentation import Augmentation, augment
from pictures.decoding import PictureError, check_picture, cv2, load_picture, named
from pictures.list_making import print_counts, write_lists

CENTRE = 4  # of crop_at
# With --fast_decode a picture stays so many times as long and wide as what it is resized to. Of 50
# photos enlarged to 12 megapixels 82 to 90 % keep their class with 1, 92 to 98 % with 2, and hardly
# more with 4.
SPARE = 2


# --------------------------------------------------------------------------------------------------
# One picture
# --------------------------------------------------------------------------------------------------


def resize(picture, preprocessing):
    """uint8 [h, w, 3] in and out, as `preprocessing` says, bilinear as OpenCV does it.

    Raises PictureError.
    """
    height, width = picture.shape[:2]
    size, crop = preprocessing.resize_size, preprocessing.crop
    if preprocessing.resize == 'none':
        if min(height, width) < crop:
            raise PictureError(f'{width}x{height} pixels; without resizing {crop}x{crop} is least')
        return picture
    new_width = new_height = size
    if preprocessing.resize == 'short':
        scale = size / min(height, width)
        new_width = max(size, round(width * scale))
        new_height = max(size, round(height * scale))
        if new_width * new_height > MAX_PIXELS:  # one pixel by 10,000 would need 2 GB
            raise PictureError(f'{width}x{height} pixels are too long and thin to resize')
    return cv2.resize(picture, (new_width, new_height), interpolation=cv2.INTER_LINEAR)


def crop_at(picture, which, size):
    """A view of size x size pixels: 0 to 3 the corners in reading order, 4 the centre."""
    down, right = picture.shape[0] - size, picture.shape[1] - size
    top, left = ((0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2))[which]
    return picture[top : top + size, left : left + size]


def centre_crop(picture, size):
    """The view that evaluation takes; it starts at ((h - size)//2, (w - size)//2)."""
    return crop_at(picture, CENTRE, size)


def reduced_side(preprocessing, least=1):
    """What load_picture may reduce a big JPEG's shorter side to, in pixels, before it is resized.

    None, all, where nothing is resized; `least`: what is needed besides.
    """
    if preprocessing.resize == 'none':
        return None
    return SPARE * max(preprocessing.resize_size, least)


def preprocess(path, preprocessing, fast_decode=False):
    """A picture file as evaluation sees it: uint8 [crop, crop, 3] BGR. Raises PictureError.

    `fast_decode` reads big JPEGs at a reduced scale, for nearly the same pixels.
    """
    picture = load_picture(path, reduced_side(preprocessing) if fast_decode else None)
    with named(path):
        return centre_crop(resize(picture, preprocessing), preprocessing.crop)


def network_input(batch, preprocessing):
    """uint8 [N, h, w, 3] BGR to what the network takes: float32 [N, 3, h, w]."""
    count, height, width, channels = batch.shape
    if preprocessing.channel_order == 'RGB':
        batch = batch[..., ::-1]
    images = np.empty((count, channels, height, width), np.float32)
    images[...] = batch.transpose(0, 3, 1, 2)
    images -= np.array(preprocessing.mean, np.float32).reshape(3, 1, 1)
    if preprocessing.scale != 1:
        images *= np.float32(preprocessing.scale)
    return images


# --------------------------------------------------------------------------------------------------
# Batches
# --------------------------------------------------------------------------------------------------


def epoch_order(n, count, seed, epoch, crops):
    """Which picture stands at each of an epoch's `count` positions, and a number 0 to crops - 1.

    Returns int64 [count] twice; the first is a permutation of `n` that starts again where it ends.
    Both depend on seed and epoch alone.
    """
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(n)
    return np.resize(order, count), random.integers(0, crops, count)


@dataclass(frozen=True)
class Sampling:
    """What an epoch's batches are: `batch_size` pictures each, `iter_size` of them an update.

    `rank` of `world` processes takes its part of each update. What an update sees depends on
    `seed`, the epoch and the position in it alone, not on how many workers read it, nor on whether
    two processes or one of twice the batch size see it. `crop`: 'five' takes a corner or the
    centre, 'random' the network's size anywhere, 'area' what `augmentation` says. `fast_decode`
    reads big JPEGs at a reduced scale.
    """

    batch_size: int
    seed: int = 0
    crop: str = 'five'
    mirror: bool = False
    augmentation: Optional[Augmentation] = None
    rank: int = 0
    world: int = 1
    iter_size: int = 1
    fast_decode: bool = False

    def short_side(self, preprocessing):
        """What load_picture may reduce a picture to; None: it may not."""
        if not self.fast_decode:
            return None
        # The smallest part is what is resized to the network's crop.
        area = self.crop == 'area'
        least = self.augmentation.short_side(preprocessing.crop) if area else 1
        return reduced_side(preprocessing, least)

    def iterations(self, n):
        """Updates that one epoch of `n` pictures takes; the last is filled up with repeats."""
        return -(-n // (self.batch_size * self.world * self.iter_size))

    def positions(self, n, epoch, start=0):
        """(indices, views) of this process from iteration `start` on: what `view` takes."""
        shape = (self.iterations(n), self.iter_size, self.world, self.batch_size)
        count = math.prod(shape)
        indices, crops = epoch_order(n, count, self.seed, epoch, 10 if self.mirror else 5)
        if self.crop != 'five':
            crops = np.arange(count)  # the position itself, which seeds what is drawn there
        return tuple(v.reshape(shape)[start:, :, self.rank].ravel() for v in (indices, crops))


class TrainTransform:
    """What training sees of a picture in `epoch`, uint8 [crop, crop, 3], by Sampling's numbers."""

    def __init__(self, preprocessing, sampling, epoch):
        self.preprocessing, self.sampling, self.epoch = preprocessing, sampling, epoch
        self.short_side = sampling.short_side(preprocessing)

    def __call__(self, picture, number):
        size, sampling = self.preprocessing.crop, self.sampling
        if sampling.crop == 'five':
            view = crop_at(resize(picture, self.preprocessing), number % 5, size)
            return view[:, ::-1] if number >= 5 else view
        random = np.random.default_rng((sampling.seed, self.epoch, int(number)))
        if sampling.crop == 'area':
            return augment(picture, random, size, sampling.augmentation)
        picture = resize(picture, self.preprocessing)
        top, left = (int(random.integers(0, n - size + 1)) for n in picture.shape[:2])
        view = picture[top : top + size, left : left + size]
        return view[:, ::-1] if sampling.mirror and random.random() < 0.5 else view


class EvalTransform:
    """What evaluation sees, of pictures that may be reduced to `short_side`."""

    def __init__(self, preprocessing, short_side=None):
        self.preprocessing, self.short_side = preprocessing, short_side

    def __call__(self, picture, _):
        return centre_crop(resize(picture, self.preprocessing), self.preprocessing.crop)


def train_loader(
    pictures, preprocessing, sampling, epoch, start=0, num_workers=0, work=None, load=load_picture
):
    """An epoch's batches from iteration `start` on: (uint8 [B, crop, crop, 3], int64 [B]).

    Or what `work(indices, crops, labels)` makes of them where they were read. Each iteration is
    `iter_size` batches of exactly `batch_size` pictures. `load` is load_picture, or gives the same.
    Raises PictureError, which names the list's line, and UserError.
    """
    positions = sampling.positions(len(pictures), epoch, start)
    view = TrainTransform(preprocessing, sampling, epoch)
    work = work or _without_indices
    batches = _Batches(pictures, view, positions, sampling.batch_size, work, load)
    return workers.compute(batches, num_workers)


def _without_indices(indices, images, labels):
    return images, labels


def eval_loader(pictures, preprocessing, batch_size, indices=None, num_workers=0, work=None):
    """ordered_loader of what evaluation sees."""
    view = EvalTransform(preprocessing)
    return ordered_loader(pictures, view, batch_size, indices, num_workers, work)


def ordered_loader(
    pictures, view, batch_size, indices=None, num_workers=0, work=None, load=load_picture
):
    """A view of all pictures, or of those at `indices`, in order; the last batch is smaller.

    Yields (indices into `pictures` int64 [B], uint8 [B, crop, crop, 3], labels int64 [B]), or what
    `work` makes of these three where they were read. `load` and errors are as train_loader's.
    """
    indices = np.arange(len(pictures)) if indices is None else indices
    batches = _Batches(pictures, view, (indices, indices), batch_size, work, load)
    return workers.compute(batches, num_workers)


class _Batches:
    """What the loaders' processes compute: item i is batch i, or what `work` makes of it."""

    def __init__(self, pictures, view, positions, batch_size, work, load):
        self.pictures = pictures
        self.view = view
        self.indices, self.numbers = positions
        self.batch_size = batch_size
        self.work = work
        self.load = load

    def __len__(self):
        return -(-len(self.indices) // self.batch_size)

    def __getitem__(self, i):
        batch = self._batch(slice(i * self.batch_size, (i + 1) * self.batch_size))
        return self.work(*batch) if self.work else batch

    def _batch(self, chosen):
        indices, size = self.indices[chosen], self.view.preprocessing.crop
        images = np.empty((len(indices), size, size, 3), np.uint8)
        for image, index, number in zip(images, indices, self.numbers[chosen]):
            image[...] = self._view(index, number)
        return indices, images, self.pictures.labels[indices].astype(np.int64)

    def _view(self, index, number):
        path = self.pictures.path(index)
        try:
            picture = self.load(path, self.view.short_side)
            with named(path):
                return self.view(picture, number)
        except PictureError as error:
            raise PictureError(f'{self.pictures.where(index)}: {error}') from None


# --------------------------------------------------------------------------------------------------
# Command line: lists from a folder
# --------------------------------------------------------------------------------------------------


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        description='Write train.txt, val.txt, perhaps test.txt, and classes.txt for a folder of'
        ' class folders. Where it has subfolders train, val (valid, validation ...) or test with'
        ' class folders, these are the lists, and --val and --test say what is done without them.'
    )
    parser.add_argument('folder', metavar='FOLDER', help='has one subfolder of pictures per class')
    parser.add_argument(
        '--val',
        type=_share,
        default=0.2,
        help='share of each class for val.txt (default 0.2); 0: no val.txt; 1: val.txt alone',
    )
    parser.add_argument(
        '--test', type=_share, default=0.0, help='share of each class for test.txt (default 0)'
    )
    parser.add_argument('--output', help='where the lists go (default: FOLDER)')
    parser.add_argument('--seed', type=int, default=0, help='another seed divides otherwise (0)')
    args = parser.parse_args(argv)
    if args.val + args.test > 1:
        parser.error(f'--val {args.val:g} and --test {args.test:g} are more than all')
    return args


def _share(text):
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'{text} is not between 0 and 1')
    return value


@one_line_errors
def main(argv=None):
    args = parse_arguments(argv)
    output = args.output or args.folder
    lists = write_lists(
        args.folder, output, args.val, args.seed, check_picture, _print_line, args.test
    )
    print_counts(lists)
    names = [*(f'{side}.txt' for side in lists.sides), 'classes.txt']
    print(printable(f'written to {output}: {", ".join(names)}'))


def _print_line(text: str) -> None:
    print(printable(text), flush=True)


if __name__ == '__main__':
    sys.exit(main())
