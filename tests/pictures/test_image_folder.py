"""The making of lists from folders: what a user may rely on, and what a slip is told."""

import os
import subprocess
import sys

import pytest
from list_files import IMAGENET, ROOT, picture, write
from made_lists import divide, make_folder

from common.console import UserError
from pictures import list_making
from pictures.class_names import class_names_beside, map_labels
from pictures.lists import check_files_exist, read_list


def lines(path):
    return path.read_text().splitlines()


def test_lists_from_a_folder_are_stratified_and_usable_as_they_are(tmp_path):
    folder = make_folder(tmp_path / 'photos', {'dog': 10, 'a cat': 2, 'owl': 5})
    divide(folder)
    assert lines(folder / 'classes.txt') == ['a cat', 'dog', 'owl']
    train, val = read_list(folder / 'train.txt'), read_list(folder / 'val.txt')
    assert train.class_counts().tolist() == [1, 8, 4]
    assert val.class_counts().tolist() == [1, 2, 1]
    check_files_exist(train)
    check_files_exist(val)
    assert not set(lines(folder / 'train.txt')) & set(lines(folder / 'val.txt'))
    assert class_names_beside(folder / 'train.txt')[1] == 'dog'


def test_lists_elsewhere_find_their_pictures_too(tmp_path):
    folder = make_folder(tmp_path / 'photos', {'x': 3, 'y': 3})
    divide(folder, tmp_path / 'lists' / 'here')
    assert lines(tmp_path / 'lists/here/train.txt')[0].startswith('../../photos/x/')
    check_files_exist(read_list(tmp_path / 'lists/here/train.txt'))


def test_the_division_depends_on_seed_and_contents_alone(tmp_path):
    a = make_folder(tmp_path / 'a', {'x': 9, 'y': 9})
    b = make_folder(tmp_path / 'b', {'y': 0, 'x': 9})
    for i in reversed(range(9)):
        picture(b / 'y' / f'{i}.png', 9 + i)
    for folder in (a, b):
        divide(folder)
    assert lines(a / 'val.txt') == lines(b / 'val.txt')
    divide(b, seed=1)
    assert lines(a / 'val.txt') != lines(b / 'val.txt')


def test_copies_never_straddle_train_and_val(tmp_path):
    folder = make_folder(tmp_path, {'x': 6, 'y': 6})
    for i in range(6):
        picture(folder / 'x' / f'copy {i}.png', i)  # of x/0.png ... x/5.png
        picture(folder / 'y' / f'copy {i}.png', i)
    lists = divide(folder, fraction=0.5)
    sides = [
        {p.digest for pictures in side.values() for p in pictures} for side in lists.sides.values()
    ]
    assert not sides[0] & sides[1]
    assert sum(len(pictures) for side in lists.sides.values() for pictures in side.values()) == 24
    assert any('6 pictures lie in more than one class' in remark for remark in lists.remarks)
    assert any('12 pictures are copies' in remark for remark in lists.remarks)


def test_what_is_left_out_is_reported(tmp_path):
    folder = make_folder(tmp_path, {'x': 3, 'y': 3, 'one': 1, 'empty': 0, '.hidden': 2})
    write(folder / 'x' / 'broken.jpg', b'\xff\xd8\xff no picture')
    write(folder / 'x' / 'empty.JPG', b'')
    write(folder / 'x' / '.DS_Store', b'?')
    write(folder / 'x' / 'notes.txt', b'?')
    picture(folder / 'y' / 'two\nlines.png', 99)
    (folder / 'nothing').mkdir()
    remarks = '\n'.join(divide(folder).remarks)
    assert f'left out: {folder}/x/broken.jpg: cannot decode' in remarks
    assert f'left out: {folder}/x/empty.JPG: the file is empty' in remarks
    assert r"left out: 'y/two\nlines.png': its name cannot be written" in remarks
    assert f'ignored in {folder}: 3 files or folders that are no pictures' in remarks
    assert ': .hidden/, .DS_Store, notes.txt' in remarks
    assert "class 'one' has too few pictures to divide (1)" in remarks
    assert "class 'nothing' is left out" in remarks
    assert lines(folder / 'classes.txt') == ['one', 'x', 'y']
    assert len(lines(folder / 'train.txt')) == 1 + 2 + 2


