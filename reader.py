"""Pictures: decoding, resizing, cropping, the mean; and the loaders that make batches of them.

    python reader.py FOLDER --val 0.2      # lists for training, from a folder of class folders

Pictures are numpy arrays, uint8 [height, width, 3] in BGR order, as Caffe's were.
"""

import argparse
import sys
from contextlib import closing

import numpy as np

from common.console import UserError, one_line_errors
from pictures import workers
from pictures.decoding import MAX_PIXELS, PictureError, check_picture, cv2, load_picture, named
from pictures.folders import print_counts, write_lists

RESIZES = ('short', 'warp', 'none')
RESIZED = 256  # pixels: the short side, or both sides of a warped picture
CROP = 227  # pixels: the network's input
MEAN = (104, 117, 123)  # BGR; Caffe's SqueezeNet train_val.prototxt, mean_value
CENTRE = 4  # of five_crop


# --------------------------------------------------------------------------------------------------
# One picture
# --------------------------------------------------------------------------------------------------


def resize(picture, how):
    """'short': the short side to 256; 'warp': both sides to 256; 'none': as it is, if 227 or more.

    uint8 [h, w, 3] in and out, bilinear as OpenCV does it. Raises PictureError.
    """
    height, width = picture.shape[:2]
    if how == 'none':
        if min(height, width) < CROP:
            raise PictureError(f'{width}x{height} pixels; without resizing {CROP}x{CROP} is least')
        return picture
    new_width = new_height = RESIZED
    if how == 'short':
        scale = RESIZED / min(height, width)
        new_width = max(RESIZED, round(width * scale))
        new_height = max(RESIZED, round(height * scale))
        if new_width * new_height > MAX_PIXELS:  # one pixel by 10,000 would need 2 GB
            raise PictureError(f'{width}x{height} pixels are too long and thin to resize')
    return cv2.resize(picture, (new_width, new_height), interpolation=cv2.INTER_LINEAR)


def five_crop(picture, which):
    """A 227x227 view of a picture: 0 to 3 the corners in reading order, 4 the centre."""
    down, right = picture.shape[0] - CROP, picture.shape[1] - CROP
    top, left = ((0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2))[which]
    return picture[top : top + CROP, left : left + CROP]


def centre_crop(picture):
    """The 227x227 view that evaluation takes; it starts at ((h - 227)//2, (w - 227)//2)."""
    return five_crop(picture, CENTRE)


def preprocess(path, how):
    """A picture file as evaluation sees it: uint8 [227, 227, 3] BGR. Raises PictureError."""
    picture = load_picture(path)
    with named(path):
        return centre_crop(resize(picture, how))


def subtract_mean(batch):
    """uint8 [N, 227, 227, 3] to what the network takes: float32 [N, 3, 227, 227]."""
    count, height, width, channels = batch.shape
    images = np.empty((count, channels, height, width), np.float32)
    images[...] = batch.transpose(0, 3, 1, 2)
    images -= np.array(MEAN, np.float32).reshape(3, 1, 1)
    return images


# --------------------------------------------------------------------------------------------------
# Batches
# --------------------------------------------------------------------------------------------------


