"""Lists and pictures that are meant to break their readers; CRAFTED and MUTATED as in
hostile_models.py.
"""

import functools
import io
import struct
import zlib

import numpy as np
import pillow_heif
from mutations import mutate_bytes
from PIL import Image, features

LONG = 13_000  # pixels: nearly the largest square picture that is admitted


# --- lists ----------------------------------------------------------------------------------------

PIECES = [
    b'a.jpg',
    b' ',
    b'  ',
    b'\t',
    b'\n',
    b'\r\n',
    b'\r',
    b'0',
    b'1',
    b'7',
    b'-1',
    b'1.0',
    b'+1',
]
PIECES += [
    b'99999',
    b'100000',
    b'9' * 400,
    b'\0',
    b'\xff',
    b'\xed\xa0\x80',
    b'\xef\xbb\xbf',
    b'\x0b',
]
PIECES += [b'\x1c', b'\xc2\xa0', b'\xe2\x80\xa8', b'../../etc/passwd', b'/dev/zero', b'x' * 5000]
PIECES += [
    'größe 猫.jpg'.encode(),
    '٣'.encode(),
    b'# comment',
    b'"a b.jpg"',
    b',',
    b'n01440764 tench',
]


def _list(rng):
    if rng.random() < 0.5:
        lines = [b'pic ture%d.jpg %d\n' % (i, rng.randrange(3)) for i in range(rng.randrange(30))]
        content = mutate_bytes(rng, b''.join(lines))
    else:
        content = b''.join(rng.choices(PIECES, k=rng.randrange(40)))
    names = mutate_bytes(rng, b'brick\ngrass\nn01440764 gravel\n', [content])
    return {'list.txt': content, 'classes.txt': names}


def _crafted_list():
    million = b'x' * 1_000_000
    contents = [
        b'', b'\n' * 1_000_000, b' ' * 1_000_000, million, million + b' 1', million + b' x',
        b'a ' + b'9' * 1_000_000, b'a -' + b'9' * 1_000_000, b'a 0\n' * 300_000, b'a 0\0',
        b'\0' * 99, b'a 99999', b'a 100000',
        b'a 0\n' * 9 + b'../../../etc/passwd 0', b'\xed\xa0\x80 0',
        'a.jpg ٣'.encode(), 'a.jpg ²'.encode(), b'a.jpg\xc2\xa00', b'\xff\xfea\x00 \x000\x00',
    ]  # fmt: skip
    return [{'list.txt': content, 'classes.txt': content} for content in contents]


# --- pictures -------------------------------------------------------------------------------------


def _save(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _heic(image, **options):
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, **options)
    return file.getvalue()


