"""Lists, names of classes and labels mapped by them: what may be relied on, what a slip is told."""

import os
import time

import pytest
from list_files import IMAGENET, picture, write

from common.console import UserError
from pictures import decoding
from pictures.class_names import class_names_beside, map_labels, read_class_names
from pictures.lists import (
    bad_pictures,
    check_files_exist,
    label_gaps,
    read_list,
)


def test_list_paths_labels_and_lines(tmp_path):
    content = '\ufeffa b.jpg 3\r\n\r\n  \n#x.jpg\t0\r\n/abs/猫 1.png   12'
    pictures = read_list(write(tmp_path / 'l.txt', content))
    assert [pictures.path(i) for i in range(3)] == [
        str(tmp_path / 'a b.jpg'),
        str(tmp_path / '#x.jpg'),
        '/abs/猫 1.png',
    ]
    assert [pictures.label(i) for i in range(len(pictures))] == [3, 0, 12]
    assert pictures.class_num == 13
    assert pictures.class_counts().tolist() == [1, 0, 0, 1] + [0] * 8 + [1]
    assert pictures.where(2) == f'{tmp_path}/l.txt, line 5'


def test_data_dir_replaces_the_folder_of_the_list(tmp_path):
    pictures = read_list(write(tmp_path / 'l.txt', 'a.jpg 0\n'), data_dir='/photos')
    assert pictures.path(0) == '/photos/a.jpg'


@pytest.mark.parametrize(
    ('content', 'line', 'says'),
    [
        ('a 0\nb.jpg\n', 2, 'stands alone'),
        ('a 0\n\nmy photo.jpg\n', 3, 'no whole number'),
        ('a 0\nb -1\n', 2, 'negative'),
        ('a 1.0\n', 1, 'no whole number'),
        ('a 1_0\n', 1, 'no whole number'),
        ('a ٣\n', 1, 'no whole number'),
        ('a 5\n', 1, 'there are 5 classes'),
        ('a ' + '9' * 5000, 1, 'too large'),
        (b'a 0\nb\xff.jpg 1\n', 2, 'not UTF-8'),
        ('a 0'.encode('utf-16'), 1, 'not UTF-8'),
        (b'a 0\nb\0.jpg 1\n', 2, 'zero byte'),
    ],
)
def test_a_bad_line_is_named(tmp_path, content, line, says):
    path = write(tmp_path / 'l.txt', content)
    with pytest.raises(UserError, match=says) as error:
        read_list(path, class_num=5)
    assert str(error.value).startswith(f'{path}, line {line}: ')
    assert len(str(error.value)) < 300


def test_a_label_that_no_network_could_have_is_an_error(tmp_path):
    with pytest.raises(UserError, match='line 1: label 100000 is too large'):
        read_list(write(tmp_path / 'l.txt', 'a.jpg 100000'))


@pytest.mark.parametrize('content', ['', '\n \r\n', '\ufeff'])
def test_an_empty_list_is_an_error(tmp_path, content):
    with pytest.raises(UserError, match='the list is empty'):
        read_list(write(tmp_path / 'l.txt', content))


def test_missing_files_are_counted_and_the_first_is_named(tmp_path):
    write(tmp_path / 'a.jpg', 'x')
    pictures = read_list(write(tmp_path / 'l.txt', 'a.jpg 0\nb.jpg 1\nc.jpg 1\n'))
    with pytest.raises(UserError, match=r'line 2: .*b\.jpg: no such file \(2 of 3 files'):
        check_files_exist(pictures)


def test_a_fifo_or_a_device_for_a_list_or_its_names_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / 'list.txt')
    (tmp_path / 'classes.txt').symlink_to('/dev/zero')
    for read in (read_list, class_names_beside):
        with pytest.raises(OSError, match='is not a regular file'):
            read(tmp_path / 'list.txt')


def test_two_labels_on_a_line_are_told(tmp_path):
    picture(tmp_path / 'a.png', 0)
    pictures = read_list(write(tmp_path / 'l.txt', 'a.png 0\na.png 0 1\n'))
    with pytest.raises(UserError, match=r'line 2: .*a\.png 0: no such file; are there two labels'):
        check_files_exist(pictures)


def test_bad_pictures_are_left_out_and_named_up_to_a_share(tmp_path):
    for i in range(10):
        picture(tmp_path / f'{i}.png', i)
    write(tmp_path / '3.png', 'no picture')
    (tmp_path / '9.png').unlink()
    text = ''.join(f'{i}.png {i % 5}\n' for i in range(10))
    pictures = read_list(write(tmp_path / 'l.txt', text))
    indices, bad = bad_pictures(pictures, decoding.check_picture, most_share=0.2)
    assert indices == [3, 9]
    sound = pictures.without(indices)
    assert [sound.entry(i) for i in range(len(sound))] == [
        f'{i}.png' for i in (0, 1, 2, *range(4, 9))
    ]
    assert sound.labels.tolist() == [0, 1, 2, 4, 0, 1, 2, 3]
    assert (sound.class_num, len(pictures), sound.where(3)) == (5, 10, f'{tmp_path}/l.txt, line 5')
    assert [line.split(': ')[:2] for line in bad] == [
        [f'{tmp_path}/l.txt, line 4', f'{tmp_path}/3.png'],
        [f'{tmp_path}/l.txt, line 10', f'{tmp_path}/9.png'],
    ]
    with pytest.raises(
        UserError, match=r'l\.txt, line 4: .* \(2 of 10 pictures .* at most 10% may'
    ):
        bad_pictures(pictures, decoding.check_picture)


