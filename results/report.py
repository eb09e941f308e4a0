"""Pictures and tables of results: learning curves, predictions, confusion, per-class numbers.

Pictures get the format that the file's suffix names (png, jpg, pdf, svg).
"""

import csv
from pathlib import Path

import numpy as np

from common.files import atomic_write
from pictures.decoding import cv2
from results import canvas
from results.canvas import FAINT, INK, MUTED, add_text, columns_of, shorten_to_columns

TRAIN, VAL, VAL_TOP5 = '#2166ac', '#d6604d', '#f4a582'
BAR_FIRST, BAR_OTHER, BAR_TRACK = '#9cc3e6', '#d7e6f4', '#f5f5f5'
RIGHT, WRONG = (33 / 255, 102 / 255, 172 / 255), (200 / 255, 60 / 255, 40 / 255)

LOG_COLUMNS = (
    *('epoch', 'iteration', 'lr', 'train_loss', 'train_top1'),
    *('val_loss', 'val_top1', 'val_top5', 'images_per_second'),
)
CLASS_COLUMNS = (
    *('class', 'name', 'pictures', 'recall', 'precision', 'f1'),
    *('most_confused_with', 'count'),
)
MOST_CELLS = 48  # of a sheet: more would be neither legible nor small
MOST_NUMBERED_CLASSES = 30  # of a confusion matrix: more have no room for numbers
MOST_PAIRS = 25  # listed beside a larger confusion matrix


def write_log(rows, path):
    """Write log.csv: a header and a row an epoch, empty where there is no value.

    `rows`: dicts with the keys LOG_COLUMNS (others are appended as further columns); numbers get 6
    significant digits, losses are means per picture, top-1 and top-5 shares of 1.
    """
    columns = dict.fromkeys((*LOG_COLUMNS, *(key for row in rows for key in row)))
    _write_csv(rows, columns, path)


def _write_csv(rows, columns, path):
    with atomic_write(path, 'w') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(columns)
        writer.writerows([_csv_value(row.get(key)) for key in columns] for row in rows)


def _csv_value(value):
    if value is None:
        return ''
    return f'{value:.6g}' if isinstance(value, (float, np.floating)) else value


def draw_curves(rows, path):
    """Draw loss, accuracy, learning rate and speed over the epochs.

    `rows` as for `write_log`; None, NaN and absent values leave a gap.
    """
    epochs = _values(rows, 'epoch')
    few = len(rows) <= 30
    style = {'marker': 'o' if few else None, 'markersize': 4, 'linewidth': 1.8 if few else 1.2}
    figure = canvas.new_figure(10, 5, layout='constrained')
    (loss, accuracy), (rate, speed) = figure.subplots(2, 2, sharex=True, height_ratios=(4, 1))

    def line(axes, key, **options):
        values = _values(rows, key)
        if np.isfinite(values).any():
            axes.plot(epochs, values, **style, **options)

    line(loss, 'train_loss', label='train', color=TRAIN)
    line(loss, 'val_loss', label='val', color=VAL)
    line(accuracy, 'train_top1', label='train top-1', color=TRAIN)
    line(accuracy, 'val_top1', label='val top-1', color=VAL)
    line(accuracy, 'val_top5', label='val top-5', color=VAL_TOP5, linestyle='--')
    line(rate, 'lr', color=MUTED)
    line(speed, 'images_per_second', color=MUTED)

    _mark_best(loss, epochs, _values(rows, 'val_loss'), np.nanargmin, 'lowest val loss {:.4g}')
    _mark_best(accuracy, epochs, _values(rows, 'val_top1'), np.nanargmax, 'best val top-1 {:.1%}')
    _style_curves(loss, 'Loss', accuracy, 'Accuracy', rate, 'Learning rate', speed, 'Images / s')
    first, last = epochs[0], epochs[-1]
    margin = (last - first) * 0.03 or 0.5
    loss.set_xlim(first - margin, last + margin)
    canvas.save_figure(figure, path)


