"""The confusion matrix as a picture."""

import numpy as np

from figures import plotting
from figures.plotting import INK, MUTED, add_text, shorten_to_columns

RIGHT, WRONG = (33 / 255, 102 / 255, 172 / 255), (200 / 255, 60 / 255, 40 / 255)
MOST_NUMBERED_CLASSES = 30  # more have no room for numbers
MOST_PAIRS = 25  # listed beside a larger confusion matrix


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
    figure = plotting.new_figure(classes * cell, classes * cell, dpi=dpi)
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
    plotting.save_figure(figure, path, bbox_inches='tight', pad_inches=0.15)


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
    names = [shorten_to_columns(plotting.drawable(name), 26) for name in class_names]
    plain = {'family': plotting.font_families(), 'parse_math': False}
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
