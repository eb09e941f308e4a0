"""What all the pictures of results share: figures without pyplot, text that fits, whole files.

Matplotlib is used through its objects alone, without pyplot and its global state, so that this
works without a display and in threads; it is imported where needed, as it takes half a second.
"""

import functools
import logging
from pathlib import Path

from common.console import UserError
from common.files import atomic_write

FORMATS = 'png', 'jpg', 'jpeg', 'pdf', 'svg'
INK, MUTED, FAINT = '#222222', '#777777', '#e8e8e8'

# Families with Chinese, Japanese or Korean signs, in the order of preference
CJK_FONTS = (
    *('Noto Sans CJK SC', 'Noto Sans SC', 'Source Han Sans SC', 'Source Han Sans CN'),
    *('WenQuanYi Micro Hei', 'WenQuanYi Zen Hei', 'PingFang SC', 'Hiragino Sans GB', 'Heiti SC'),
    *('Microsoft YaHei', 'SimHei', 'SimSun', 'Arial Unicode MS', 'Droid Sans Fallback'),
    *('Noto Sans CJK JP', 'Noto Sans CJK TC', 'Noto Sans CJK KR', 'Noto Sans TC', 'Noto Sans JP'),
    *('Noto Sans KR', 'Malgun Gothic', 'Apple SD Gothic Neo'),
)


def new_figure(width, height, dpi=120, **options):
    """A white matplotlib Figure of `width` x `height` inches that can measure its text."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width, height), dpi=dpi, facecolor='white', **options)
    FigureCanvasAgg(figure)
    return figure


def axes_in_inches(figure):
    """Invisible axes over the whole figure: x to the right and y downwards, both in inches."""
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis('off')
    axes.autoscale(False)
    axes.set_xlim(0, figure.get_figwidth())
    axes.set_ylim(figure.get_figheight(), 0)
    return axes


def add_rectangle(axes, x, y, width, height, color):
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x, y), width, height, facecolor=color, linewidth=0))


def add_text(axes, x, y, words, size, width=None, **style):
    """Put one line of any text at x, y (axes' units), shortened to `width` inches if given."""
    words = drawable(words)
    style = {'color': INK, 'va': 'center', 'family': 'DejaVu Sans', **style}
    if not words.isascii():  # not bold, which the other fonts may lack and matplotlib complain of
        style |= {'family': font_families(), 'weight': 'normal'}
    text = axes.text(x, y, '', fontsize=size, parse_math=False, **style)
    if width is not None:
        renderer, font = axes.figure.canvas.get_renderer(), text.get_fontproperties()

        def fits(words):
            dots, _, _ = renderer.get_text_width_height_descent(words, font, ismath=False)
            return dots <= width * axes.figure.dpi

        words = shorten(words, fits)
    text.set_text(words)
    return text


def shorten(words, fits):
    """`words`, or as much of their beginning, with an ellipsis, as `fits` says True to."""
    if fits(words):
        return words
    return next(
        (w for n in range(len(words), 0, -1) if fits(w := words[:n].rstrip(' ,') + '…')), '…'
    )


def shorten_to_columns(words, columns):
    return shorten(words, lambda words: columns_of(words) <= columns)


def columns_of(words):
    """Columns of a terminal that the words take: Chinese signs, for example, take two."""
    from wcwidth import wcwidth

    return sum(max(0, wcwidth(sign)) for sign in words)


def drawable(words):
    """One line of text in which signs that no font at hand has are replaced by a box.

    Matplotlib would draw a box too, but warn of each.
    """
    line = ' '.join(words.split())
    return ''.join(c if c.isprintable() and _has_glyph(c) else '□' for c in line)


@functools.cache
def _other_weight(record: logging.LogRecord) -> bool:
    """False where Matplotlib complains that an installed font has another weight than normal."""
    return 'Failed to find font weight' not in record.getMessage()


def font_families():
    """Matplotlib's own font, then the installed ones that have what it has not."""
    logging.getLogger('matplotlib.font_manager').addFilter(
        _other_weight
    )  # the same once more: none
    from matplotlib.font_manager import findSystemFonts, fontManager

    listed = {font.fname for font in fontManager.ttflist}
    for file in findSystemFonts():
        if file not in listed:  # installed since matplotlib wrote its list of fonts
            try:
                fontManager.addfont(file)
            except (OSError, RuntimeError, ValueError):
                continue  # not a font that matplotlib can use
    installed = {font.name for font in fontManager.ttflist}
    return ['DejaVu Sans', *(family for family in CJK_FONTS if family in installed)]


@functools.cache
def _has_glyph(sign):
    if sign.isascii():
        return True
    from matplotlib.font_manager import FontProperties, findfont, get_font

    files = [findfont(FontProperties(family)) for family in font_families()]
    return any(get_font(file).get_char_index(ord(sign)) for file in files)


def format_of(path):
    """The format that a picture's suffix names. Raises UserError for one that is not written."""
    suffix = Path(path).suffix[1:].lower()
    if suffix not in FORMATS:
        raise UserError(
            f'{path}: the file name must end in .png, .jpg, .pdf or .svg, to say the format'
        )
    return suffix


def save_figure(figure, path, **options):
    """Write the figure, complete or not at all, in the format that the file's suffix names."""
    suffix = format_of(path)
    if suffix in ('jpg', 'jpeg'):
        options['pil_kwargs'] = {'quality': 90}
    with atomic_write(path, beside=True) as file:
        figure.savefig(file, format=suffix, **options)