def test_given_train_and_val_folders_are_used_as_they_are(tmp_path):
    make_folder(tmp_path / 'train', {'x': 3, 'y': 2})
    make_folder(tmp_path / 'val', {'y': 2})
    remarks = '\n'.join(divide(tmp_path).remarks)
    assert lines(tmp_path / 'val.txt') == ['val/y/0.png 1', 'val/y/1.png 1']
    assert len(lines(tmp_path / 'train.txt')) == 5
    assert '2 pictures of val are in train too' in remarks
    assert "class 'x' has no pictures in" in remarks
    make_folder(tmp_path / 'val', {'z': 1})
    with pytest.raises(UserError, match=r'val/z: .*train has no pictures of this class'):
        divide(tmp_path)


def test_the_usual_names_of_splits_are_known(tmp_path):
    for i, (train, val, test) in enumerate(
        [
            ('train', 'valid', 'test'),
            ('Training', 'validation', 'TESTING'),
            ('train_set', 'eval', 'test1'),
        ]
    ):
        folder = tmp_path / str(i)
        make_folder(folder / train, {'x': 3, 'y': 2})
        make_folder(folder / val, {'Y': 2})
        make_folder(folder / test, {'x': 1})
        (folder / 'annotations').mkdir()
        lists = divide(folder)
        assert lines(folder / 'classes.txt') == ['x', 'y']
        assert lines(folder / 'val.txt') == [f'{val}/Y/0.png 1', f'{val}/Y/1.png 1']
        assert lines(folder / 'test.txt') == [f'{test}/x/0.png 0']
        assert len(lines(folder / 'train.txt')) == 5
        assert any(f'not used: {folder}/annotations' in remark for remark in lists.remarks)


def test_a_split_that_is_missing_is_taken_from_training(tmp_path):
    make_folder(tmp_path / 'train', {'x': 10, 'y': 10})
    make_folder(tmp_path / 'test', {'x': 3, 'y': 3})
    sides = divide(tmp_path).sides
    counts = {side: len(classes['x']) for side, classes in sides.items()}
    assert counts == {'train': 8, 'val': 2, 'test': 3}
    assert read_list(tmp_path / 'test.txt').class_counts().tolist() == [3, 3]


def test_splits_without_training_are_lists_for_testing(tmp_path):
    make_folder(tmp_path / 'valid', {'x': 1})
    make_folder(tmp_path / 'test', {'y': 1})
    divide(tmp_path)
    assert lines(tmp_path / 'classes.txt') == ['x', 'y']
    assert lines(tmp_path / 'test.txt') == ['test/y/0.png 1']
    assert not (tmp_path / 'train.txt').exists()


def test_two_folders_for_one_split_are_an_error(tmp_path):
    for name in ('train', 'val', 'validation'):
        make_folder(tmp_path / name, {'x': 2, 'y': 2})
    with pytest.raises(UserError, match=r'val and validation could both be for val\.txt'):
        divide(tmp_path)


def test_a_class_may_be_called_test(tmp_path):
    remarks = divide(make_folder(tmp_path, {'test': 3, 'production': 3})).remarks
    assert lines(tmp_path / 'classes.txt') == ['production', 'test']
    assert remarks == ["'test' is taken for a class; a split would hold class folders"]


