"""Tars: what tar and tarfile write of regular files is read; bombs and mazes end in one line."""

import gzip
import io
import struct
import tarfile
import time

import pytest

from common.console import UserError
from models.formats import tar
from models.model_io import read_model

NAME = '_conv1.w0'
VALUE = struct.pack('<iIQf', 0, 4, 1, 0.5)


def header(name, size, kind=b'0'):
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def with_size(block, size):
    """A header whose size field is `size` in base 256, which may be negative."""
    block = bytearray(block)
    block[124:136] = b'\xff' * 8 + struct.pack('>i', size)
    block[148:156] = b' ' * 8
    block[148:156] = b'%06o\0 ' % sum(block)
    return bytes(block)


def filled(content):
    return content + bytes(-len(content) % 512)


def pax(**records):
    text = b''
    for key, value in records.items():
        record = f' {key.replace("__", ".")}={value}\n'.encode()
        length = len(record) + 1
        while len(str(length)) + len(record) != length:
            length = len(str(length)) + len(record)
        text += b'%d' % length + record
    return header('pax', len(text), b'x') + filled(text)


def member(content=VALUE):
    return header(NAME, len(content)) + filled(content) + bytes(1024)


def archive(form, *names):
    """A tar as tarfile writes it in a format of its own."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w', format=form) as written:
        for number, name in enumerate(names):
            entry = tarfile.TarInfo(name)
            entry.size, entry.pax_headers = 700, {'LIBARCHIVE.xattr.com.apple.x': 'é' * 40}
            written.addfile(entry, io.BytesIO(bytes([number]) * 700))
    return file.getvalue()


@pytest.mark.parametrize('form', [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_regular_files_come_back_with_names_of_any_length(form):
    names = ['a', 'folder/' * 14 + 'b', 'c' * 90]
    if form != tarfile.USTAR_FORMAT:
        names += ['d' * 300, 'é' * 99, 'e']
    found = [(name, bytes(body)) for name, body in tar.regular_files(archive(form, *names), 'a')]
    assert found == [(name, bytes([number]) * 700) for number, name in enumerate(names)]


def test_directories_and_links_are_left_out():
    content = b''.join(header(f'{kind}', 0, kind) for kind in (b'1', b'2', b'5', b'6'))
    assert list(tar.regular_files(content + member(), 'a')) == [(NAME, VALUE)]


HOSTILE = {
    'extension headers in a row': (pax(a='b') * 3000 + header(NAME, 0), 'shorter than'),
    'long names in a row': (
        (header('x', 10, b'L') + filled(b'a' * 10)) * 3000 + member(),
        'holds no parameters',
    ),
    'too many members': (b''.join(header(f'f{i}', 0) for i in range(10_001)), '10000 members'),
    'a sparse file of 4 GB': (
        pax(GNU__sparse__size=4_000_000_000, GNU__sparse__map='0,16') + member(),
        'sparse file',
    ),
    'a sparse map of odd length': (pax(GNU__sparse__map='0,16,3') + member(), 'sparse file'),
    'an old sparse file': (header(NAME, 0, b'S') + bytes(512), 'sparse file'),
    'a row of digits': (
        header('x', 1_000_000, b'x') + filled(b'9' * 999_985 + b' hdrcharset=\n\0\0') + member(),
        'damaged tar',
    ),
    'a name of 2 MB': (pax(path='A' * 2_000_000) + member(), 'extension header of 2,000,014'),
    'a negative size': (with_size(header(NAME, 0), -512) + bytes(1024), '-512 bytes'),
    'a negative extension': (with_size(header('x', 0, b'x'), -512) + bytes(1024), '-512 bytes'),
    'a size in a pax header': (pax(size='1e300') + member(), "member's size in a pax header"),
    'a checksum that is wrong': (member().replace(b'_conv1', b'_conv9'), 'damaged tar'),
    'many gzip members': (gzip.compress(b'', mtime=0) * 100_000, 'more than one gzip file'),
    'a long gzip name': (b'\x1f\x8b\x08\x08' + bytes(6) + b'A' * 10_000_000, 'damaged tar'),
}


@pytest.mark.parametrize('kind', HOSTILE)
def test_hostile_tars_get_one_line_at_once(kind, tmp_path):
    content, words = HOSTILE[kind]
    path = tmp_path / 'a.tar'
    path.write_bytes(content)
    start = time.process_time()
    with pytest.raises(UserError, match=words) as caught:
        read_model(path)
    assert str(caught.value).startswith(f'{path}: ')
    assert time.process_time() - start < 5
