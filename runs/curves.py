"""How a training run went: log.csv, and the learning curves.

Pictures get the format that the file's suffix names (png, jpg, pdf, svg).
"""

import numpy as np

from evaluation.metrics import write_csv
from figures import plotting
from figures.plotting import FAINT, INK, MUTED

TRAIN, VAL, VAL_TOP5 = '#2166ac', '#d6604d', '#f4a582'

LOG_COLUMNS = (
    *('epoch', 'iteration', 'lr', 'train_loss', 'train_top1'),
    *('val_loss', 'val_top1', 'val_top5', 'images_per_second'),
)


def write_log(rows, path):
    """Write log.csv: a header and a row an epoch, empty where there is no value.

    `rows`: dicts with the keys LOG_COLUMNS (others are appended as further columns); numbers get 6
    significant digits, losses are means per picture, top-1 and top-5 shares of 1.
    """
    columns = dict.fromkeys((*LOG_COLUMNS, *(key for row in rows for key in row)))
    write_csv(rows, columns, path)


def draw_curves(rows, path):
    """Draw loss, accuracy, learning rate and speed over the epochs.

    `rows` as for `write_log`; None, NaN and absent values leave a gap.
    """
    epochs = _values(rows, 'epoch')
    few = len(rows) <= 30
    style = {'marker': 'o' if few else None, 'markersize': 4, 'linewidth': 1.8 if few else 1.2}
    figure = plotting.new_figure(10, 5, layout='constrained')
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
    plotting.save_figure(figure, path)


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
            highest = axes.dataLim.ymax if axes.lines else 0  # 0: the rate of a run without updates
            axes.set_ylim(0, highest * 1.2 or 1)
        elif axes.lines:
            axes.legend(frameon=False, fontsize=9, labelcolor=INK)
        if title == 'Accuracy':
            axes.yaxis.set_major_formatter(PercentFormatter(1))
            axes.set_ylim(top=min(axes.get_ylim()[1], 1.02))
        if not axes.lines:
            axes.set_yticks([])
