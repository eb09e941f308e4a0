"""Files are read within bounds, and only where they are files."""

import errno
import os
import stat

import pytest

from common import files
from common.files import atomic_write, current_path, read_regular_file


def test_the_bytes_of_a_file_and_of_a_link_to_it(tmp_path):
    (tmp_path / 'a').write_bytes(b'\0\r\n\xff')
    (tmp_path / 'link').symlink_to('a')
    assert read_regular_file(tmp_path / 'a', 4) == b'\0\r\n\xff'
    assert read_regular_file(str(tmp_path / 'link'), 4) == b'\0\r\n\xff'


def test_a_fifo_a_device_and_a_folder_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / 'fifo')  # that nobody writes to
    (tmp_path / 'zero').symlink_to('/dev/zero')
    for name in ('fifo', 'zero'):
        with pytest.raises(OSError, match='is not a regular file') as error:
            read_regular_file(tmp_path / name, 100)
        assert error.value.filename == str(tmp_path / name)
    with pytest.raises(IsADirectoryError):
        read_regular_file(tmp_path, 100)


def test_a_file_of_too_many_bytes_is_refused_unread(tmp_path):
    with open(tmp_path / 'sparse', 'wb') as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match='has 1,099,511,627,776 bytes; at most 1,000 are read'):
        read_regular_file(tmp_path / 'sparse', 1000)


@pytest.mark.parametrize('path', ['no such file', 'a\0b'])
def test_a_path_that_cannot_be_opened_is_an_OSError(tmp_path, path):
    with pytest.raises(OSError) as error:
        read_regular_file(tmp_path / path, 100)
    assert error.value.filename == str(tmp_path / path)


@pytest.fixture
def held(monkeypatch):
    """A set of paths that cannot be replaced, as on Windows while a program holds them."""
    replace, names = os.replace, set()

    def refuse(source, target):
        if os.fspath(target) in names:
            raise PermissionError(errno.EACCES, 'Access is denied', os.fspath(source))
        replace(source, target)

    monkeypatch.setattr(os, 'replace', refuse)
    monkeypatch.setattr(files, 'HELD_SECONDS', 0.3)
    return names


def write(path, text, **options):
    with atomic_write(path, 'w', **options) as file:
        file.write(text)


def test_a_result_whose_old_file_is_held_stays_beside_it_until_that_is_free(tmp_path, held, capsys):
    path = tmp_path / 'log.csv'
    (tmp_path / 'log.new.csv').write_text('of the user')
    write(path, 'first')
    held.add(str(path))
    for text in ('second', 'third'):
        write(path, text, beside=True)
        assert (path.read_text(), current_path(path).read_text()) == ('first', text)
    assert current_path(path) == tmp_path / 'log.new-2.csv'
    assert len(capsys.readouterr().err.splitlines()) == 1  # it is mentioned once
    held.clear()
    write(path, 'fourth', beside=True)
    assert current_path(path) == path and path.read_text() == 'fourth'
    assert sorted(os.listdir(tmp_path)) == ['log.csv', 'log.new.csv']


def test_what_is_no_result_waits_for_a_held_file_then_names_it(tmp_path, held, monkeypatch):
    path = tmp_path / 'model.safetensors'
    write(path, 'old')
    held.add(str(path))
    with pytest.raises(PermissionError) as error:
        write(path, 'new')
    assert error.value.filename == str(path)
    assert os.listdir(tmp_path) == [path.name] and path.read_text() == 'old'
    monkeypatch.setattr(files.time, 'sleep', lambda _: held.clear())  # a scanner has finished
    write(path, 'new')
    assert path.read_text() == 'new'


@pytest.mark.parametrize('number', [errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES])
def test_a_folder_that_knows_no_fsync_is_written_to_all_the_same(tmp_path, monkeypatch, number):
    fsync = os.fsync

    def of_a_share(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, 'fsync', of_a_share)
    write(tmp_path / 'a', 'text')
    assert (tmp_path / 'a').read_text() == 'text'


def test_a_disk_that_fails_is_an_error(tmp_path, monkeypatch):
    def broken(_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, 'fsync', broken)
    with pytest.raises(OSError, match='Input/output error'):
        files.sync_folder(tmp_path)


# --- files that belong together ----------------------------------------------------------------


@pytest.fixture
def old_pair(tmp_path):
    for name in 'ab':
        (tmp_path / name).write_text('old')
    return {tmp_path / name: b'new' for name in 'ab'}


def assert_old(folder):
    assert {path.name: path.read_text() for path in folder.iterdir()} == {'a': 'old', 'b': 'old'}


def test_files_that_belong_together_are_all_replaced(tmp_path, old_pair):
    files.write_together(old_pair)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {'a': 'new', 'b': 'new'}


@pytest.mark.parametrize('nth', [1, 2])
def test_a_full_disk_leaves_all_of_them_as_they_were(nth, tmp_path, old_pair, monkeypatch):
    fsync, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space left'):
        files.write_together(old_pair)
    assert_old(tmp_path)


def test_a_folder_in_the_place_of_one_leaves_all_as_they_were(tmp_path, old_pair):
    (tmp_path / 'folder').mkdir()
    with pytest.raises(IsADirectoryError):
        files.write_together({**old_pair, tmp_path / 'folder': b'new'})
    (tmp_path / 'folder').rmdir()
    assert_old(tmp_path)
