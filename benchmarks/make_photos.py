"""Write DIR/list.txt, a list of COUNT JPEGs with labels: python make_photos.py IMAGES COUNT DIR

IMAGES is a list, a folder, or '': then the JPEGs are made here, as large as ImageNet's, of
mirrored, cropped and rescaled demo photos, the same ones each time. Fewer than COUNT are repeated.
"""

import os
import sys
from pathlib import Path

import numpy as np
import timing

import reader
from common.console import UserError, one_line_errors
from pictures import folder_tree, lists

SIZE = 500, 375  # pixels: the most frequent size in ImageNet
QUALITY = 90
MOST_PHOTOS = 500  # different ones
CLASSES = 10  # labels of pictures that have none: 0 to 9


def make_photos(count, folder):
    """`count` variants of the demo photos as JPEG files; returns their paths."""
    photos = [
        reader.load_picture(path)
        for path in folder_tree.find_pictures(timing.ROOT / 'data' / 'photos')[0]
    ]
    paths = []
    for number in range(count):
        picture = variant(photos[number % len(photos)], np.random.default_rng(number))
        paths.append(os.path.join(folder, f'{number:05}.jpg'))
        reader.cv2.imwrite(paths[-1], picture, [reader.cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return paths


def variant(photo, random):
    """A part of the photo in ImageNet's size, mirrored half of the time."""
    height, width = photo.shape[:2]
    new_width, new_height = SIZE if width >= height else SIZE[::-1]
    scale = min(width / new_width, height / new_height) * random.uniform(0.75, 1.0)
    part_width, part_height = round(new_width * scale), round(new_height * scale)
    left = random.integers(0, width - part_width + 1)
    top = random.integers(0, height - part_height + 1)
    part = photo[top : top + part_height, left : left + part_width]
    if random.random() < 0.5:
        part = part[:, ::-1]
    return reader.cv2.resize(part, (new_width, new_height), interpolation=reader.cv2.INTER_LINEAR)


def choose(images, count, folder):
    """[(path, label)] of the pictures to use."""
    if not images:
        paths = make_photos(min(count, MOST_PHOTOS), folder)
    elif os.path.isdir(images):
        paths = folder_tree.find_pictures(images)[0]
    else:
        pictures = lists.read_list(images, class_num=1000)
        return [(pictures.path(i), pictures.label(i)) for i in range(min(count, len(pictures)))]
    return [(path, i % CLASSES) for i, path in enumerate(paths[:count])]


@one_line_errors
def main(images, count, folder):
    chosen = choose(images, int(count), folder)
    if not chosen:
        raise UserError(f'{images}: holds no pictures')
    lines = [f'{os.path.abspath(path)} {label}\n' for path, label in chosen]
    text = ''.join(np.resize(np.array(lines, object), int(count)))
    Path(folder, 'list.txt').write_text(text, encoding='utf-8')
    size = np.mean([os.path.getsize(path) for path, _ in chosen]) / 1000
    kind = f'from {Path(images).name}' if images else 'of {}x{} pixels'.format(*SIZE)
    print(f'{len(chosen)} different JPEGs {kind}, {size:.0f} kB on average')


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
