"""Picture files to pixels: for every kind of file, within limits, and without a word of a library.

Pictures are numpy arrays, uint8 [height, width, 3] in BGR order, as Caffe's were. JPEGs are decoded
by libjpeg-turbo (simplejpeg), strictly, so that a picture with a hole is found out; WEBP, BMP and
PNM by OpenCV; HEIC and JPEG XL by modern_formats.py; all else by Pillow. Whatever the library, a
picture is turned upright as its EXIF data says, and what is transparent is shown on white.
"""

import hashlib
import io
import logging
import re
import warnings
from contextlib import contextmanager, nullcontext, suppress

from common.opencv_setup import MAX_PIXELS  # before OpenCV

import cv2
import numpy as np
import simplejpeg

from common.files import read_regular_file, windows_hint
from pictures import headers
from pictures.headers import JPEG_END, JPEG_START, PNG_SIGNATURE, PictureError, check_size
from pictures.kinds import HEAD_BYTES, other_kind, picture_kind
from pictures.modern_formats import MODERN, read_modern
from pictures.quiet import QUIET

# Whole pictures are what runs in parallel; and OpenCV's own threads would not survive the fork
# that makes the loaders' processes.
cv2.setNumThreads(1)

MAX_FILE_BYTES = 1 << 28
# Kinds for Pillow, with the most pixels and bytes that are read: what takes it 1.6 GB, or 6 s of a
# processor. EPS is not among them, since Pillow would run another program for it.
PILLOW_LIMITS = dict.fromkeys(
    ('JPEG', 'PNG', 'GIF', 'BMP', 'TIFF', 'TGA', 'ICO', 'PCX', 'WEBP'),
    (headers.MOST_IN_FOUR, MAX_FILE_BYTES),
)
PILLOW_LIMITS.update(AVIF=(60_000_000, 1 << 24), JPEG2000=(36_000_000, 1 << 24))
PILLOW_LIMITS.update(QOI=(2_500_000, MAX_FILE_BYTES))

# What libjpeg warns of though all pixels are there: it knows the words from cameras and editors.
HARMLESS = re.compile('Invalid SOS parameters|Unknown Adobe color|unknown JFIF|Inconsistent progr')
LEFT_OVER = re.compile(r'(\d+) extraneous bytes before marker 0xd9')


def load_picture(path, short_side=None):
    """The picture in a file: uint8 [height, width, 3] BGR, upright, transparent parts white.

    With `short_side`, a JPEG may come at a half, a quarter or an eighth of its size, with at least
    so many pixels on its shorter side. Raises PictureError, which begins with the path.
    """
    with named(path):
        return decode_picture(_read_file(path), short_side)


def check_picture(path):
    """The sha256 of a picture file that decodes. Raises PictureError as load_picture does."""
    with named(path):
        data = _read_file(path)
        decode_picture(data)
    return hashlib.sha256(data).hexdigest()


@contextmanager
def named(path):
    """Begins the text of a PictureError with the path; a lack of memory is one, too."""
    try:
        yield
    except PictureError as error:
        raise PictureError(f'{path!s:.400}: {error}') from None
    except MemoryError:
        raise PictureError(f'{path!s:.400}: there is not enough memory for it') from None


def _read_file(path):
    try:
        return read_regular_file(path, MAX_FILE_BYTES)
    except OSError as error:
        hint = windows_hint(path) if isinstance(error, FileNotFoundError) else ''
        raise PictureError(f'{error.strerror or error}{hint}') from None


