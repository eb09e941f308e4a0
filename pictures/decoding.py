"""Picture files to pixels: what OpenCV makes of them, for every kind of file and within limits.

Pictures are numpy arrays, uint8 [height, width, 3] in BGR order, as Caffe's were. Other modules
import cv2 from here, since its limits must be set before it is loaded.
"""

import hashlib
import io
import os
import stat
import warnings
from contextlib import contextmanager, suppress

import numpy as np

from common.console import UserError

# A limit for pictures that claim more than they hold: what Pillow refuses by itself.
MAX_PIXELS = 178_956_970
MAX_FILE_BYTES = 1 << 30
MAX_SCANS = 100  # of a JPEG of MAX_PIXELS, and more of smaller ones; progressive ones have about 10
os.environ.setdefault('OPENCV_IO_MAX_IMAGE_PIXELS', str(MAX_PIXELS))  # cv2 reads both once
os.environ.setdefault('OPENCV_LOG_LEVEL', 'SILENT')  # broken pictures get our line, not its three
import cv2  # noqa: E402

# Whole pictures are what runs in parallel; and OpenCV's own threads would not survive the fork
# that makes the loaders' processes.
cv2.setNumThreads(1)

# What Pillow may try when OpenCV cannot. PNG is not among them, since Pillow takes damaged ones
# for whole; nor is EPS, for which it would run another program.
PILLOW_FORMATS = {'JPEG', 'GIF', 'BMP', 'WEBP', 'TIFF', 'JPEG2000', 'AVIF'}
PILLOW_FORMATS |= {'TGA', 'ICO', 'PCX', 'QOI'}
PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'


class PictureError(UserError):
    """A picture that cannot be read or is too small or too large."""


def load_picture(path):
    """The picture in a file: uint8 [height, width, 3] BGR, turned upright as its EXIF data says.

    Pixels are those of cv2.imread. Raises PictureError, which begins with the path.
    """
    with named(path):
        return decode_picture(_read_file(path))


def check_picture(path):
    """The sha256 of a picture file that decodes. Raises PictureError as load_picture does."""
    with named(path):
        data = _read_file(path)
        decode_picture(data)
    return hashlib.sha256(data).hexdigest()


def decode_picture(data):
    """The picture in a file's bytes: uint8 [height, width, 3] BGR. Raises PictureError."""
    if not data:
        raise PictureError('the file is empty')
    if data.startswith(PNG_SIGNATURE):
        _check_png_chunks(data)
    if data.startswith(b'\xff\xd8') and data.count(b'\xff\xda') > MAX_SCANS:
        _check_scans(data)
    picture = None
    with suppress(cv2.error):  # how it reports a size over the limit
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        return _decode_with_pillow(data)
    if data.startswith(b'\xff\xd8') and not data.endswith(b'\xff\xd9'):
        # Bytes after the end are harmless, but a missing end is not: older OpenCV fills the rest
        # of such a JPEG with grey. Pillow can tell which it is.
        _check_end(data)
    return picture


def _read_file(path):
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise PictureError('not a regular file')
        if found.st_size > MAX_FILE_BYTES:
            raise PictureError(f'{found.st_size} bytes; at most {MAX_FILE_BYTES} are read')
        with open(path, 'rb') as file:
            return file.read()
    except OSError as error:
        raise PictureError(error.strerror or error) from None
    except ValueError as error:  # a zero byte in the path, say
        raise PictureError(error) from None


def _check_png_chunks(data):
    """OpenCV takes seconds and gigabytes to find that a PNG's parts do not fit into its file."""
    end, name = len(PNG_SIGNATURE), b''
    while name != b'IEND':
        length, name = int.from_bytes(data[end : end + 4], 'big'), data[end + 4 : end + 8]
        end += length + 12  # with length, name and checksum
        if end > len(data):
            raise PictureError('cannot decode: a damaged or truncated PNG file')


def _check_scans(data):
    """A progressive JPEG may have its decoder go over all pixels for every 20 bytes: for hours."""
    scans = data.count(b'\xff\xda')  # or fewer: a phone's picture may have a film behind it
    pixels = 0
    with suppress(Exception), _open_with_pillow(data, ['JPEG']) as image:
        pixels = image.width * image.height
    if scans * pixels > MAX_SCANS * MAX_PIXELS:
        raise PictureError(f'cannot decode: a JPEG file of {scans} scans')


def _check_end(data):
    """Raises PictureError for a truncated JPEG; decodes an eighth of its size, to save memory."""
    try:
        with _open_with_pillow(data, ['JPEG']) as image:
            image.draft(image.mode, (1, 1))
            image.load()
    except Exception as error:
        raise PictureError(f'cannot decode: {error}') from None


def _open_with_pillow(data, formats):
    from PIL import Image  # rarely needed, 50 ms to import

    warnings.filterwarnings('ignore', module='PIL')
    return Image.open(io.BytesIO(data), formats=formats)


def _decode_with_pillow(data):
    from PIL import Image, ImageOps, UnidentifiedImageError  # rarely needed, 50 ms to import

    warnings.filterwarnings('ignore', module='PIL')
    Image.init()
    formats = [name for name in Image.OPEN if name in PILLOW_FORMATS or name == 'PNG']
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            if image.format == 'PNG':
                raise PictureError('cannot decode: a damaged PNG file')
            if image.mode in ('I', 'F'):
                raise PictureError('cannot decode: 32-bit pixels, whose range is not known')
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith('I;16'):  # convert() would clip, not scale
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            return cv2.cvtColor(np.asarray(image.convert('RGB')), cv2.COLOR_RGB2BGR)
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError('cannot decode: no kind of picture that is known here') from None
    except Exception as error:  # its plug-ins raise whatever a damaged file leads them to
        raise PictureError(f'cannot decode: {str(error) or type(error).__name__}') from None


@contextmanager
def named(path):
    """Begins the text of a PictureError with the path."""
    try:
        yield
    except PictureError as error:
        raise PictureError(f'{path!s:.400}: {error}') from None
