"""Folders of pictures as people have them: links, circles, other files, deep trees."""

import os
import shutil

import cv2
import numpy as np
import pytest
from conftest import CAT
from inferring import one_error_line, run

import reader
from pictures.folder_tree import expand_paths, find_pictures, subfolders

needs_links = pytest.mark.skipif(os.name == 'nt', reason='links need a privilege there')


def place(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CAT, path)


def found(folder):
    return [os.path.relpath(path, folder) for path in find_pictures(folder)[0]]


@needs_links
def test_linked_folders_are_read(tmp_path):
    place(tmp_path / 'elsewhere' / 'deep' / 'a.png', tmp_path / 'here' / 'b.png')
    (tmp_path / 'here' / 'link').symlink_to(tmp_path / 'elsewhere')
    assert found(tmp_path / 'here') == ['b.png', 'link/deep/a.png']
    (tmp_path / 'all').symlink_to(tmp_path / 'here')
    assert found(tmp_path / 'all') == ['b.png', 'link/deep/a.png']


@needs_links
def test_circles_of_links_end_and_every_folder_is_read_once(tmp_path):
    place(tmp_path / 'here' / 'x' / 'a.png', tmp_path / 'here' / 'y' / 'b.png')
    place(tmp_path / 'beside.png')
    for link, target in [
        ('x/y', 'y'),
        ('y/x', 'x'),
        ('y/up', '.'),
        ('y/out', '..'),
        ('x/root', '/'),
    ]:
        (tmp_path / 'here' / link).symlink_to((tmp_path / 'here' / target).resolve())
    (tmp_path / 'here' / 'itself').symlink_to('itself')
    assert found(tmp_path / 'here') == ['x/a.png', 'y/b.png']
    others = find_pictures(tmp_path / 'here')[1]
    names = [os.path.relpath(path, tmp_path / 'here') for path in others]
    assert names == ['itself', 'x/root', 'y/out', 'y/up']
    assert subfolders(tmp_path / 'here') == ['x', 'y']


@needs_links
def test_a_link_to_itself_among_class_folders_is_named(tmp_path, capsys):
    for number, name in enumerate(['a/1', 'a/2', 'b/1', 'b/2']):
        path = tmp_path / f'{name}.png'
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.full((9, 9, 3), number, np.uint8))
    (tmp_path / 'c').symlink_to('c')
    arguments = [str(tmp_path), '--val', '0.5', '--output', str(tmp_path / 'lists')]
    assert reader.main(arguments) == 0
    assert '1 file or folder that is no picture: c' in capsys.readouterr().out


def test_a_deep_tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(1200):
        os.mkdir('d')
        os.chdir('d')
    shutil.copy(CAT, 'a.png')
    os.chdir(tmp_path)
    try:
        assert found(tmp_path) == [os.path.join(*['d'] * 1200, 'a.png')]
    finally:
        remove_deep('d')


def test_a_tree_too_deep_for_the_system_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for _ in range(25):
        os.mkdir('d' * 200)
        os.chdir('d' * 200)
    os.chdir(tmp_path)
    try:
        assert run(tmp_path) == 1
        assert one_error_line(capsys).endswith(': File name too long\n')
    finally:
        remove_deep('d' * 200)


def remove_deep(name):
    """As shutil.rmtree of before Python 3.13, which calls itself, cannot."""
    depth = 0
    while os.path.isdir(name):
        os.chdir(name)
        depth += 1
    for entry in os.listdir():
        os.remove(entry)
    for _ in range(depth):
        os.chdir('..')
        os.rmdir(name)


def test_what_is_passed_over_is_named(three_classes, tmp_path, capsys):
    place(tmp_path / 'b.png', tmp_path / '.hidden')
    for name in ('c.dng', 'no_suffix', 'a/photos.zip'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b'no picture')
    assert run('--model', three_classes, tmp_path) == 0
    words = '3 files or folders that are no pictures: c.dng, no_suffix, photos.zip; '
    words += 'pictures in archives count once they are unpacked'
    assert f'note: {tmp_path}: passed over {words}\n' in capsys.readouterr().err
    assert run('--model', three_classes, tmp_path / 'a') == 1
    words = '1 file or folder that is no picture: photos.zip; pictures in archives'
    assert f'a: holds no pictures, but {words}' in one_error_line(capsys)


def test_pictures_without_a_known_suffix_are_known_by_their_content(tmp_path):
    place(tmp_path / 'no_suffix', tmp_path / 'a.jpg_large', tmp_path / 'data.txt')
    os.mkfifo(tmp_path / 'pipe')
    assert found(tmp_path) == ['a.jpg_large', 'no_suffix']


def test_junk_alone_needs_no_words(tmp_path):
    place(tmp_path / 'a.png', tmp_path / '.DS_Store', tmp_path / '__MACOSX' / 'a.png')
    notes = []
    assert list(expand_paths([tmp_path, 'b'], notes.append)) == [str(tmp_path / 'a.png'), 'b']
    assert notes == []