def iterations_per_epoch(n, batch_size, world=1, iter_size=1):
    """Updates that one epoch of `n` pictures takes; the last one is filled up with repeats."""
    return -(-n // (batch_size * world * iter_size))


def epoch_order(n, count, mirror, seed, epoch):
    """Which picture and which crop of it stands at each of an epoch's `count` positions.

    Returns indices int64 [count], a permutation of `n` that starts again where it ends, and crops
    int64 [count]: 0 to 4 for five_crop, plus 5 for mirrored. Both depend on seed and epoch alone.
    """
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(n)
    return np.resize(order, count), random.integers(0, 10 if mirror else 5, count)


def train_loader(
    pictures,
    resize,
    mirror,
    seed,
    epoch,
    batch_size,
    rank=0,
    world=1,
    iter_size=1,
    start=0,
    num_workers=0,
    work=None,
    picture_bytes=CROP * CROP * 3,
):
    """An epoch's batches for one of `world` processes: (uint8 [B, 227, 227, 3], int64 [B]).

    Or what `work(indices, crops, labels)` makes of them where they were read, of at most
    `picture_bytes` a picture.

    Each iteration, counted from `start`, is `iter_size` batches of exactly `batch_size` pictures.
    Over all processes it takes consecutive pictures of epoch_order, so what an update sees does not
    depend on `num_workers`, nor on whether two processes or one of twice the batch size see it.
    Raises PictureError, which names the list's line, and workers.WorkerError.
    """
    iterations = iterations_per_epoch(len(pictures), batch_size, world, iter_size)
    count = iterations * iter_size * world * batch_size
    shape = (iterations, iter_size, world, batch_size)
    indices, crops = (
        order.reshape(shape)[start:, :, rank].ravel()
        for order in epoch_order(len(pictures), count, mirror, seed, epoch)
    )
    batches = _Batches(pictures, resize, indices, crops, batch_size, work or _without_indices)
    return _load(batches, num_workers, picture_bytes)


def _without_indices(indices, images, labels):
    return images, labels


def eval_loader(pictures, resize, batch_size, rank=0, world=1, num_workers=0, work=None):
    """Centre crops of every `world`-th picture from `rank` on, in order; the last batch is smaller.

    Yields (indices into `pictures` int64 [B], uint8 [B, 227, 227, 3], labels int64 [B]), or what
    `work` makes of these three where they were read (less than 1 MB). Raises as train_loader does.
    """
    indices = np.arange(rank, len(pictures), world)
    crops = np.full(len(indices), CENTRE)
    return _load(_Batches(pictures, resize, indices, crops, batch_size, work), num_workers)


class _Batches:
    """What the loaders' processes compute: item i is batch i and None, or None and an error's text.

    An error travels as data, since an exception would arrive wrapped in a traceback.
    """

    def __init__(self, pictures, resize, indices, crops, batch_size, work=None):
        self.pictures = pictures
        self.resize = resize
        self.indices = indices
        self.crops = crops
        self.batch_size = batch_size
        self.work = work

    def __len__(self):
        return -(-len(self.indices) // self.batch_size)

    def __getitem__(self, i):
        try:
            batch = self._batch(slice(i * self.batch_size, (i + 1) * self.batch_size))
            return (self.work(*batch) if self.work else batch), None
        except UserError as error:
            return None, str(error)

    def _batch(self, chosen):
        indices = self.indices[chosen]
        images = np.empty((len(indices), CROP, CROP, 3), np.uint8)
        for image, index, crop in zip(images, indices, self.crops[chosen]):
            image[...] = self._crop(index, crop)
        return indices, images, self.pictures.labels[indices].astype(np.int64)

    def _crop(self, index, crop):
        path = self.pictures.path(index)
        try:
            picture = load_picture(path)
            with named(path):
                picture = five_crop(resize(picture, self.resize), crop % 5)
        except PictureError as error:
            raise PictureError(f'{self.pictures.where(index)}: {error}') from None
        return picture[:, ::-1] if crop >= 5 else picture


def _load(batches, num_workers, picture_bytes=CROP * CROP * 3):
    """Yield every batch. Close it, or read it to its end, before the next."""
    item_bytes = batches.batch_size * picture_bytes
    with closing(workers.compute(batches, num_workers, item_bytes)) as made:
        for batch, error in made:
            if error:
                raise PictureError(error)
            yield batch


# --------------------------------------------------------------------------------------------------
# Command line: lists from a folder
# --------------------------------------------------------------------------------------------------


def parse_arguments():
    parser = argparse.ArgumentParser(
        description='Write train.txt, val.txt and classes.txt for a folder of class folders. Where'
        ' it has the subfolders train/ and val/ with class folders, these are the two lists.'
    )
    parser.add_argument('folder', metavar='FOLDER', help='has one subfolder of pictures per class')
    parser.add_argument(
        '--val', type=_fraction, default=0.2, help='share of each class for val.txt (default 0.2)'
    )
    parser.add_argument('--output', help='where the lists go (default: FOLDER)')
    parser.add_argument('--seed', type=int, default=0, help='another seed divides otherwise (0)')
    return parser.parse_args()


def _fraction(text):
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f'{text} is not between 0 and 1')
    return value


@one_line_errors
def main():
    args = parse_arguments()
    output = args.output or args.folder
    lists = write_lists(args.folder, output, args.val, args.seed, check_picture)
    for remark in lists.remarks:
        print(' '.join(remark.split()))
    print_counts(lists)
    print(f'written to {output}: train.txt, val.txt, classes.txt')


if __name__ == '__main__':
    sys.exit(main())