@pytest.mark.parametrize(
    ('val', 'test', 'counts'),
    [
        (0, 0, {'train': 10}),
        (1, 0, {'val': 10}),
        (0, 1, {'test': 10}),
        (0.2, 0.1, {'train': 7, 'val': 2, 'test': 1}),
        (0, 0.1, {'train': 9, 'test': 1}),
        (0.5, 0.5, {'val': 5, 'test': 5}),
    ],
)
def test_shares_of_the_lists(tmp_path, val, test, counts):
    folder = make_folder(tmp_path / 'p', {'x': 10, 'y': 10})
    sides = divide(folder, fraction=val, test=test).sides
    assert {side: len(classes['x']) for side, classes in sides.items()} == counts
    written = {path.stem: len(lines(path)) for path in folder.glob('*.txt')}
    assert written == {'classes': 2, **{side: 2 * count for side, count in counts.items()}}
    paths = [line.split()[0] for side in counts for line in lines(folder / f'{side}.txt')]
    assert len(set(paths)) == 20


def test_a_list_for_testing_may_have_one_class_and_an_older_list_is_named(tmp_path):
    folder = make_folder(tmp_path, {'x': 2})
    write(folder / 'train.txt', 'other.png 0\n')
    remarks = divide(folder, fraction=1).remarks
    assert remarks == [
        f'{folder}/train.txt was there before and is not written: it may not fit the new lists'
    ]
    assert lines(folder / 'train.txt') == ['other.png 0']


def test_folders_of_ImageNet_numbers_get_its_names(tmp_path):
    folder = make_folder(tmp_path, {'n01443537': 2, 'n01440764': 2, 'n02085620-Chihuahua': 2})
    divide(folder)
    names = class_names_beside(folder / 'train.txt')
    assert names == ['tench, Tinca tinca', 'goldfish, Carassius auratus', 'Chihuahua']
    assert map_labels(names, IMAGENET).tolist() == [0, 1, 151]


def test_all_lists_are_written_or_none(tmp_path, monkeypatch):
    folder = make_folder(tmp_path, {'x': 4, 'y': 4})
    divide(folder)
    before = {path: path.read_text() for path in folder.glob('*.txt')}
    make_folder(folder, {'z': 4})
    monkeypatch.setattr(list_making, '_class_line', lambda name: 1 / (name != 'z'))
    with pytest.raises(ZeroDivisionError):
        divide(folder)
    assert before == {path: path.read_text() for path in folder.glob('*.txt')}


@pytest.mark.parametrize(
    ('classes', 'says'),
    [
        ({}, 'no class with pictures'),
        ({'x': 4}, "only the class 'x'"),
        ({'x': 1, 'y': 1}, 'no class has pictures enough'),
    ],
)
def test_a_folder_that_cannot_be_divided_is_an_error(tmp_path, classes, says):
    make_folder(tmp_path, classes)
    with pytest.raises(UserError, match=says):
        divide(tmp_path)
    assert not (tmp_path / 'train.txt').exists()


def run(*arguments):
    return subprocess.run(
        [sys.executable, ROOT / 'reader.py', *map(str, arguments)], capture_output=True, text=True
    )


def test_remarks_are_printed_before_an_error(tmp_path):
    make_folder(tmp_path / 'p', {'x': 1, 'y': 1})
    write(tmp_path / 'p' / 'x' / 'cut.jpg', b'\xff\xd8')
    done = run(tmp_path / 'p')
    assert done.returncode == 1
    assert 'cut.jpg: cannot decode' in done.stdout
    assert done.stderr.count('\n') == 1


def test_command_line(tmp_path):
    folder = make_folder(tmp_path / 'p', {'x': 5, 'y': 5})
    done = run(folder, '--val', 0.4)
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.splitlines()[-2].split() == ['total', '6', '4']


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [(['nowhere'], 'nowhere: No such file or directory'), (['.', '--val', '1.5'], 'between 0 and')],
)
def test_command_line_errors_are_one_line(tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.returncode != 0
    assert says in done.stderr.splitlines()[-1]
    assert 'Traceback' not in done.stderr
    assert os.listdir(tmp_path) == []
