"""What kind of file it is, by its first bytes and its name: pictures, and what is taken for one."""

from __future__ import annotations

from common.files import stand_in

# What cameras, phones and the web produce.
SUFFIXES = ('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.gif', '.bmp', '.webp', '.tif', '.tiff')
SUFFIXES += ('.jp2', '.avif', '.heic', '.heif', '.hif', '.jxl', '.ppm', '.pgm', '.pbm', '.pnm')
SUFFIXES += ('.tga', '.ico', '.pcx', '.qoi')

HEAD_BYTES = 512  # what these functions need of a file

_STARTS = {
    b'\xff\xd8\xff': 'JPEG',
    b'\x89PNG\r\n\x1a\n': 'PNG',
    b'GIF87a': 'GIF',
    b'GIF89a': 'GIF',
    b'\0\0\0\x0cjP  \r\n\x87\n': 'JPEG 2000',
    b'\xff\x0a': 'JPEG XL',
    b'\0\0\0\x0cJXL \r\n\x87\n': 'JPEG XL',
}
# Brands of ISO's file format (ISO/IEC 23008-12, annex B); mif1 and msf1 say only that it is one.
_AVIF_BRANDS = {b'avif', b'avis'}
_HEIC_BRANDS = {b'heic', b'heix', b'hevc', b'hevx', b'heim', b'heis', b'hevm', b'hevs'}
_HEIC_BRANDS |= {b'mif1', b'msf1', b'mif2'}

_OTHER_STARTS = {
    b'PK\x03\x04': 'a zip file; unpack it first',
    b'%PDF': 'a PDF file, not a picture',
    b'8BPS': 'a Photoshop file; save it as JPEG or PNG',
    b'II*\0': 'a TIFF file of pixels that are not read here, such as floats',
    b'MM\0*': 'a TIFF file of pixels that are not read here, such as floats',
    b'<svg': 'an SVG drawing; save it as PNG',
}


def picture_kind(head: bytes) -> str | None:
    """'JPEG', 'HEIC' ... of a picture file's first HEAD_BYTES; None where they do not tell.

    Only signatures that no other file has by chance: not those of BMP, TGA, or PNM, nor of TIFF,
    which raw pictures of cameras have, too.
    """
    for start, kind in _STARTS.items():
        if head.startswith(start):
            return kind
    if head[:4] == b'RIFF' and head[8:12] == b'WEBP':
        return 'WEBP'
    brands = _brands(head)
    if brands & _AVIF_BRANDS:
        return 'AVIF'
    return 'HEIC' if brands & _HEIC_BRANDS else None


def _brands(head: bytes) -> set[bytes]:
    """The major and the compatible brands of a file in ISO's format; empty for any other."""
    if head[4:8] != b'ftyp':
        return set()
    end = min(int.from_bytes(head[:4], 'big'), HEAD_BYTES, len(head))
    return {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}


def other_kind(head: bytes) -> str:
    """What a file is that is no picture, as an error message goes on, with what to do."""
    if what := stand_in(head):
        return what
    text = head.removeprefix(b'\xef\xbb\xbf').lstrip()
    for start, kind in _OTHER_STARTS.items():
        if text.startswith(start):
            return kind
    if head[4:8] == b'ftyp':
        return f'a video or another file of the brand {head[8:12].decode("latin-1").strip()!r}'
    return 'no kind of picture that is known here'