def decode_picture(data, short_side=None):
    """The picture in a file's bytes: uint8 [height, width, 3] BGR; see load_picture.

    Raises PictureError.
    """
    if not data:
        raise PictureError('the file is empty')
    if data.startswith(JPEG_START):
        return _decode_jpeg(data, short_side)
    if data.startswith(PNG_SIGNATURE):
        return _decode_with_pillow(headers.png_essentials(data))
    kind = picture_kind(data[:HEAD_BYTES])
    if kind in MODERN:
        _silence_pillow()
        with QUIET:
            return pillow_to_bgr(read_modern(data, kind), data)
    picture = None
    if kind == 'WEBP':
        headers.check_webp_size(data)
        picture = _decode_with_opencv(data, cv2.IMREAD_UNCHANGED)
        if picture is not None:
            return _turn_upright(on_white(picture), headers.webp_exif(data))
    elif re.match(rb'BM|P[1-6]\s', data):
        with QUIET:
            picture = _decode_with_opencv(data, cv2.IMREAD_COLOR)
    return _decode_with_pillow(data) if picture is None else picture


# --------------------------------------------------------------------------------------------------
# JPEG
# --------------------------------------------------------------------------------------------------


def _decode_jpeg(data, short_side):
    width, height, components = headers.jpeg_frame(data)
    check_size(width, height, headers.MOST_IN_FOUR if components == 4 else MAX_PIXELS)
    headers.check_jpeg_scans(data, width, height)
    if headers.jpeg_has_zeros(data):
        raise PictureError('cannot decode: a damaged JPEG file (a hole of zeros in its data)')
    try:
        size = _reduced_size(width, height, short_side)
        picture = _decode_strictly(data, 'CMYK' if components == 4 else 'BGR', size)
    except _UnusualSampling:
        return _decode_with_pillow(data)
    picture = _cmyk_to_bgr(picture) if components == 4 else picture
    return _turn_upright(picture, headers.jpeg_exif(data))


class _UnusualSampling(Exception):
    """A JPEG that only libjpeg's own interface, as Pillow uses it, decodes."""


