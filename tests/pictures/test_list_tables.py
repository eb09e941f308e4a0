"""Lists as other tools write them: CSV files, labels that are names, files of names."""

import numpy as np
import pytest
from list_files import picture, write

from common.console import UserError
from pictures.class_names import class_names_beside
from pictures.decoding import PictureError, load_picture
from pictures.lists import check_files_exist, class_names_of, list_beside, lists_in, read_list


def entries(pictures):
    return [(pictures.entry(i), pictures.label(i)) for i in range(len(pictures))]


@pytest.mark.parametrize(
    ('name', 'content', 'pictures', 'names'),
    [
        ('l.csv', 'path,label\na b.jpg,1\n\nc.jpg,0\n', [('a b.jpg', 1), ('c.jpg', 0)], None),
        ('l.csv', 'a.jpg,1\nc.jpg,0\n', [('a.jpg', 1), ('c.jpg', 0)], None),
        ('l.csv', 'a.jpg;dog\r\nc.jpg;cat\r\n', [('a.jpg', 1), ('c.jpg', 0)], ['cat', 'dog']),
        ('l.tsv', 'a.jpg\tbig dog\nc.jpg\tcat\n', [('a.jpg', 0), ('c.jpg', 1)], ['big dog', 'cat']),
        ('l.txt', 'path,label\na.jpg,0\n', [('a.jpg', 0)], None),
        ('l.txt', 'a.jpg,cat\n', [('a.jpg', 0)], ['cat']),
        ('l.txt', 'a,b.jpg 1\nc.jpg 0\n', [('a,b.jpg', 1), ('c.jpg', 0)], None),
        (
            'l.txt',
            'a b.jpg big dog\nc.PNG cat\n',
            [('a b.jpg', 0), ('c.PNG', 1)],
            ['big dog', 'cat'],
        ),
        ('l.csv', 'a.jpg 1\nc,d.jpg 0\n', [('a.jpg', 1), ('c,d.jpg', 0)], None),
        ('l.csv', '"a, b.jpg","x ""y"""\n', [('a, b.jpg', 0)], ['x "y"']),
        ('l.csv', 'label,filename\ncat,a.jpg\n', [('a.jpg', 0)], ['cat']),
        ('l.csv', 'cat,a.jpg\ndog,b.jpg\n', [('a.jpg', 0), ('b.jpg', 1)], ['cat', 'dog']),
        ('l.csv', 'soort,foto\n1,a.jpg\n0,b.jpg\n', [('a.jpg', 1), ('b.jpg', 0)], None),
        ('l.csv', 'fold,class,file\n3,cat,a.jpg\n', [('a.jpg', 0)], ['cat']),
        (
            '_classes.csv',
            'filename, y, x\na.jpg, 0, 1\nb.jpg, 1, 0\n',
            [('a.jpg', 1), ('b.jpg', 0)],
            ['y', 'x'],
        ),
    ],
)
def test_tables_are_lists(tmp_path, name, content, pictures, names):
    for encoded in (content, '\ufeff' + content):
        path = write(tmp_path / name, encoded)
        assert entries(read_list(path)) == pictures
        assert class_names_of(path) == names


def test_a_line_of_a_table_is_named_as_it_is_in_the_file(tmp_path):
    pictures = read_list(write(tmp_path / 'l.csv', 'path,label\n\na.jpg,0\nb.jpg,1\n'))
    with pytest.raises(UserError, match=r'l\.csv, line 3: .*a\.jpg: no such file \(2 of 2'):
        check_files_exist(pictures)


def test_ids_without_suffix_and_in_another_folder_are_found(tmp_path):
    for name in ('0a', '1b'):
        picture(tmp_path / 'train' / f'{name}.JPG', 0)
    pictures = read_list(write(tmp_path / 'labels.csv', 'id,breed\n0a,pug\n1b,akita\n'))
    check_files_exist(pictures)
    assert entries(pictures) == [('train/0a.JPG', 1), ('train/1b.JPG', 0)]
    numbered, place = pictures.remarks
    assert numbered.endswith('its labels are names, which are numbered: akita 0, pug 1')
    assert place.endswith('its pictures are train/NAME.JPG')
    picture(tmp_path / 'elsewhere' / '0a.png', 0)
    assert read_list(tmp_path / 'labels.csv', tmp_path / 'elsewhere').entry(0) == '0a.png'


