"""Folders as people have them: junk, groups, links, splits without classes."""

import pytest
from list_files import picture, write
from made_lists import divide, make_folder

from common.console import UserError
from pictures import decoding, list_making
from pictures.lists import check_files_exist, lists_in, read_list


def test_junk_is_passed_over_and_named(tmp_path):
    folder = make_folder(tmp_path, {'x': 3, 'y': 3, '__MACOSX': 2, '.ipynb_checkpoints': 2})
    write(folder / 'Thumbs.db', '?')
    picture(folder / 'x' / '._0.png', 0)
    picture(folder / 'x' / '__MACOSX' / '0.png', 77)
    lists = divide(folder)
    assert lists.class_names == ['x', 'y']
    assert [len(pictures) for pictures in lists.sides['train'].values()] == [2, 2]
    assert lists.remarks == [
        f'ignored in {folder}: 5 files or folders that are no pictures: '
        '.ipynb_checkpoints/, __MACOSX/, ._0.png, Thumbs.db'
    ]


def test_group_class_picture_is_remarked(tmp_path):
    make_folder(tmp_path / 'animals', {'ants': 3, 'bees': 3})
    make_folder(tmp_path / 'things', {'x': 2, 'y': 2})
    remarks = divide(tmp_path).remarks
    assert "'animals' is one class with all that its subfolders hold (ants, bees)" in remarks[0]
    assert "'things' is one class" in remarks[1]


def refused(folder, **options):
    """(the error on a folder, the remarks before it)."""
    remarks = []
    with pytest.raises(UserError) as error:
        list_making.write_lists(
            folder, folder, 0.2, 0, decoding.check_picture, remarks.append, **options
        )
    assert not list(folder.glob('*.txt'))
    return str(error.value), remarks


def test_folders_of_splits_without_classes_are_refused_with_what_would_work(tmp_path):
    kaggle = tmp_path / 'dogs vs cats'
    for number in range(4):
        picture(kaggle / 'train' / f'cat.{number}.jpg', number)
        picture(kaggle / 'train' / f'dog.{number}.jpg', 10 + number)
        picture(kaggle / 'test1' / f'{number}.jpg', 20 + number)
    write(kaggle / 'sampleSubmission.csv', 'id,label\n')
    (kaggle / 'empty').mkdir()
    error, _ = refused(kaggle)
    assert 'the folders test1, train hold pictures, not a folder of pictures per class' in error
    assert 'begin with cat, dog' in error
    assert 'train/cat* into train/cat' in error
    roboflow = tmp_path / 'robo flow'
    for side in ('train', 'valid', 'test'):
        picture(roboflow / side / 'a.jpg', len(side))
        write(roboflow / side / '_classes.csv', 'filename, x, y\na.jpg, 0, 1\n')
    error, _ = refused(roboflow)
    assert (
        f"python train.py --train_list '{roboflow}/train/_classes.csv' --val_list "
        f"'{roboflow}/valid/_classes.csv' --test_list '{roboflow}/test/_classes.csv'"
    ) in error
    breeds = make_folder(tmp_path / 'breeds', {'train': 4, 'test': 1})
    write(breeds / 'labels.csv', 'id,breed\n0,x\n1,y\n2,x\n3,y\n')
    error, _ = refused(breeds)
    assert 'labels.csv has their labels, divide its lines between train.csv and val.csv' in error
    write(breeds / 'train.csv', 'id,breed\n0,x\n1,y\n')
    write(breeds / 'val.csv', 'id,breed\n2,x\n3,y\n')
    for path in lists_in(breeds).values():
        check_files_exist(read_list(path))
    numbered = make_folder(tmp_path / 'numbered', {'train': 2, 'val': 1})
    assert 'move the pictures of each class into a folder of its own' in refused(numbered)[0]


def test_splits_without_training_do_not_become_classes_because_of_a_folder_beside_them(tmp_path):
    make_folder(tmp_path / 'valid', {'x': 2, 'y': 2})
    write(tmp_path / 'annotations' / 'a.xml', '?')
    assert divide(tmp_path).class_names == ['x', 'y']
    make_folder(tmp_path, {'train': 2})
    assert 'the folders train hold pictures' in refused_again(tmp_path)