def _reduced_size(width, height, short_side):
    """The smallest size that will do, as simplejpeg is told of it; {} is all pixels.

    An eighth, a quarter or a half alone: libjpeg takes longer for what lies between.
    """
    for factor in (8, 4, 2) if short_side else ():
        if min(width, height) >= factor * short_side:
            return {'min_width': -(-width // factor), 'min_height': -(-height // factor)}
    return {}


def _decode_strictly(data, space, size):
    """uint8 [h, w, 3 or 4]. Raises PictureError where pixels are missing, which libjpeg makes up.

    It reads the whole file at any `size`, so none hides a hole. A JPEG that lacks nothing but its
    end marker is whole.
    """
    try:
        return simplejpeg.decode_jpeg(data, space, **size)
    except ValueError as error:
        complaint = str(error)
    if 'Premature end of JPEG file' in complaint:
        with suppress(ValueError):
            return simplejpeg.decode_jpeg(data + JPEG_END, space, **size)
        raise PictureError('cannot decode: a truncated JPEG file')
    if 'subsampling' in complaint:
        raise _UnusualSampling
    if HARMLESS.search(complaint) or _is_padding(data, LEFT_OVER.search(complaint)):
        with suppress(ValueError):
            return simplejpeg.decode_jpeg(data, space, strict=False, **size)
    raise PictureError(f'cannot decode: a damaged JPEG file ({complaint})')


def _is_padding(data, left_over):
    """Whether the bytes between the last pixel and the end marker are a filling, as cameras add."""
    end = data.rfind(JPEG_END)
    return bool(left_over) and len(set(data[max(0, end - int(left_over[1])) : end])) == 1


def _cmyk_to_bgr(cmyk):
    """As OpenCV does it: Adobe's inverted inks."""
    black = cmyk[..., 3].astype(np.uint16)
    picture = np.empty((*black.shape, 3), np.uint8)
    for i in range(3):
        picture[..., 2 - i] = black - ((255 - cmyk[..., i]) * black >> 8)
    return picture


# --------------------------------------------------------------------------------------------------
# Other kinds
# --------------------------------------------------------------------------------------------------


def _decode_with_opencv(data, flags):
    """The picture as OpenCV gives it, or None."""
    with suppress(cv2.error):  # how it reports a size over its limit
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    return None


def _decode_with_pillow(data):
    from PIL import Image, UnidentifiedImageError  # not needed for JPEG, 50 ms to import

    _silence_pillow()
    formats = _known_formats(Image)
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            _check_limits(image, data)
            with QUIET if image.format == 'TIFF' else nullcontext():
                image.load()
            return pillow_to_bgr(image, data)
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError(f'cannot decode: {_unknown_kind(data)}') from None
    except Exception as error:  # its plug-ins raise whatever a damaged file leads them to
        raise PictureError(f'cannot decode: {str(error) or type(error).__name__}') from None


def _known_formats(Image):
    Image.init()
    return [name for name in Image.OPEN if name in PILLOW_LIMITS]


def _check_limits(image, data):
    most_pixels, most_bytes = PILLOW_LIMITS[image.format]
    check_size(*image.size, most_pixels)
    if len(data) > most_bytes:
        raise PictureError(f'{len(data)} bytes; of {image.format} at most {most_bytes} are read')
    if image.format == 'JPEG2000':
        headers.check_jpeg2000_blocks(data)


def _check_rows(png, data):
    """What a PNG lacks stays zero, without a word (of Adam7, whose rows come in turns, any)."""
    last_row = np.asarray(png.crop((0, png.height - 1, *png.size)))
    if (png.info.get('interlace') or not last_row.any()) and headers.png_is_short(data):
        raise PictureError('cannot decode: a damaged PNG file, rows are missing')


def pillow_to_bgr(image, data):
    from PIL import Image, ImageOps

    if image.format == 'PNG':
        _check_rows(image, data)
    if image.mode == 'F' or (image.mode == 'I' and image.format != 'PNG'):
        raise PictureError('cannot decode: 32-bit pixels, whose range is not known')
    if image.format != 'TIFF':  # which Pillow turns itself
        with suppress(Exception):  # damaged EXIF data are none
            image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I'):  # 16 bits; convert() would clip, not scale
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if 'transparency' in image.info or image.mode in ('RGBA', 'LA', 'PA', 'RGBa', 'La'):
        image = image.convert('RGBA')
        image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image)
    return cv2.cvtColor(np.asarray(image.convert('RGB')), cv2.COLOR_RGB2BGR)


def _unknown_kind(data):
    if picture_kind(data[:HEAD_BYTES]) != 'AVIF':
        return other_kind(data[:HEAD_BYTES])
    from PIL import Image

    reads_avif = 'AVIF' in Image.SAVE
    return 'a damaged AVIF file' if reads_avif else 'this Pillow reads no AVIF; Pillow 11.3 does'


def on_white(picture):
    """uint8 [h, w, 4] BGRA, or [h, w, 3] BGR, to [h, w, 3] BGR."""
    if picture.shape[2] == 3:
        return picture
    alpha = picture[..., 3].astype(np.uint16)
    shown = np.empty((*alpha.shape, 3), np.uint8)
    for i in range(3):
        shown[..., i] = (picture[..., i] * alpha + 255 * (255 - alpha) + 127) // 255
    return shown


def _silence_pillow():
    """What it warns of is refused by name, or means nothing."""
    warnings.filterwarnings('ignore', module='PIL')
    logging.getLogger('PIL').setLevel(logging.CRITICAL + 1)


def _turn_upright(picture, exif):
    """The picture as its EXIF data, which may be b'' or damaged, says that it is upright."""
    if not exif:
        return picture
    from PIL import Image  # not needed for most pictures, 50 ms to import

    _silence_pillow()
    orientation = None
    with suppress(Exception):  # damaged EXIF data are none
        found = Image.Exif()
        found.load(exif)
        orientation = found.get(0x112)
    if orientation in (5, 6, 7, 8):
        picture = cv2.transpose(picture)
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return picture if flip is None else cv2.flip(picture, flip)
