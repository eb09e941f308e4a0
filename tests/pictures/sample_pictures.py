"""What the tests of decoding and of batches share: a smooth picture, its encodings, their files."""

import io

import numpy as np
import pytest
from PIL import Image

# A smooth BGR picture, so that JPEG changes it little
ROWS, COLUMNS = np.mgrid[:60, :90]
BGR = np.stack([ROWS * 4, COLUMNS * 2, 255 - ROWS - COLUMNS], axis=-1).astype(np.uint8)
Image.init()
RGB_IMAGE = Image.fromarray(np.ascontiguousarray(BGR[..., ::-1]))
PALETTE = RGB_IMAGE.quantize(32)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(name='save')
def save_fixture(tmp_path):
    def save(data, name='picture'):
        path = tmp_path / name
        path.write_bytes(data)
        return str(path)

    return save
