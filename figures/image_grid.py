"""A sheet of photos, each with its likeliest classes; the worst mistakes."""

from pathlib import Path

import numpy as np

from figures import plotting
from figures.plotting import FAINT, INK, MUTED, add_text, shorten_to_columns
from pictures.decoding import cv2, load_picture

BAR_FIRST, BAR_OTHER, BAR_TRACK = '#9cc3e6', '#d7e6f4', '#f5f5f5'
MOST_CELLS = 48  # of a sheet: more would be neither legible nor small


def draw_image_grid(pictures, path, columns=4, headline=None):
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
    axes = plotting.axes_in_inches(
        plotting.new_figure(sheet_width, sheet_height, dpi=120 if columns > 2 else 200)
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
    plotting.save_figure(axes.figure, path)


def _photo(axes, x, y, width, height, picture):
    """Fit a photo, whole, into a grey box of `width` x `height` inches whose corner is x, y."""
    plotting.add_rectangle(axes, x, y, width, height, FAINT)
    if not isinstance(picture, np.ndarray):
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
    plotting.add_rectangle(axes, x, y, width, height, BAR_TRACK)
    plotting.add_rectangle(
        axes, x, y, width * probability, height, BAR_FIRST if first else BAR_OTHER
    )
    middle = y + height / 2
    add_text(axes, x + 0.06, middle, name, 8, width - 0.65)
    add_text(axes, x + width - 0.05, middle, f'{probability:.1%}', 8, ha='right')


def draw_mistakes(paths, labels, predicted, probabilities, class_names, path, most=24):
    """Draw the wrong pictures of which the network was surest, at most `most` (up to 48).

    `paths[i]` is a picture's file, `labels[i]` its class, `predicted[i]` the most probable class
    and `probabilities[i]` its probability. Returns False, and writes nothing, if none is wrong.
    """
    surest = surest_mistakes(labels, predicted, probabilities)
    if not len(surest):
        return False
    cells = []
    for i in surest[:most]:
        taken = shorten_to_columns(class_names[predicted[i]], 22)
        taken = f'taken for {taken} ({probabilities[i]:.0%})'
        title = f'is {class_names[labels[i]]}\n{taken}\n{Path(paths[i]).name}'
        cells.append((paths[i], title, []))
    count = f'{len(surest)} of {len(labels)} pictures wrong'
    shown = f'; the {len(cells)} surest' if len(cells) < len(surest) else ''
    draw_image_grid(cells, path, headline=count + shown)
    return True


def surest_mistakes(labels, predicted, probabilities):
    """Places of the pictures that were taken for another class, the surest first: int64 [n]."""
    wrong = np.flatnonzero(np.asarray(labels) != np.asarray(predicted))
    return wrong[np.argsort(-np.asarray(probabilities)[wrong], kind='stable')]
