"""What a picture file's own words tell before its pixels are decoded.

How large it is, whether its decoder could take memory or time out of all proportion, whether parts
of it are missing, and which way is up. Everything raises PictureError.
"""

import re
import zlib

from common.opencv_setup import MAX_PIXELS

from common.console import UserError

JPEG_START, JPEG_END = b'\xff\xd8', b'\xff\xd9'
PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
JPEG2000_START = b'\xff\x4f\xff\x51'  # of its code stream: SOC, SIZ

# Of what passes through four channels on its way: 1.6 GB and 6 s of a processor.
MOST_IN_FOUR = 90_000_000
# A progressive JPEG may have its decoder go over all pixels for every 20 bytes; a usual one does so
# ten times. Scans times pixels, 2 to 5 s for a billion.
MAX_SCAN_PIXELS = 1_200_000_000
MAX_PARTS = 100_000  # of a file: each takes a step of Python


class PictureError(UserError):
    """A picture that cannot be read or is too small or too large."""


def check_size(width, height, most=MAX_PIXELS):
    """Raises PictureError for a picture of no pixels, or of more than `most`."""
    if not 0 < width * height <= most:
        raise PictureError(f'{width}x{height}: {width * height} pixels; at most {most} are read')


# --------------------------------------------------------------------------------------------------
# JPEG (ITU T.81)
# --------------------------------------------------------------------------------------------------

_JPEG_MARKER = re.compile(rb'\xff([^\x00\xff\xd0-\xd7])')  # neither stuffing, filling nor restart
_SOS, _APP1, _DHT = 0xDA, 0xE1, 0xC4
_SOFS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # which are tables and such


def jpeg_segments(data):
    """Yields (marker, where its content starts, where that ends) of the first picture in `data`."""
    at = len(JPEG_START)
    for _ in range(MAX_PARTS):
        match = _JPEG_MARKER.search(data, at)
        if not match or match[0] == JPEG_END:
            return
        start = match.end()
        at = start + max(2, int.from_bytes(data[start : start + 2], 'big'))
        yield match[1][0], start + 2, at


def jpeg_frame(data):
    """(width, height, number of components) of the first picture in a JPEG file."""
    for marker, start, _ in jpeg_segments(data):
        if marker in _SOFS and start + 6 <= len(data):
            height, width = (int.from_bytes(data[start + i : start + i + 2], 'big') for i in (1, 3))
            return width, height, data[start + 5]
    raise PictureError('cannot decode: a damaged or truncated JPEG file, of no size')


def check_jpeg_scans(data, width, height):
    """Raises PictureError for a JPEG whose scans would take hours."""
    if data.count(b'\xff\xda') * width * height <= MAX_SCAN_PIXELS:
        return
    scans = sum(marker == _SOS for marker, _, _ in jpeg_segments(data))
    if scans * width * height > MAX_SCAN_PIXELS:
        size = f'{width}x{height} pixels'
        raise PictureError(f'cannot decode: a JPEG file of {scans} scans over {size}')


def jpeg_has_zeros(data):
    """Whether there are zeros in the midst of a JPEG's pixels that no encoder would write.

    libjpeg may read them without a complaint: where the bits that they stand for happen to end with
    the picture. Zeros are the first code of each Huffman table, and make sense in flat pictures,
    where that is the end of a block for the AC coefficients; else all of a block's are the same.
    """
    zeros, first_symbols = bytes(64), {}
    if zeros not in data:
        return False
    for marker, start, end in jpeg_segments(data):
        if end > len(data) or marker in _SOFS - {0xC0, 0xC1}:
            return False  # of progressive ones, say, zeros may be other things
        if marker == _DHT:
            while start + 17 < end:
                first_symbols[data[start]] = data[start + 17]
                start += 17 + sum(data[start + 1 : start + 17])
        if marker == _SOS:
            tables = {0x10 | data[i] & 0xF for i in range(start + 2, end - 3, 2)}
            flat = all(first_symbols.get(table, 0) == 0 for table in tables)
            following = _JPEG_MARKER.search(data, end)
            pixels = data[end : following.start() if following else None]
            if not flat and zeros in pixels.rstrip(b'\0'):
                return True
    return False


def jpeg_exif(data):
    """The EXIF data of a JPEG file, b'' where it has none."""
    for marker, start, end in jpeg_segments(data):
        if marker == _APP1 and data[start : start + 4] == b'Exif':
            return data[start:end]
        if marker == _SOS:
            break
    return b''


# --------------------------------------------------------------------------------------------------
# PNG
# --------------------------------------------------------------------------------------------------


