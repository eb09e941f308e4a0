"""Reads the regular files of a tar within bounds: in one pass, of what stands in the file alone.

Python's tarfile follows a chain of extension headers by recursion, expands sparse files to any
size, and searches pax headers by regular expressions that take minutes for a long row of digits.
Its parser of a single header is sound, and is used here.

Sources: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar's manual,
"Basic Tar Format".
"""

import tarfile
import zlib
from collections.abc import Iterator
from typing import Optional

from common.console import UserError

BLOCK = 512  # bytes, of a header; contents are filled up to a multiple of it
GZIP_START = b'\x1f\x8b'
GZIP_BITS = 31  # zlib's window of 15 bits, and 16 for gzip's header
PAX, PAX_GLOBAL, LONG_NAME, LONG_LINK, GNU_SPARSE = b'x', b'g', b'L', b'K', b'S'
WITHOUT_CONTENT = {
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
}
REGULAR = {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE}
MOST_HEADERS = 10_000
MOST_EXTENSION = 1 << 20  # bytes of an extension header: a long name, or a Mac's attributes
SPARSE_REFUSED = 'holds a sparse file; pack it without --sparse'


def is_tar(content: bytes) -> bool:
    """Whether a file's content is a tar, or a gzip file, which only tars are here."""
    return content[257:262] == b'ustar' or content.startswith(GZIP_START)


def gunzip(content: bytes, most_bytes: int, where: object) -> bytes:
    """What a gzip file of one member unpacks to. Raises UserError, which begins with `where`."""
    unpacker = zlib.decompressobj(GZIP_BITS)
    try:
        unpacked = unpacker.decompress(content, most_bytes + 1)
    except zlib.error as error:
        raise UserError(f'{where}: is a damaged tar: {error}') from None
    if len(unpacked) > most_bytes:
        raise UserError(f'{where}: unpacks to more than {most_bytes >> 20} MiB')
    if not unpacker.eof:
        raise UserError(f'{where}: is a damaged tar: its gzip data end too early')
    if unpacker.unused_data.strip(b'\0'):
        raise UserError(f'{where}: holds more than one gzip file; unpack it, and give the tar')
    return unpacked


def regular_files(content: bytes, where: object) -> Iterator[tuple[str, memoryview]]:
    """Yields (name, content) of a tar's regular files. Raises UserError, which begins with `where`.

    Directories, links and devices are left out; sparse files are refused.
    """
    view, offset, headers, long_name = memoryview(content), 0, 0, None
    while offset < len(content):
        block = content[offset : offset + BLOCK]
        if not block.strip(b'\0'):  # the end
            return
        headers += 1
        if headers > MOST_HEADERS:
            raise UserError(f'{where}: has more than {MOST_HEADERS} members; no SqueezeNet has')
        header = _parse_header(block, offset, where)
        offset += BLOCK
        if header.type in WITHOUT_CONTENT:
            long_name = None
            continue
        body = view[offset : offset + header.size]
        if len(body) < header.size:
            raise UserError(f'{where}: is a damaged tar: it ends within {header.name!r:.200}')
        offset += -(-header.size // BLOCK) * BLOCK
        if header.type in (PAX, PAX_GLOBAL, LONG_NAME, LONG_LINK):
            long_name = _extended_name(header.type, body, where) or long_name
            continue
        if header.type in REGULAR:
            yield long_name or header.name, body
        long_name = None


def _parse_header(block: bytes, offset: int, where: object) -> tarfile.TarInfo:
    try:
        header = tarfile.TarInfo.frombuf(block, 'utf-8', 'surrogateescape')
    except (tarfile.HeaderError, ValueError) as error:
        raise UserError(f'{where}: is a damaged tar: {error} at byte {offset}') from None
    if header.size < 0:
        raise UserError(f'{where}: is a damaged tar: a member of {header.size} bytes')
    if header.type == GNU_SPARSE:
        raise UserError(f'{where}: {SPARSE_REFUSED}')
    return header


def _extended_name(kind: bytes, body: memoryview, where: object) -> Optional[str]:
    """The next member's name, where an extension header gives it; else None."""
    if len(body) > MOST_EXTENSION:
        raise UserError(f'{where}: has an extension header of {len(body):,} bytes')
    if kind == LONG_NAME:
        return bytes(body).split(b'\0', 1)[0].decode('utf-8', 'surrogateescape')
    if kind == LONG_LINK:
        return None
    records = _pax_records(bytes(body), where)
    if any(key.startswith(b'GNU.sparse.') for key in records):
        raise UserError(f'{where}: {SPARSE_REFUSED}')
    if b'size' in records:  # of files above 8 GiB
        raise UserError(f"{where}: has a member's size in a pax header; no parameter needs it")
    name = records.get(b'path') if kind == PAX else None
    return name and name.decode('utf-8', 'surrogateescape')


def _pax_records(body: bytes, where: object) -> dict[bytes, bytes]:
    """{key: value} of records `LENGTH key=value\\n`, where LENGTH counts all of the record."""
    records, start = {}, 0
    while start < len(body):
        space = body.find(b' ', start, start + 10)
        digits = body[start : max(space, start)]
        end = start + int(digits) if digits.isdigit() else 0
        key, equals, value = body[space + 1 : end].partition(b'=')
        if end > len(body) or not equals or not value.endswith(b'\n'):
            raise UserError(f'{where}: is a damaged tar: a pax header that is not sound')
        records[key] = value[:-1]
        start = end
    return records
