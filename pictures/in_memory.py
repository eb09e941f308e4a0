"""Pictures that a Python program has already: bytes, open files, arrays, PIL pictures."""

import cv2
import numpy as np

from pictures.decoding import MAX_FILE_BYTES, decode_picture, on_white, pillow_to_bgr
from pictures.headers import PictureError


def as_picture(source, short_side=None):
    """The picture in a file's bytes, an open file, a PIL picture, or an array of pixels.

    An array is uint8 [h, w, 3] BGR, [h, w, 4] BGRA, or grey [h, w] or [h, w, 1]. `short_side` is of
    bytes, as for load_picture. Raises PictureError.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return decode_picture(bytes(source), short_side)
    if isinstance(source, np.ndarray):
        return _array_to_bgr(source)
    if hasattr(source, 'getexif'):
        return _opened_to_bgr(source)
    if hasattr(source, 'read'):
        return decode_picture(_read_open_file(source), short_side)
    raise PictureError(f'a picture cannot be made of {type(source).__name__}')


def _array_to_bgr(array):
    channels = array.shape[2] if array.ndim == 3 else 1
    is_picture = array.ndim in (2, 3) and channels in (1, 3, 4) and array.size
    if array.dtype != np.uint8 or not is_picture:
        kind = f'{array.dtype} {list(array.shape)}'
        raise PictureError(
            f'an array of {kind}; it must be uint8, BGR [height, width, 3] or grey [height, width]'
        )
    array = np.ascontiguousarray(array)
    return cv2.cvtColor(array, cv2.COLOR_GRAY2BGR) if channels == 1 else on_white(array)


def _opened_to_bgr(image):
    try:
        image = image.copy()  # of no format; here Pillow reads the pixels of a file
    except Exception as error:  # its plug-ins raise whatever a damaged file leads them to
        raise PictureError(f'cannot decode: {str(error) or type(error).__name__}') from None
    return pillow_to_bgr(image, b'')


def _read_open_file(file):
    """The bytes of a file opened by the caller, from its start where it can go back there."""
    try:
        if not hasattr(file, 'seekable') or file.seekable():
            file.seek(0)
        data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError, AttributeError) as error:  # closed, say
        raise PictureError(f'the open file cannot be read: {error}') from None
    if not isinstance(data, bytes):
        raise PictureError(f"the open file gives {type(data).__name__}; open it as 'rb'")
    if len(data) > MAX_FILE_BYTES:
        raise PictureError(f'the open file has more than {MAX_FILE_BYTES:,} bytes')
    return data