def refused_again(folder):
    for path in folder.glob('*.txt'):
        path.unlink()
    return refused(folder)[0]


def test_classes_below_single_folders_are_found(tmp_path):
    folder = make_folder(tmp_path / 'a' / 'archive' / 'dataset', {'x': 3, 'y': 3})
    (tmp_path / 'a' / '__MACOSX').mkdir()
    (tmp_path / 'a' / 'archive' / 'round').symlink_to('..')
    write(tmp_path / 'a' / 'README.md', '?')
    made = divide(tmp_path / 'a', tmp_path / 'lists')
    assert made.class_names == ['x', 'y']
    assert made.remarks[0] == (
        f'{tmp_path}/a holds one folder alone; its classes are taken from {folder}'
    )
    check_files_exist(read_list(tmp_path / 'lists' / 'train.txt'))
    make_folder(tmp_path / 'b' / 'train', {'x': 3, 'y': 3})  # a split, and a class
    assert lines_of(divide(tmp_path / 'b'))[0].startswith('train/x/')
    assert "only the class 'x'" in refused(make_folder(tmp_path / 'c', {'x': 3}))[0]


def lines_of(made):
    return [p.path for pictures in made.sides['train'].values() for p in pictures]


def test_linked_folders_count_and_those_that_lead_back_are_named(tmp_path):
    make_folder(tmp_path / 'disk', {'x': 3, 'more': 3})
    make_folder(tmp_path / 'set', {'y': 3})
    (tmp_path / 'set' / 'x').symlink_to(tmp_path / 'disk' / 'x')
    (tmp_path / 'set' / 'y' / 'more').symlink_to(tmp_path / 'disk' / 'more')
    (tmp_path / 'set' / 'y' / 'up').symlink_to('..')
    (tmp_path / 'set' / 'all').symlink_to('.')
    made = divide(tmp_path / 'set')
    assert made.class_names == ['x', 'y']
    assert sum(len(side['y']) for side in made.sides.values()) == 3 + 3
    assert "class 'all' is left out: it is a link to a folder that holds it" in made.remarks
    assert any('no picture: up/' in remark for remark in made.remarks)


@pytest.mark.parametrize(
    ('content', 'says'),
    [
        (b'version https://git-lfs.github.com/spec/v1\n', 'is a Git LFS pointer; fetch the file'),
        (b'\0\0\0\x18ftypheic' + bytes(99), 'cannot decode: a damaged or truncated HEIC file'),
    ],
)
def test_remarks_come_before_a_refusal_and_many_of_one_kind_are_one(tmp_path, content, says):
    for number in range(9):
        write(tmp_path / 'x' / f'{number}.heic', content)
    write(tmp_path / 'y.zip', b'PK')
    picture(tmp_path / 'z.png', 1)
    error, remarks = refused(tmp_path)
    assert 'no class with pictures' in error
    loose, archives, left_out, empty = remarks
    assert loose == (
        f'not used: 1 pictures in {tmp_path} itself, such as z.png, which are of no class'
    )
    assert archives.endswith('no picture: y.zip; pictures in archives count once they are unpacked')
    assert left_out.startswith(f'left out: 9 files such as {tmp_path}/x/0.heic: {says}')
    assert empty == f"class 'x' is left out: {tmp_path}/x has no picture"


def test_class_folders_without_a_usable_name_are_left_out(tmp_path):
    folder = make_folder(tmp_path, {'x': 2, 'y': 2, '  ': 2, 'a\nb': 2})
    remarks = divide(folder).remarks
    assert (folder / 'classes.txt').read_text().splitlines() == ['x', 'y']
    assert "class '  ' is left out: classes.txt cannot hold its name" in remarks
    assert r"class 'a\nb' is left out: classes.txt cannot hold its name" in remarks
    make_folder(folder, {'x ': 2})
    with pytest.raises(UserError, match="2 class folders are called 'x'"):
        divide(folder)