def png_essentials(data):
    """A PNG file with nothing but what makes its picture, its checksums compared.

    What is left out are texts (which may unfold to gigabytes), colour profiles, later frames.
    """
    if data[12:16] != b'IHDR':
        raise PictureError('cannot decode: a damaged or truncated PNG file')
    check_size(int.from_bytes(data[16:20], 'big'), int.from_bytes(data[20:24], 'big'))
    kept, names, at = [PNG_SIGNATURE], [], len(PNG_SIGNATURE)
    while not names or names[-1] != b'IEND':
        length, name = int.from_bytes(data[at : at + 4], 'big'), data[at + 4 : at + 8]
        end = at + length + 12  # with length, name and checksum
        if end > len(data) or len(names) > MAX_PARTS:
            raise PictureError('cannot decode: a damaged or truncated PNG file')
        names.append(name)
        if name[:1].isupper() or name in (b'tRNS', b'eXIf'):
            if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], 'big'):
                raise PictureError(f'cannot decode: a damaged PNG file, in its part {name!r}')
            # The way up must be known before the pixels come.
            kept.insert(2 if name == b'eXIf' else len(kept), data[at:end])
        at = end
    if data[25] == 3 and b'PLTE' not in names:
        raise PictureError('cannot decode: a damaged PNG file')
    return b''.join(kept)


def png_is_short(data):
    """Whether a PNG of png_essentials holds fewer rows than its size has."""
    width, height = (int.from_bytes(data[i : i + 4], 'big') for i in (16, 20))
    depth, colour, interlaced = data[24], data[25], data[28]
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    passes = [(0, 0, 1, 1)]  # left, top, steps to the right and down
    if interlaced:  # Adam7
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)]
        passes += [(0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    missing = 0
    for left, top, right, down in passes:
        columns, rows = -(-(width - left) // right), -(-(height - top) // down)
        missing += rows * (1 + -(-columns * bits // 8)) if columns > 0 else 0
    unpacker, at = zlib.decompressobj(), len(PNG_SIGNATURE)
    while at < len(data) and missing > 0 and not unpacker.eof:
        length, name = int.from_bytes(data[at : at + 4], 'big'), data[at + 4 : at + 8]
        rest = data[at + 8 : at + 8 + length] if name == b'IDAT' else b''
        while rest and missing > 0:
            missing -= len(unpacker.decompress(rest, 1 << 20))
            rest = unpacker.unconsumed_tail
        at += length + 12
    return missing > 0


# --------------------------------------------------------------------------------------------------
# WEBP and JPEG 2000
# --------------------------------------------------------------------------------------------------


def check_webp_size(data):
    """Raises PictureError for a WEBP file whose canvas is too large: 90 bytes may claim 2^48."""
    kind = data[12:16]
    if kind == b'VP8X':
        width, height = (1 + int.from_bytes(data[i : i + 3], 'little') for i in (24, 27))
    elif kind == b'VP8L':
        bits = int.from_bytes(data[21:25], 'little')
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = (int.from_bytes(data[i : i + 2], 'little') & 0x3FFF for i in (26, 28))
    if max(width, height) > 16_384:  # what the format's pictures, unlike its films, can have
        raise PictureError(f'{width}x{height} pixels are too many for a WEBP file')
    check_size(width, height, MOST_IN_FOUR)


def webp_exif(data):
    """The EXIF data of a WEBP file, b'' where it has none."""
    at = 12
    for _ in range(MAX_PARTS):
        length = int.from_bytes(data[at + 4 : at + 8], 'little')
        if data[at : at + 4] in (b'EXIF', b''):
            return data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    return b''


def check_jpeg2000_blocks(data):
    """Raises PictureError where tiles, blocks or precincts are so small that they cost gigabytes.

    Goes over the markers of the code stream (ITU T.800, annex A): SOT, COD, COC and SOD matter.
    """
    if data.count(JPEG2000_START) != 1:
        raise PictureError('cannot decode: a damaged JPEG 2000 file')
    at = data.find(JPEG2000_START) + 2
    width, height, *_, tile_width, tile_height = _numbers(data, at + 6, 6)
    tiles = -(-width // max(1, tile_width)) * -(-height // max(1, tile_height))
    small, tile_end = tiles > 4096, len(data)
    for _ in range(MAX_PARTS):
        marker, length = data[at : at + 2], int.from_bytes(data[at + 2 : at + 4], 'big')
        if len(marker) < 2 or marker == b'\xff\xd9' or small:
            break
        if marker == b'\xff\x90':
            tile_end = at + (_numbers(data, at + 6, 1)[0] or len(data))
        if marker in (b'\xff\x52', b'\xff\x53'):
            small = _has_small_blocks(data[at + 4 : at + 2 + length], marker == b'\xff\x52')
        at = tile_end if marker == b'\xff\x93' else at + 2 + length
    if small:
        raise PictureError('cannot decode: a JPEG 2000 file of too many small parts')


def _numbers(data, at, count):
    return [int.from_bytes(data[i : i + 4], 'big') for i in range(at, at + 4 * count, 4)]


def _has_small_blocks(content, is_cod):
    """Of a COD or COC segment: blocks of less than 256, precincts of less than 1024 pixels."""
    style = content[0 if is_cod else 1 : 1 if is_cod else 2]
    _, block_width, block_height, *rest = content[5 if is_cod else 2 :] + bytes(3)
    precincts = rest[2:-3] if style and style[0] & 1 else []
    return block_width + block_height < 4 or any(min(p & 15, p >> 4) < 5 for p in precincts)
