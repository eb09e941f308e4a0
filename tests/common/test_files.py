"""Files are read within bounds, and only where they are files."""

import os

import pytest

from common.files import read_regular_file


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
