"""The pictures and tables of results: what stands in the files, not only that they appear."""

import csv
import importlib.util
import threading
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.console import UserError
from evaluation import metrics
from figures import confusion, image_grid, plotting
from runs import curves

NAMES = ['brick', 'grass', 'gravel']
LABELS = [0, 0, 0, 0, 1, 1, 1, 2]
PREDICTED = [0, 0, 1, 1, 1, 1, 2, 2]

BEFORE = {'epoch': 0, 'iteration': 0, 'val_loss': 1.2, 'val_top1': 0.36, 'val_top5': 1.0}
AFTER = {
    'epoch': 1,
    'iteration': 1234567,
    'lr': 0.004,
    'train_loss': 0.123456789,
    'train_top1': np.float32(0.5),
    'val_loss': float('nan'),
    'val_top1': 0.75,
    'val_top5': 1.0,
    'images_per_second': 19.25,
}


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        warnings.simplefilter('ignore', DeprecationWarning)  # Python does not show these
        yield


def picture(path):
    image = cv2.imread(str(path))
    assert image is not None
    return image


def has_colour(image, rgb, tolerance=8):
    """How many pixels have about this colour."""
    return int((np.abs(image[..., ::-1].astype(int) - rgb).max(axis=-1) <= tolerance).sum())


def rgb(name):
    return [int(name[i : i + 2], 16) for i in (1, 3, 5)]


# the training log


def test_log_has_a_row_an_epoch_and_empty_places_for_what_is_not_known(tmp_path):
    curves.write_log([BEFORE, AFTER], tmp_path / 'log.csv')
    assert (tmp_path / 'log.csv').read_text().splitlines() == [
        'epoch,iteration,lr,train_loss,train_top1,val_loss,val_top1,val_top5,images_per_second',
        '0,0,,,,1.2,0.36,1,',
        '1,1234567,0.004,0.123457,0.5,nan,0.75,1,19.25',
    ]


def test_log_keeps_columns_that_it_does_not_know(tmp_path):
    curves.write_log([BEFORE, {**AFTER, 'seconds': 60}], tmp_path / 'log.csv')
    rows = list(csv.DictReader((tmp_path / 'log.csv').read_text().splitlines()))
    assert [row['seconds'] for row in rows] == ['', '60']


@pytest.mark.parametrize('epochs', [1, 2, 300])
def test_curves_of_any_length_have_one_size(epochs, tmp_path):
    rows = [BEFORE] + [{**AFTER, 'epoch': n, 'val_loss': 1 / n} for n in range(1, epochs)]
    curves.draw_curves(rows, tmp_path / 'curves.png')
    image = picture(tmp_path / 'curves.png')
    assert image.shape == (600, 1200, 3)
    assert has_colour(image, rgb(curves.VAL)) > 50
    assert (has_colour(image, rgb(curves.TRAIN)) > 50) == (epochs > 1)


def test_curves_bear_an_epoch_without_any_number(tmp_path):
    infinite = {**AFTER, 'train_loss': float('inf'), 'val_top1': None}
    curves.draw_curves([{'epoch': 0}, infinite], tmp_path / 'curves.png')
    curves.draw_curves([{'epoch': 0}], tmp_path / 'nothing.png')
    assert picture(tmp_path / 'nothing.png').shape == (600, 1200, 3)