@functools.lru_cache(None)
def pictures():
    """Small pictures in every format and form that readers see."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 4), np.uint8)
    noise[4:] = noise[4:] // 64 * 64 + np.arange(32, dtype=np.uint8)[:, None]
    rgba = Image.fromarray(noise)
    rgb, grey, palette = rgba.convert('RGB'), rgba.convert('L'), rgba.convert('RGB').quantize(16)
    deep = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x112] = 6
    frames = {'save_all': True, 'append_images': [rgba, rgba.rotate(90)]}
    opaque = {'save_all': True, 'append_images': [rgb, rgb.rotate(90)]}
    found = [_save(image, 'PNG') for image in (rgb, rgba, grey, palette, deep, grey.convert('1'))]
    found += [_save(rgb, 'PNG', exif=exif), _save(rgba, 'PNG', **frames)]
    found += [_save(image, 'JPEG') for image in (rgb, grey, rgb.convert('CMYK'))]
    found += [_save(rgb, 'JPEG', progressive=True), _save(rgb, 'JPEG', exif=exif, comment=b'x')]
    found += [_save(rgb, 'JPEG', restart_marker_blocks=1), _save(rgb, 'MPO', **opaque)]
    found += [_save(image, 'GIF') for image in (palette, grey)]
    found += [_save(rgb, 'GIF', **frames)]
    found += [_save(image, 'BMP') for image in (rgb, rgba, grey, palette)]
    found += [_save(image, 'TIFF') for image in (rgb, grey, deep, palette, Image.new('F', (9, 9)))]
    found += [
        _save(rgb, 'TIFF', compression=compression, exif=exif)
        for compression in ('tiff_lzw', 'tiff_deflate', 'packbits', 'jpeg')
    ]
    found += [_save(grey.convert('1'), 'TIFF', compression='group4'), _save(rgb, 'TIFF', **frames)]
    forms = ('PPM', 'PCX', 'ICO', 'TGA', 'QOI')
    found += [_save(rgb, form) for form in forms if form in Image.SAVE]  # QOI: a later Pillow
    found += [_save(rgba, 'TGA', compression='tga_rle')]
    if features.check('webp'):
        found += [_save(rgb, 'WEBP', exif=exif), _save(rgba, 'WEBP', lossless=True)]
        found += [_save(rgba, 'WEBP', **frames)]
    if features.check('jpg_2000'):
        found += [_save(rgb, 'JPEG2000'), _save(rgba, 'JPEG2000', no_jp2=True)]
    found += [_heic(rgb, exif=exif), _heic(rgba)]
    if features.check('avif'):
        found += [_save(rgba, 'AVIF'), _save(rgb, 'AVIF', **frames)]
    return found


def _chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def _mutate_png(rng, content):
    """Mutate one chunk and mend its checksum, so that decoders look at it."""
    chunks, at = [], 8
    while at < len(content):
        (size,) = struct.unpack_from('>I', content, at)
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += size + 12
    i = rng.randrange(len(chunks))
    kind, data = chunks[i]
    if kind == b'IDAT' and rng.random() < 0.7:
        data = zlib.compress(mutate_bytes(rng, zlib.decompress(b''.join(
            data for kind, data in chunks if kind == b'IDAT'
        ))))  # fmt: skip
    else:
        data = mutate_bytes(rng, data)
    chunks[i] = kind, data
    if rng.random() < 0.2:
        chunks.insert(rng.randrange(len(chunks)), rng.choice(chunks))
    return content[:8] + b''.join(_chunk(*chunk) for chunk in chunks)


def _picture(rng):
    seeds = pictures()
    content = rng.choice(seeds)
    if content.startswith(b'\x89PNG') and rng.random() < 0.6:
        return {'picture': _mutate_png(rng, content)}
    return {'picture': mutate_bytes(rng, content, seeds)}


def png(width, height, rows=0, depth=8, colour=2):
    """A PNG file that claims this size and holds `rows` rows of zeros."""
    channels = {0: 1, 2: 3, 6: 4}[colour]
    row = bytes(1 + width * channels * depth // 8)
    packer = zlib.compressobj()
    data = b''.join([packer.compress(row) for _ in range(rows)]) + packer.flush()
    head = struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0)
    chunks = _chunk(b'IHDR', head) + _chunk(b'IDAT', data) + _chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + chunks


def with_jpeg_size(content, width, height):
    """The JPEG file with another size in its frame header (SOF0 or SOF2)."""
    at = max(content.find(b'\xff\xc0'), content.find(b'\xff\xc2'))
    return content[: at + 5] + struct.pack('>HH', height, width) + content[at + 9 :]


def many_scans(side, count):
    """A small progressive JPEG that makes a decoder go over all of its pixels `count` times."""
    content = _save(Image.new('L', (side, side)), 'JPEG', progressive=True)
    last = content[content.rfind(b'\xff\xda') : -2]
    return content[:-2] + last * count + b'\xff\xd9'


def text_png(count):
    """A PNG of one pixel whose texts unfold to `count` MB."""
    content = png(1, 1, 1)
    text = _chunk(b'zTXt', b'a\0\0' + zlib.compress(bytes(1_000_000)))
    return content[:33] + text * count + content[33:]


def webp_canvas(width, height):
    """A WEBP film of one small picture on a canvas of any size, as its header claims."""
    frame = _save(Image.new('RGB', (1, 1)), 'WEBP', lossless=True)[12:]
    place = bytes(12) + (100).to_bytes(3, 'little') + b'\0'
    size = (width - 1).to_bytes(3, 'little') + (height - 1).to_bytes(3, 'little')
    chunks = [(b'VP8X', b'\2\0\0\0' + size), (b'ANIM', bytes(6)), (b'ANMF', place + frame)]
    body = b'WEBP' + b''.join(kind + struct.pack('<I', len(data)) + data for kind, data in chunks)
    return b'RIFF' + struct.pack('<I', len(body)) + body


def jpeg2000(side, block=4, precinct=None, tile=None):
    """A JPEG 2000 code stream that claims this size, in blocks of 4 << block pixels' side."""
    content = bytearray(_save(Image.new('RGB', (64, 64)), 'JPEG2000', no_jp2=True))
    struct.pack_into('>II', content, 8, side, side)
    struct.pack_into('>II', content, 24, tile or side, tile or side)
    at = content.find(b'\xff\x52')
    content[at + 10] = content[at + 11] = block
    if precinct is not None:  # one for each resolution
        levels = content[at + 9] + 1
        content[at + 3] += levels
        content[at + 4] |= 1
        content[at + 14 : at + 14] = bytes([precinct]) * levels
    return bytes(content)