def _values(rows, key):
    values = [row.get(key) for row in rows]
    values = np.array([np.nan if value is None else value for value in values], np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _mark_best(axes, epochs, values, argbest, text):
    if np.isfinite(values).any():
        best = argbest(values)
        ring = {'markersize': 11, 'markerfacecolor': 'none', 'markeredgewidth': 1.3, 'zorder': 5}
        axes.plot(epochs[best], values[best], 'o', color=INK, **ring)
        text = f'{text.format(values[best])} at epoch {epochs[best]:g}'
        axes.set_title(text, loc='right', fontsize=9, color=MUTED)


def _style_curves(*panels):
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    for axes, title in zip(panels[::2], panels[1::2]):
        small = title in ('Learning rate', 'Images / s')
        axes.set_title(title, loc='left', color=INK, fontsize=9 if small else 12)
        axes.grid(True, color=FAINT)
        axes.set_axisbelow(True)
        axes.spines[['top', 'right']].set_visible(False)
        axes.spines[['left', 'bottom']].set_color(MUTED)
        axes.tick_params(colors=MUTED, labelcolor=INK, labelsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if small:
            axes.set_xlabel('epoch', color=INK, fontsize=9)
            axes.yaxis.set_major_locator(MaxNLocator(2))
            axes.set_ylim(0, axes.dataLim.ymax * 1.2 if axes.lines else 1)
        elif axes.lines:
            axes.legend(frameon=False, fontsize=9, labelcolor=INK)
        if title == 'Accuracy':
            axes.yaxis.set_major_formatter(PercentFormatter(1))
            axes.set_ylim(top=min(axes.get_ylim()[1], 1.02))
        if not axes.lines:
            axes.set_yticks([])


def draw_sheet(pictures, path, columns=4, headline=None):
    """Draw photos, each with its most probable classes and bars for their probabilities.

    `pictures`: 1 to 48 (MOST_CELLS; of more the caller takes a slice) tuples (picture, title, top):
    a path or a uint8 [H, W, 3] BGR array; text, whose lines stand below the photo; a list of
    (class name, probability), the largest first. What is too long for its place is shortened.
    """
    if not 0 < len(pictures) <= MOST_CELLS:
        raise ValueError(f'{len(pictures)} pictures; a sheet holds 1 to {MOST_CELLS}')
    columns = min(columns, len(pictures))
    width, photo_height, line, bar, gap = 2.4, 1.8, 0.19, 0.21, 0.2  # inches
    text_lines = max(title.count('\n') + 1 for _, title, _ in pictures)
    bars = max(len(top) for _, _, top in pictures)
    height = photo_height + text_lines * line + bars * bar + 0.08
    top_edge = 0.5 if headline else gap
    sheet_width = gap + columns * (width + gap)
    sheet_height = top_edge + -(-len(pictures) // columns) * (height + gap)
    axes = canvas.axes_in_inches(
        canvas.new_figure(sheet_width, sheet_height, dpi=120 if columns > 2 else 200)
    )
    if headline:
        add_text(axes, gap, 0.27, headline, 12, sheet_width - 2 * gap)

    for i, (picture, title, top) in enumerate(pictures):
        x = gap + i % columns * (width + gap)
        y = top_edge + i // columns * (height + gap)
        _photo(axes, x, y, width, photo_height, picture)
        y += photo_height + 0.06
        for n, words in enumerate(title.split('\n')):
            style = {'weight': 'bold', 'color': INK} if n == 0 else {'color': MUTED}
            add_text(axes, x, y + (n + 0.5) * line, words, 8.5, width, **style)
        y += text_lines * line + 0.02
        for n, (name, probability) in enumerate(top):
            _bar(axes, x, y + n * bar, width, bar - 0.03, name, probability, first=n == 0)
    canvas.save_figure(axes.figure, path)


def _photo(axes, x, y, width, height, picture):
    """Fit a photo, whole, into a grey box of `width` x `height` inches whose corner is x, y."""
    canvas.add_rectangle(axes, x, y, width, height, FAINT)
    if not isinstance(picture, np.ndarray):
        from reader import load_picture

        picture = load_picture(picture)
    rows, cols = picture.shape[:2]
    dots = axes.figure.dpi
    scale = min(width * dots / cols, height * dots / rows)
    size = max(1, round(cols * scale)), max(1, round(rows * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    picture = cv2.resize(picture, size, interpolation=how)[..., ::-1]
    left, top = x + (width - size[0] / dots) / 2, y + (height - size[1] / dots) / 2
    place = (left, left + size[0] / dots, top + size[1] / dots, top)
    axes.imshow(picture, extent=place, aspect='auto', zorder=2)


def _bar(axes, x, y, width, height, name, probability, first):
    probability = float(np.clip(np.nan_to_num(probability), 0, 1))
    canvas.add_rectangle(axes, x, y, width, height, BAR_TRACK)
    canvas.add_rectangle(axes, x, y, width * probability, height, BAR_FIRST if first else BAR_OTHER)
    middle = y + height / 2
    add_text(axes, x + 0.06, middle, name, 8, width - 0.65)
    add_text(axes, x + width - 0.05, middle, f'{probability:.1%}', 8, ha='right')


def draw_mistakes(paths, labels, predicted, probabilities, class_names, path, most=24):
    """Draw the wrong pictures of which the network was surest, at most `most` (up to 48).

    `paths[i]` is a picture's file, `labels[i]` its class, `predicted[i]` the most probable class
    and `probabilities[i]` its probability. Returns False, and writes nothing, if none is wrong.
    """
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    wrong = np.flatnonzero(labels != predicted)
    if not len(wrong):
        return False
    surest = wrong[np.argsort(-np.asarray(probabilities)[wrong], kind='stable')][:most]
    cells = []
    for i in surest:
        taken = shorten_to_columns(class_names[predicted[i]], 22)
        taken = f'taken for {taken} ({probabilities[i]:.0%})'
        title = f'is {class_names[labels[i]]}\n{taken}\n{Path(paths[i]).name}'
        cells.append((paths[i], title, []))
    count = f'{len(wrong)} of {len(labels)} pictures wrong'
    shown = f'; the {len(cells)} surest' if len(cells) < len(wrong) else ''
    draw_sheet(cells, path, headline=count + shown)
    return True


def confusion_matrix(labels, predicted, class_num):
    """int64 [class_num, class_num]: how many pictures of class `row` were taken for `column`."""
    labels, predicted = np.asarray(labels, np.int64), np.asarray(predicted, np.int64)
    for classes in (labels, predicted):
        if classes.size and not 0 <= classes.min() <= classes.max() < class_num:
            raise ValueError(f'classes {classes.min()} to {classes.max()}, of {class_num}')
    pairs = np.bincount(labels * class_num + predicted, minlength=class_num**2)
    return pairs.reshape(class_num, class_num)


def per_class(labels, predicted, class_names):
    """A dict a class with the keys CLASS_COLUMNS.

    recall: share of the class's pictures that were recognised; precision: share of the pictures
    taken for the class that are of it; f1: their harmonic mean; None where there is nothing to
    divide by. most_confused_with: the other class for which most of its pictures, `count`, were
    taken ('' if none was).
    """
    matrix = confusion_matrix(labels, predicted, len(class_names))
    right, pictures, taken = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    rows = []
    for c, name in enumerate(class_names):
        other = int(wrong[c].argmax())
        count = int(wrong[c, other])
        numbers = (
            int(pictures[c]),
            _ratio(right[c], pictures[c]),
            _ratio(right[c], taken[c]),
            _ratio(2 * right[c], pictures[c] + taken[c]),
        )
        row = (c, name, *numbers, class_names[other] if count else '', count)
        rows.append(dict(zip(CLASS_COLUMNS, row)))
    return rows


def _ratio(part, whole):
    return float(part / whole) if whole else None


def write_per_class(rows, path):
    """Write the rows of `per_class` as csv; None becomes empty."""
    _write_csv(rows, CLASS_COLUMNS, path)


def format_per_class(rows, most=20):
    """The classes with pictures as lines for a terminal; the worst, of more than `most`."""
    note, rows = '', [row for row in rows if row['pictures']]
    if len(rows) > most:
        note = f'\n(the {most} classes with the lowest recall, of {len(rows)})'
        rows = sorted(rows, key=lambda row: row['recall'])[:most]
    lines = [('class', 'pictures', 'recall', 'precision', 'f1', 'most often taken for')]
    for row in rows:
        other = (
            f'{shorten_to_columns(row["most_confused_with"], 28)} ({row["count"]})'
            if row['count']
            else ''
        )
        shares = (_percent(row[key]) for key in ('recall', 'precision', 'f1'))
        lines.append((shorten_to_columns(row['name'], 28), str(row['pictures']), *shares, other))
    width = max(columns_of(line[0]) for line in lines)
    return '\n'.join(_table_line(line, width) for line in lines) + note


def _table_line(line, width):
    name, *numbers, other = line
    numbers = ''.join(f'{number:>11}' for number in numbers)
    return f'{name}{" " * (width - columns_of(name))}{numbers}   {other}'.rstrip()


def _percent(share):
    return '-' if share is None else f'{share:.1%}'


def draw_confusion(matrix, class_names, path):
    """Draw int64 [C, C], rows true and columns predicted classes, C up to about 1000.

    Colour is the share of the row. Up to 30 classes get names and numbers; more get a list of the
    pairs that were confused most often instead.
    """
    matrix = np.asarray(matrix)
    classes = len(matrix)
    numbered = classes <= MOST_NUMBERED_CLASSES
    dpi = 130
    cell = min(1.0, max(0.38, 4 / classes)) if numbered else max(1, 900 // classes) / dpi  # inches
    figure = canvas.new_figure(classes * cell, classes * cell, dpi=dpi)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(_confusion_colours(matrix), interpolation='nearest')
    axes.spines[:].set_color(MUTED)
    if numbered:
        _label_confusion(axes, matrix, class_names, cell)
    else:
        _list_confusions(axes, matrix, class_names, cell)
    right, total = int(matrix.trace()), int(matrix.sum())
    title = f'{right} of {total} pictures right' + (f' ({right / total:.1%})' if total else '')
    axes.set_title(title, loc='left', fontsize=11, color=INK, pad=10)
    axes.set_ylabel('true class', fontsize=10, color=MUTED)
    axes.set_xlabel('predicted class', fontsize=10, color=MUTED)
    axes.tick_params(colors=MUTED, labelcolor=INK, labelsize=9)
    canvas.save_figure(figure, path, bbox_inches='tight', pad_inches=0.15)


def _confusion_colours(matrix):
    """float [C, C, 3]: white to blue on the diagonal, white to red beside it.

    On the diagonal the share gives the depth, beside it its root: single mistakes shall be seen.
    """
    shares = _row_shares(matrix)[..., None]
    diagonal = np.eye(len(matrix), dtype=bool)[..., None]
    depth = np.where(diagonal, shares, np.sqrt(shares))
    return 1 + depth * (np.where(diagonal, RIGHT, WRONG) - 1)


def _row_shares(matrix):
    return matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)


def _label_confusion(axes, matrix, class_names, cell):
    """Class names at the rows and columns, and the count in each cell that is not empty."""
    digits = max(2, len(str(matrix.max())))
    points = min(12, cell * 72 / (0.75 * digits))
    shares = _row_shares(matrix)
    for row, column in np.argwhere((matrix > 0) | np.eye(len(matrix), dtype=bool)):
        color = 'white' if shares[row, column] > 0.5 else INK
        add_text(axes, column, row, str(matrix[row, column]), points, ha='center', color=color)
    names = [shorten_to_columns(canvas.drawable(name), 26) for name in class_names]
    plain = {'family': canvas.font_families(), 'parse_math': False}
    slanted = {'rotation': 45, 'rotation_mode': 'anchor', 'ha': 'right'}
    axes.set_yticks(range(len(matrix)), names, **plain)
    axes.set_xticks(range(len(matrix)), names, **plain, **slanted)
    axes.tick_params(length=0)


def _list_confusions(axes, matrix, class_names, cell):
    """Beside the matrix, the pairs of classes that were confused most often."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind='stable')[:MOST_PAIRS]
    left, line = len(matrix) - 0.5 + 0.3 / cell, 0.25 / cell
    add_text(axes, left, 0, 'Most often confused', 11)
    for n, (true, taken) in enumerate(zip(*np.unravel_index(order, matrix.shape))):
        if wrong[true, taken]:
            y = (n + 1.3) * line
            count = f'{wrong[true, taken]} of {matrix[true].sum()}'
            add_text(axes, left + 0.75 / cell, y, count, 9, ha='right', color=MUTED)
            add_text(axes, left + 0.9 / cell, y, class_names[true], 9, 2)
            add_text(axes, left + 3.0 / cell, y, '→', 9, color=MUTED)
            add_text(axes, left + 3.25 / cell, y, class_names[taken], 9, 2)