def test_drawing_works_in_threads_and_repeats_its_bytes(tmp_path):
    paths = [tmp_path / f'{n}.png' for n in range(4)]
    rows = [BEFORE, AFTER]
    threads = [threading.Thread(target=curves.draw_curves, args=(rows, path)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({path.read_bytes() for path in paths}) == 1


def test_a_failed_drawing_leaves_the_old_file(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    def half(figure, file, **_):
        file.write(b'half')
        raise OSError(28, 'No space left on device')

    path = tmp_path / 'curves.png'
    path.write_bytes(b'old')
    monkeypatch.setattr(Figure, 'savefig', half)
    with pytest.raises(OSError, match='No space left'):
        curves.draw_curves([BEFORE], path)
    assert path.read_bytes() == b'old'
    assert [file.name for file in tmp_path.iterdir()] == ['curves.png']


@pytest.mark.parametrize('name', ['curves', 'curves.bmpp'])
def test_a_file_name_that_names_no_format_is_refused(name, tmp_path):
    with pytest.raises(UserError, match=rf'{name}: the file name must end in \.png'):
        curves.draw_curves([BEFORE], tmp_path / name)


# prediction sheets


RED = np.full((60, 80, 3), (20, 30, 220), np.uint8)  # BGR, 4:3 as its place on the sheet


def test_sheet_shows_the_photo_in_its_colours(tmp_path):
    image_grid.draw_image_grid([(RED, 'red', [('fire', 1.0)])], tmp_path / 'sheet.png')
    image = picture(tmp_path / 'sheet.png')
    assert image.shape[1] == 560  # 2.4 inches and two margins of 0.2 at 200 dots an inch
    assert abs(has_colour(image, [220, 30, 20]) - 480 * 360) < 2000


@pytest.mark.parametrize('shape', [(1, 1, 3), (3, 900, 3), (900, 3, 3), (60, 80, 3)])
def test_photos_of_any_shape_keep_it(shape, tmp_path):
    red = np.full(shape, (20, 30, 220), np.uint8)
    image_grid.draw_image_grid([(red, 'red', [])], tmp_path / 'sheet.png')
    found = np.abs(picture(tmp_path / 'sheet.png').astype(int) - (20, 30, 220)).max(axis=-1) < 30
    height, width = (np.ptp(axis) + 1 for axis in np.nonzero(found))
    scale = min(480 / shape[1], 360 / shape[0])
    assert abs(width - max(1, shape[1] * scale)) <= 3
    assert abs(height - max(1, shape[0] * scale)) <= 3


def test_bars_are_as_long_as_their_probabilities(tmp_path):
    lengths = []
    for probability in (0.0, 0.25, 1.0, float('nan')):
        image_grid.draw_image_grid([(RED, 'red', [('', probability)])], tmp_path / 'sheet.png')
        lengths.append(has_colour(picture(tmp_path / 'sheet.png'), rgb(image_grid.BAR_FIRST), 2))
    assert lengths[0] == lengths[3] == 0
    assert lengths[1] == pytest.approx(480 * 0.25 * 36, rel=0.05)  # 36 dots high
    assert lengths[2] > 3.5 * lengths[1]


def test_sheet_reads_files_and_grows_by_rows(tmp_path):
    cv2.imwrite(str(tmp_path / 'red.png'), RED)
    cell = (tmp_path / 'red.png', 'red.png', [('fire', 0.9), ('brick', 0.1)])
    heights = []
    for count in (4, 5, 9):
        image_grid.draw_image_grid([cell] * count, tmp_path / 'sheet.png')
        image = picture(tmp_path / 'sheet.png')
        assert image.shape[1] == 1272
        assert has_colour(image, [220, 30, 20]) == pytest.approx(count * 288 * 216, rel=0.02)
        heights.append(image.shape[0])
    assert heights[1] - heights[0] > 216
    assert heights[2] - heights[1] == pytest.approx(heights[1] - heights[0], abs=1)


@pytest.mark.parametrize('count', [0, 49])
def test_sheet_is_bounded(count, tmp_path):
    with pytest.raises(ValueError, match='a sheet holds 1 to 48'):
        image_grid.draw_image_grid([(RED, '', [])] * count, tmp_path / 'sheet.png')


def test_any_name_can_be_drawn_without_warning(tmp_path, caplog):
    names = [
        '$x^2',
        'a $5 bill',
        'Кошка',
        '猫科动物',
        'two\nlines',
        '\x07bell',
        '🦊',
        '',
        'W' * 500,
    ]
    top = [(name, 0.1) for name in names]
    image_grid.draw_image_grid([(RED, '猫.jpg\n$', top)], tmp_path / 'sheet.png')
    confusion.draw_confusion(np.eye(9, dtype=np.int64), names, tmp_path / 'confusion.png')
    assert picture(tmp_path / 'confusion.png').shape[1] < 1200  # the long name is shortened
    assert not caplog.records


def test_text_is_shortened_to_its_place():
    axes = plotting.axes_in_inches(plotting.new_figure(4, 1))
    texts = [
        plotting.add_text(axes, 0, 0.5, 'W' * 99, 9, width=1.0),
        plotting.add_text(axes, 0, 0.5, 'i' * 99, 9, width=1.0),
    ]
    for text in texts:
        assert text.get_text().endswith('…')
        assert 0.85 < text.get_window_extent().width / axes.figure.dpi < 1.05
    assert len(texts[1].get_text()) > 2 * len(texts[0].get_text())
    assert plotting.add_text(axes, 0, 0.5, 'cat', 9, width=1.0).get_text() == 'cat'


def test_mistakes_are_shown_the_surest_first(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        image_grid, 'draw_image_grid', lambda cells, path, headline: drawn.append(cells)
    )
    probabilities = [0.9, 0.9, 0.51, 0.98, 0.9, 0.9, 0.6, 0.9]
    paths = [f'photos/{n}.jpg' for n in range(8)]
    arguments = paths, LABELS, PREDICTED, probabilities, NAMES, tmp_path / 'mistakes.png'
    assert image_grid.draw_mistakes(*arguments, most=2)
    assert [path for path, _, _ in drawn[0]] == ['photos/3.jpg', 'photos/6.jpg']
    assert drawn[0][0][1] == 'is brick\ntaken for grass (98%)\n3.jpg'


def test_mistakes_are_drawn_from_the_files(tmp_path):
    for n in range(8):
        cv2.imwrite(str(tmp_path / f'{n}.png'), RED if n == 2 else RED * 0)
    paths = [tmp_path / f'{n}.png' for n in range(8)]
    drawn = tmp_path / 'mistakes.png'
    assert image_grid.draw_mistakes(paths, LABELS, PREDICTED, [0.5] * 8, NAMES, drawn)
    assert has_colour(picture(drawn), [220, 30, 20]) == pytest.approx(288 * 216, rel=0.02)


def test_no_mistakes_no_sheet(tmp_path):
    drawn = tmp_path / 'mistakes.png'
    assert not image_grid.draw_mistakes(['a'] * 3, [0, 1, 2], [0, 1, 2], [0.9] * 3, NAMES, drawn)
    assert not drawn.exists()


# confusion and the numbers of each class


def test_confusion_matrix_counts_true_by_row():
    matrix = metrics.confusion_matrix(LABELS, PREDICTED, 3)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == [[2, 2, 0], [0, 2, 1], [0, 0, 1]]
    assert metrics.confusion_matrix([], [], 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize('wrong', [-1, 3])
def test_confusion_matrix_refuses_classes_that_do_not_exist(wrong):
    with pytest.raises(ValueError, match='of 3'):
        metrics.confusion_matrix([0, 1], [0, wrong], 3)


def test_per_class_numbers_are_those_of_hand_made_ones():
    rows = metrics.per_class(LABELS, PREDICTED, [*NAMES, 'sand'])
    assert [tuple(row) for row in rows] == [metrics.CLASS_COLUMNS] * 4
    brick, grass, gravel, sand = (tuple(row.values()) for row in rows)
    assert brick == (0, 'brick', 4, 2 / 4, 2 / 2, pytest.approx(2 / 3), 'grass', 2)
    assert grass == (1, 'grass', 3, 2 / 3, 2 / 4, pytest.approx(4 / 7), 'gravel', 1)
    assert gravel == (2, 'gravel', 1, 1.0, 1 / 2, pytest.approx(2 / 3), '', 0)
    assert sand == (3, 'sand', 0, None, None, None, '', 0)


def test_per_class_csv(tmp_path):
    metrics.write_per_class(metrics.per_class([0, 0, 1], [0, 1, 1], NAMES), tmp_path / 'c.csv')
    assert (tmp_path / 'c.csv').read_text().splitlines() == [
        'class,name,pictures,recall,precision,f1,most_confused_with,count',
        '0,brick,2,0.5,1,0.666667,grass,1',
        '1,grass,1,1,0.5,0.666667,,0',
        '2,gravel,0,,,,,0',
    ]


def test_per_class_table_is_aligned_whatever_the_script():
    rows = metrics.per_class(
        LABELS, PREDICTED, ['砖', 'grass', 'a very long name of a class of gravel']
    )
    lines = metrics.format_per_class(rows).splitlines()
    assert len(lines) == 4
    ends = {plotting.columns_of(line[: line.rindex('%') + 1]) for line in lines[1:]}
    assert len(ends) == 1
    assert lines[1].split() == ['砖', '4', '50.0%', '100.0%', '66.7%', 'grass', '(2)']
    assert '…' in lines[3]


def test_per_class_table_of_many_shows_the_worst():
    labels = np.repeat(np.arange(30), 10)
    predicted = np.where(np.arange(300) % 10 < np.repeat(np.arange(30), 10) % 11, labels, 0)
    names = [f'class {n}' for n in range(31)]  # the last has no pictures
    lines = metrics.format_per_class(
        metrics.per_class(labels, predicted, names), most=5
    ).splitlines()
    recalls = [float(line.split('%')[0].split()[-1]) for line in lines[1:-1]]
    assert recalls == [0.0, 0.0, 10.0, 10.0, 10.0]
    assert lines[-1] == '(the 5 classes with the lowest recall, of 30)'


@pytest.mark.parametrize('classes', [1, 2, 30, 31, 1000])
def test_confusion_picture_shows_right_and_wrong(classes, tmp_path):
    matrix = np.eye(classes, dtype=np.int64) * 50
    names = [f'class {n}' for n in range(classes)]
    path = tmp_path / 'confusion.png'
    confusion.draw_confusion(matrix, names, path)
    blue, red = (np.multiply(colour, 255) for colour in (confusion.RIGHT, confusion.WRONG))
    perfect = picture(path)
    assert has_colour(perfect, blue) >= 0.99 * classes  # the frame hides a few
    assert not has_colour(perfect, red)
    assert max(perfect.shape) < 2000
    if classes > 1:
        matrix[classes // 2] = np.arange(classes) == classes // 3
        confusion.draw_confusion(matrix, names, path)
        assert has_colour(picture(path), red) > 0


def test_confusion_picture_of_nothing(tmp_path):
    confusion.draw_confusion(np.zeros((3, 3), np.int64), NAMES, tmp_path / 'confusion.png')
    assert picture(tmp_path / 'confusion.png').size


# the drawings of the README


@pytest.mark.parametrize('version', ['1.0', '1.1'])
def test_architecture_drawing_is_small_and_repeats_its_bytes(version, tmp_path):
    script = Path(__file__).parents[2] / 'images' / 'draw_architecture.py'
    spec = importlib.util.spec_from_file_location('draw_architecture', script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    paths = [tmp_path / 'a.png', tmp_path / 'b.png']
    for path in paths:
        module.draw_architectures(version, path)
    assert picture(paths[0]).shape[1] == 1692
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].stat().st_size < 150_000


@pytest.mark.filterwarnings('error')
def test_curves_of_a_run_without_updates_are_drawn_without_a_warning(tmp_path):
    row = {'epoch': 0, 'iteration': 0, 'lr': 0.0, 'val_loss': 0.1, 'val_top1': 1.0, 'val_top5': 1.0}
    curves.draw_curves([row], tmp_path / 'curves.png')
    assert (tmp_path / 'curves.png').stat().st_size > 1000
