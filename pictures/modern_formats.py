"""HEIC, which phones write, by pillow-heif; JPEG XL, by its plug-in for Pillow.

Their containers say which way is up, and their decoders turn the picture. EXIF data repeat that,
and must not turn it again (ISO/IEC 23008-12, 6.5.10; ISO/IEC 18181-1, annex D.3).
"""

from __future__ import annotations

import importlib
import io
from types import ModuleType
from typing import TYPE_CHECKING

from pictures.headers import MOST_IN_FOUR, PictureError, check_size

if TYPE_CHECKING:
    from PIL.Image import Image


def read_modern(data: bytes, kind: str) -> Image:
    """The upright picture of a file of one of the kinds in MODERN. Raises PictureError.

    Its size is checked before a pixel is decoded.
    """
    try:
        return MODERN[kind](data)
    except (PictureError, MemoryError):
        raise
    except Exception as error:  # the libraries raise whatever a damaged file leads them to
        why = ' '.join(str(error).split('. ')[0].split()) or type(error).__name__
        raise PictureError(f'cannot decode: a damaged or truncated {kind} file ({why})') from None


def _read_heic(data: bytes) -> Image:
    pillow_heif = _decoder('pillow-heif', 'pillow_heif', 'HEIC')
    pillow_heif.options.DECODE_THREADS = 1  # whole pictures are what runs in parallel
    picture = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)
    check_size(*picture.size, MOST_IN_FOUR)
    return picture.to_pillow()


def _read_jpeg_xl(data: bytes) -> Image:
    check_size(*jpeg_xl_size(data), MOST_IN_FOUR)
    plugin = _decoder('pillow-jxl-plugin', 'pillow_jxl', 'JPEG XL')
    plugin.JpegXLImagePlugin.DECODE_THREADS = 0
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=['JXL']) as image:
        image.load()
        if not image.jpeg:  # what was a JPEG comes as one, not turned yet
            image.info.pop('exif', None)
        return image.copy()


MODERN = {'HEIC': _read_heic, 'JPEG XL': _read_jpeg_xl}


def _decoder(package: str, module: str, kind: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError:
        hint = f'pip install {package}'
        raise PictureError(f'{kind} is read by {package}, which is not here: {hint}') from None


# --------------------------------------------------------------------------------------------------
# JPEG XL's header (ISO/IEC 18181-1 annex D, 18181-2)
# --------------------------------------------------------------------------------------------------

_RATIOS = (None, (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def jpeg_xl_size(data: bytes) -> tuple[int, int]:
    """(width, height) of a JPEG XL file. Raises PictureError for a damaged one."""
    stream = _code_stream(data)
    if not stream.startswith(b'\xff\x0a') or len(stream) < 12:
        raise PictureError('cannot decode: a damaged or truncated JPEG XL file')
    bits = _Bits(stream[2:])
    is_small = bits.take(1)
    height = _side(bits, is_small)
    ratio = _RATIOS[bits.take(3)]
    width = height * ratio[0] // ratio[1] if ratio else _side(bits, is_small)
    return width, height


def _side(bits: _Bits, is_small: int) -> int:
    if is_small:
        return 8 * (1 + bits.take(5))
    return 1 + bits.take((9, 13, 18, 30)[bits.take(2)])


class _Bits:
    """The bits of a few bytes, each byte's lowest first."""

    def __init__(self, data: bytes) -> None:
        self.left = int.from_bytes(data[:12], 'little')

    def take(self, count: int) -> int:
        value = self.left & ((1 << count) - 1)
        self.left >>= count
        return value


def _code_stream(data: bytes) -> bytes:
    """The beginning of the code stream, which may lie in a container's first box of that kind."""
    at = 0
    while data[:2] != b'\xff\x0a' and at + 8 <= len(data):
        length, name = int.from_bytes(data[at : at + 4], 'big'), data[at + 4 : at + 8]
        start = at + 8
        if length == 1:
            length, start = int.from_bytes(data[start : start + 8], 'big'), start + 8
        if name in (b'jxlc', b'jxlp'):
            start += 4 * (name == b'jxlp')  # its number
            return data[start : start + 16]
        if length < 8:
            return b''
        at += length
    return data[:16]
