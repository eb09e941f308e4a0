"""What the tests of lists share: files to list, and the names of ImageNet's classes."""

from pathlib import Path

import cv2
import numpy as np

from pictures.class_names import read_class_names

ROOT = Path(__file__).resolve().parents[2]
IMAGENET = read_class_names(ROOT / 'data' / 'synset_words.txt', 1000)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def picture(path, number):
    """A small picture file that is unlike those of other numbers."""
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return write(path, cv2.imencode('.png', pixels)[1].tobytes())