@pytest.mark.parametrize(
    ('labels', 'names', 'says'),
    [
        ((0, 1, 2), None, None),
        ((0, 1), ['a', 'b'], None),
        ((1, 2), None, 'no pictures of 1 of 3 classes: 0; labels count from 0, do these'),
        ((0, 3), ['a', 'b', 'c', 'd', 'e'], "of 3 of 5 classes: 1 'b', 2 'c', 4 'e'"),
        ((9,), None, 'of 9 of 10 classes: 0, 1, 2, 3, 4, ...'),
    ],
)
def test_classes_without_pictures_are_named(tmp_path, labels, names, says):
    text = ''.join(f'a {label}\n' for label in labels)
    line = label_gaps(read_list(write(tmp_path / 'l.txt', text)), names)
    assert (line is None) if says is None else (says in line)


def test_a_list_of_ImageNet_size_loads_fast_and_small(tmp_path):
    path = tmp_path / 'l.txt'
    with open(path, 'w') as file:
        file.writelines(
            f'train/n{i % 1000:08}/n{i % 1000:08}_{i}.JPEG {i % 1000}\n' for i in range(1_300_000)
        )
    start = time.process_time()
    pictures = read_list(path)
    assert time.process_time() - start < 10  # about 0.6 s on an idle machine
    assert len(pictures) == 1_300_000
    assert pictures.where(1_299_999).endswith('line 1300000')


def test_class_names(tmp_path):
    assert class_names_beside(tmp_path / 'train.txt') is None
    write(tmp_path / 'classes.txt', '\ufeffcat\r\n big dog \n\n')
    assert class_names_beside(tmp_path / 'train.txt') == ['cat', 'big dog']
    assert read_class_names(tmp_path / 'classes.txt', 2) == ['cat', 'big dog']


@pytest.mark.parametrize(
    ('content', 'says'),
    [
        ('a\n\nb\n\n', ', line 2: a class name is missing'),
        ('\na\n', ', line 1: a class name is missing'),
        (' \n', ': there are no class names'),
        (b'a\n\xff', ': not UTF-8'),
        ('a\nb\u2028c\n', ': has 2 names; the network has 3 classes'),
    ],
)
def test_a_bad_file_of_class_names_is_named(tmp_path, content, says):
    path = write(tmp_path / 'names.txt', content)
    with pytest.raises(UserError) as error:
        read_class_names(path, 3)
    assert str(error.value).startswith(f'{path}{says}')


def test_ImageNet_numbers_become_its_names_and_stay_where_these_are_not_unique(tmp_path):
    content = (
        'n01440764 tench, Tinca tinca\nn01443537\nn02012849 crane\nn09999999\nn09999998 unicorn\n'
    )
    assert read_class_names(write(tmp_path / 'w.txt', content)) == [
        'tench, Tinca tinca',
        'goldfish, Carassius auratus',
        'n02012849 crane',
        'n09999999',
        'unicorn',
    ]


@pytest.mark.parametrize(
    ('names', 'model', 'labels'),
    [
        (['a', 'b'], ['a', 'b'], None),
        (['a', 'b'], ['a', 'b', 'c'], None),  # the same labels, so nothing is to be done
        (['gravel', 'brick'], ['brick', 'grass', 'gravel'], [2, 0]),
        (['Big_Dog', 'cat'], ['cat', 'big dog'], [1, 0]),
        (['A', 'a'], ['a', 'A'], [1, 0]),  # to the letter before without regard to case
        (['goldfish', 'n01440764'], IMAGENET, [1, 0]),
        (['tench', 'Carassius auratus'], IMAGENET, None),
        (['maillot', 'maillot, tank suit'], IMAGENET, [638, 639]),
        (['n03126707 crane', 'n02012849'], IMAGENET, [517, 134]),
        (['n01443537', 'n01440764 tench'], ['tench', 'goldfish'], [1, 0]),
        (['crane', 'n09999999'], ['n09999999', 'crane'], [1, 0]),
    ],
)
def test_labels_are_mapped_by_name(names, model, labels):
    found = map_labels(names, model)
    assert (found if found is None else found.tolist()) == labels


def test_the_crane_of_an_older_model_is_found_by_its_number():
    plain = [name.removeprefix('n02012849 ').removeprefix('n03126707 ') for name in IMAGENET]
    assert map_labels(['n03126707', 'n02012849'], plain).tolist() == [517, 134]
    assert map_labels(IMAGENET, plain) is None


@pytest.mark.parametrize(
    ('names', 'model', 'says'),
    [
        (['ants', 'bees'], ['brick', 'bees'], "class 'ants' is none of the model's"),
        (['a', 'b', 'c'], ['a', 'b'], r"class 'c' is none .* \(1 of 3 classes do not fit"),
        (['crane'], IMAGENET, "'crane' is none of the model's, or could be several"),
        (['n03126707 crane'], ['n02012849 crane', 'ox'], "'n03126707 crane' is none"),
        (['CAT'], ['cat', 'Cat'], "'CAT' is none of the model's, or could be several"),
        (['cat', 'CAT'], ['cat', 'dog'], "'cat' and 'CAT' are one of the model's, 'cat'"),
    ],
)
def test_names_that_do_not_fit_are_refused(names, model, says):
    with pytest.raises(UserError, match=says):
        map_labels(names, model)