def test_names_are_numbered_by_the_file_of_names(tmp_path):
    write(tmp_path / 'classes.txt', 'pug\nBig_Dog\nakita\n')
    pictures = read_list(write(tmp_path / 'l.csv', 'a.jpg,big dog\nb.jpg,akita\n'))
    assert (entries(pictures), pictures.remarks) == ([('a.jpg', 1), ('b.jpg', 2)], [])
    assert class_names_of(tmp_path / 'l.csv') == ['pug', 'Big_Dog', 'akita']
    write(tmp_path / 'l.csv', 'a.jpg,ox\nb.jpg,akita\n')
    with pytest.raises(UserError, match=r"class 'ox' is none of classes\.txt's"):
        read_list(tmp_path / 'l.csv')


@pytest.mark.parametrize(
    ('content', 'says'),
    [
        ('path,label\n', 'the list is empty'),
        (';;\n', 'the list is empty'),
        (',\na.jpg\n', 'line 2: one column; a list has a path and a label'),
        ('a.jpg,1\nb.jpg\n', 'line 2: 1 columns; the first line has 2'),
        ('a.jpg,1\nb.jpg,\n', 'line 2: there is no label'),
        ('a.jpg,1\n,0\n', 'line 2: there is no path'),
        ('a.jpg,1\nb.jpg,cat\n', "1 is a number and 'cat' a name"),
        ('a.jpg,1.5\n', 'line 1: .*no whole number'),
        ('a.jpg,-1\n', 'line 1: .*negative'),
        ('a.jpg,x,y\n', 'has 3 columns and no header'),
        ('a,b,c\n1,2,3\n', 'which columns are path and label'),
        ('path,x,y\na.jpg,2,3\n', 'which columns are path and label'),
        ('"a.jpg,1\n', 'line 1: unexpected end of data'),
        ('a.jpg,0\n"a\nb.jpg",1\n', 'line 2: a line break within quotes'),
        ('filename,x,y\na.jpg,1,1\n', 'line 2: 2 classes'),
        ('filename,width,class,xmin\na.jpg,1,x,1\n', 'a table of boxes'),
        ('filename,x,x\na.jpg,1,0\n', 'two of its columns have the same name'),
    ],
)
def test_a_table_that_is_no_list_is_refused(tmp_path, content, says):
    path = write(tmp_path / 'l.csv', content)
    with pytest.raises(UserError, match=says) as error:
        read_list(path)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize('name', ['labels.txt', 'label.txt', 'label_list.txt'])
@pytest.mark.parametrize('content', ['circle\nbig square\n', '1 big square\n0: circle\n'])
def test_files_of_names_as_other_tools_call_them(tmp_path, name, content):
    write(tmp_path / name, content)
    assert class_names_beside(tmp_path / 'train.txt') == ['circle', 'big square']
    write(tmp_path / 'classes.txt', '0 a\n1 b\n')  # where a number is part of the name
    assert class_names_beside(tmp_path / 'train.txt') == ['0 a', '1 b']


def test_files_of_names_that_differ_are_refused(tmp_path):
    write(tmp_path / 'labels.txt', '3 wheels\n4 wheels\n')
    write(tmp_path / 'label.txt', '3 wheels\n4 wheels\n')
    assert class_names_beside(tmp_path / 'train.txt') == ['3 wheels', '4 wheels']
    write(tmp_path / 'label.txt', 'x\ny\n')
    with pytest.raises(UserError, match=r'labels\.txt and label\.txt .* different class names'):
        class_names_beside(tmp_path / 'train.txt')


def test_the_lists_of_a_folder_and_those_beside_a_list(tmp_path):
    assert lists_in(tmp_path) == {}
    write(tmp_path / 'train_list.txt', 'a.jpg 0\n')
    assert lists_in(tmp_path) == {}
    write(tmp_path / 'val_list.txt', 'a.jpg 0\n')
    assert list(lists_in(tmp_path)) == ['train', 'val']
    assert list_beside(tmp_path / 'train_list.txt', 'val') == tmp_path / 'val_list.txt'
    assert list_beside(tmp_path / 'mine.txt', 'test') == tmp_path / 'test.txt'


@pytest.mark.parametrize('entry', [r'photos\a.jpg', r'C:\photos\a.jpg', 'D:/a.jpg'])
def test_paths_of_windows_get_a_hint(tmp_path, entry):
    path = write(tmp_path / 'l.txt', f'{entry} 0\n')
    with pytest.raises(UserError, match=r'no such file; is it a path of Windows\? Write /'):
        check_files_exist(read_list(path))
    with pytest.raises(PictureError, match='No such file or directory; is it a path of Windows'):
        load_picture(read_list(path).path(0))


def test_a_large_table_is_read_fast(tmp_path):
    labels = np.random.default_rng(0).integers(0, 100, 200_000)
    text = ''.join(f'train/{i}.jpg,class {label}\n' for i, label in enumerate(labels))
    pictures = read_list(write(tmp_path / 'l.csv', text))
    assert len(pictures) == 200_000
    assert pictures.class_num == 100