def _bmp(width, height, bits=24, compression=0):
    info = struct.pack('<IiiHHIIiiII', 40, width, height, 1, bits, compression, 0, 0, 0, 0, 0)
    return b'BM' + struct.pack('<IHHI', 0, 0, 0, 54) + info + bytes(1000)


def _tiff(width, height, **changes):
    """A one-strip TIFF file whose tags say what they like."""
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: 99}
    tags.update({int(key[1:]): value for key, value in changes.items()})
    rows = b''.join(struct.pack('<HHII', key, 4, 1, value) for key, value in sorted(tags.items()))
    return b'II*\0' + struct.pack('<IH', 8, len(tags)) + rows + bytes(500)


def _crafted_picture():
    plain = _save(Image.new('RGB', (16, 16)), 'JPEG')
    frames = [Image.new('P', (1000, 1000), i % 250) for i in range(200)]
    huge = Image.new('L', (LONG, LONG))
    contents = [
        *pictures(),
        *(make(50_000, 50_000) for make in (png, _bmp, _tiff)),
        with_jpeg_size(plain, 50_000, 50_000),
        with_jpeg_size(plain, LONG, LONG),
        *(make(2**31 - 1, 2**31 - 1) for make in (png, _bmp, _tiff)),
        *(make(LONG, LONG) for make in (png, _bmp, _tiff)),
        *(_bmp(w, h, bits) for w, h in ((-5, 5), (5, -(2**31)), (0, 0)) for bits in (1, 8, 24)),
        *(_bmp(LONG, LONG, 8, compression) for compression in (1, 2, 3)),
        png(LONG, LONG, LONG),
        png(1, 10_000, 10_000),
        png(100_000, 1_000, 10),
        png(0, 0),
        _save(huge, 'JPEG'),
        _save(huge.convert('RGB'), 'JPEG') + b'x',
        _save(huge, 'TIFF', compression='tiff_deflate'),
        _save(huge, 'GIF'),
        text_png(990),
        webp_canvas(16_777_216, 10),
        webp_canvas(16_384, 16_384),
        *(jpeg2000(side) for side in (6_000, LONG, 50_000, 2**31 - 1)),
        *(jpeg2000(side, 0, precinct) for side in (64, 2_000, 6_000) for precinct in (None, 0x11)),
        *(jpeg2000(6_000, tile=tile) for tile in (1, 30, 100)),
        many_scans(500, 5_000),
        many_scans(8_000, 12),
        many_scans(2_000, 280),
        many_scans(4_000, 100_000),
        _save(frames[0], 'GIF', save_all=True, append_images=frames[1:]),
        *(_tiff(100, 100, t258=depth) for depth in (0, 1, 16, 32, 64, 65535)),
        *(_tiff(100, 100, t277=count) for count in (0, 3, 65535)),
        _tiff(100, 100, t322=2**31 - 16, t323=2**31 - 16),
        _tiff(100, 100, t273=2**32 - 1, t279=2**32 - 1),
        b'P6 50000 50000 255\n',
        b'P6 13000 13000 65535\n' + bytes(1000),
        b'P3 13000 13000 255\n' + b'1 ' * 1000,
        b'#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 13000 +X 13000\n' + bytes(1000),
        b'PF\n13000 13000\n-1.0\n' + bytes(1000),
        b'qoif' + struct.pack('>IIBB', LONG, LONG, 3, 0) + b'\xfd' * 100,
        b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(outside) (w) file\n',
        b'<svg xmlns="http://www.w3.org/2000/svg" width="50000" height="50000"/>',
        b'', b'\xff\xd8', b'\xff\xd8\xff\xd9', b'GIF89a', b'\x89PNG\r\n\x1a\n', b'PK\x03\x04' * 99,
    ]  # fmt: skip
    return [{'picture': content} for content in contents]


CRAFTED = {'list': _crafted_list, 'picture': _crafted_picture}
MUTATED = {'list': _list, 'picture': _picture}
