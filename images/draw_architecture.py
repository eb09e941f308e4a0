"""Draw images/fire_module.png and images/architecture_v1.1.png (or v1.0) from the model's table.

    python images/draw_architecture.py [--version 1.0]

Every number in the drawings is read from architecture.py.
"""

import argparse
import math
import sys
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.patches import Circle, FancyBboxPatch, Rectangle
from PIL import Image

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))

from common.files import atomic_write  # noqa: E402
from figures.plotting import add_rectangle, axes_in_inches, new_figure  # noqa: E402
from network import architecture  # noqa: E402

INPUT = 227  # pixels
DPI = 180  # twice what a README shows, for screens with small pixels

INK, MUTED, LINE = '#222222', '#6f7780', '#5b636b'
# fill and edge of the boxes
SQUEEZE = '#fbe0c3', '#d98c34'
EXPAND1 = '#d3e5f5', '#4a86bd'
EXPAND3 = '#b3d2ec', '#2f6ea8'
FIRE = '#e4eef7', '#4a86bd'
CONV = '#e9e3f3', '#8069b3'
POOL = '#eef0f1', '#9aa3ab'
ADAPT = '#fbe4df', '#c7513d'
BYPASS = '#c7513d'
BAND = '#f6f7f8'


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--version', choices=architecture.VERSIONS, default='1.1')
    version = parser.parse_args().version
    matplotlib.rcdefaults()  # the drawing shall not depend on a user's settings
    draw_fire_module(FOLDER / 'fire_module.png')
    draw_architectures(version, FOLDER / f'architecture_v{version}.png')


class Drawing:
    """A few shapes in inches, x to the right and y downwards."""

    def __init__(self, width, height):
        self.figure = new_figure(width, height, dpi=DPI)
        self.axes = axes_in_inches(self.figure)

    def text(self, x, y, words, size=9, color=INK, ha='center', **style):
        self.axes.text(x, y, words, fontsize=size, color=color, ha=ha, va='center', **style)

    def box(self, x, y, width, height, colors, radius=0.06):
        """A rounded box around the centre x, y."""
        corner = x - width / 2, y - height / 2
        shape = f'round,pad=0,rounding_size={radius}'
        face, edge = colors
        style = {'facecolor': face, 'edgecolor': edge, 'linewidth': 1.1, 'zorder': 3}
        self.axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=shape, **style))

    def line(self, *points, color=LINE, arrow=True, width=1.2):
        """A line through the points; with an arrow head at the last."""
        xs, ys = zip(*points)
        self.axes.plot(xs, ys, color=color, linewidth=width, zorder=2, solid_joinstyle='round')
        if arrow:
            head = {'arrowstyle': '-|>', 'color': color, 'linewidth': width, 'mutation_scale': 9}
            head |= {'shrinkA': 0, 'shrinkB': 0}
            self.axes.annotate('', points[-1], points[-2], arrowprops=head, zorder=2)

    def stripe(self, y, height, color):
        """Over the whole width, behind everything."""
        add_rectangle(self.axes, 0, y, self.figure.get_figwidth(), height, color)

    def plus(self, x, y, color):
        radius, arm = 0.085, 0.05
        circle = Circle((x, y), radius, facecolor='white', edgecolor=color, linewidth=1.2, zorder=4)
        self.axes.add_patch(circle)
        for dx, dy in ((arm, 0), (0, arm)):
            ends = (x - dx, x + dx), (y - dy, y + dy)
            self.axes.plot(*ends, color=color, linewidth=1.2, zorder=5)

    def filter(self, x, y, kernel, colors, size=0.13):
        """One filter seen from the front, `kernel` x `kernel` squares around the centre x, y."""
        face, edge = colors
        style = {'facecolor': face, 'edgecolor': edge, 'linewidth': 0.9, 'zorder': 4}
        for n in range(kernel * kernel):
            left = x + (n % kernel - kernel / 2) * size
            top = y + (n // kernel - kernel / 2) * size
            self.axes.add_patch(Rectangle((left, top), size, size, **style))

    def save(self, path):
        """As PNG of 64 colours, a third of the bytes of all colours."""
        self.figure.canvas.draw()
        picture = Image.fromarray(np.asarray(self.figure.canvas.buffer_rgba())).convert('RGB')
        picture = picture.quantize(64, dither=Image.Dither.NONE)
        with atomic_write(path) as file:
            picture.save(file, 'PNG', optimize=True)


def draw_fire_module(path):
    fire = next(row for row in architecture.stages('1.1') if isinstance(row, architecture.Fire))
    drawing = Drawing(9.4, 3.9)
    drawing.text(0.3, 0.36, 'Fire module', 14, ha='left', weight='bold')
    example = f'the numbers are those of {fire.name}; H and W are the height and width of the maps'
    drawing.text(1.8, 0.38, example, 9, MUTED, ha='left')

    y, upper, lower = 1.85, 1.17, 2.53
    split, join = 4.32, 7.5
    drawing.line((1.32, y), (1.85, y))
    drawing.line((3.85, y), (split, y), arrow=False)
    for branch, towards in ((upper, y - 0.19), (lower, y + 0.19)):
        drawing.line((split, y), (split, branch), (4.75, branch))
        drawing.line((6.95, branch), (join, branch), (join, towards))
    drawing.line((join + 0.4, y), (8.19, y))

    _maps(drawing, 0.75, y, fire.in_channels, 'input')
    _layer(drawing, 2.85, y, 2.0, 'squeeze', 1, 's1x1', fire.s1x1, SQUEEZE)
    _layer(drawing, 5.85, upper, 2.2, 'expand', 1, 'e1x1', fire.e1x1, EXPAND1)
    _layer(drawing, 5.85, lower, 2.2, 'expand', 3, 'e3x3', fire.e3x3, EXPAND3)
    drawing.box(join, y, 0.8, 0.38, ('white', LINE))
    drawing.text(join, y, 'concat', 9.5, zorder=5)
    _maps(drawing, 8.72, y, fire.e1x1 + fire.e3x3, 'output')

    drawing.text(0.3, 3.42, 's1x1 < e1x1 + e3x3', 11, ha='left', weight='bold')
    why = f'({fire.s1x1} < {fire.e1x1} + {fire.e3x3}): it squeezes, so that the costly 3×3 filters '
    drawing.text(2.42, 3.42, f'{why}see few channels', 9.5, ha='left')
    drawing.save(path)


def _layer(drawing, x, y, width, name, kernel, symbol, filters, colors):
    """A convolution: its name, a picture of one filter, and how many filters there are."""
    drawing.box(x, y, width, 0.98, colors)
    drawing.filter(x - width / 2 + 0.38, y, kernel, ('white', colors[1]))
    left = x - width / 2 + 0.76
    drawing.text(
        left, y - 0.26, f'{name} {kernel}×{kernel}', 11, ha='left', weight='bold', zorder=5
    )
    drawing.text(left, y + 0.02, f'{symbol} = {filters} filters', 9.5, ha='left', zorder=5)
    drawing.text(left, y + 0.28, 'then ReLU', 8.5, MUTED, ha='left', zorder=5)


def _maps(drawing, x, y, channels, caption):
    """A stack of feature maps with its size below."""
    for n in range(4):
        drawing.box(x + 0.18 - n * 0.12, y - 0.12 + n * 0.08, 0.6, 0.6, POOL, radius=0.02)
    drawing.text(x, y - 0.62, caption, 9.5, weight='bold')
    drawing.text(x, y + 0.66, f'{channels} × H × W', 9)


class Step(NamedTuple):
    """A row of the drawing: a box of the trunk, the same in all three architectures."""

    name: str
    detail: str
    output: str
    size: int
    colors: tuple
    gap: float


BOX_WIDTH, BOX_HEIGHT = 1.75, 0.32
GAP, FIRE_GAP = 0.17, 0.36  # inches below a box; the bypass of a fire module ends there
CENTRES, LANE = (2.55, 4.9, 7.35), 1.33  # of the trunks; of the bypass, to the right of them


def draw_architectures(version, path):
    steps = list(_steps(version))
    height = 1.3 + sum(BOX_HEIGHT + step.gap for step in steps) + 0.45
    drawing = Drawing(9.4, height)
    drawing.text(0.3, 0.36, f'SqueezeNet v{version}', 14, ha='left', weight='bold')
    drawing.text(2.42, 0.38, 'and its two bypass variants', 9.5, MUTED, ha='left')
    drawing.text(0.3, 0.98, 'output', 9, MUTED, ha='left')
    tops = _place(steps, top=1.3)
    _draw_bands(drawing, steps, tops)
    for centre, bypass in zip(CENTRES, architecture.BYPASSES):
        _draw_column(drawing, centre, version, bypass, steps, tops)
    key = (
        'fire: squeeze 1×1 → expand 1×1 + expand 3×3 filters;  /2: stride 2;  ⊕: sum;  '
        'a ReLU follows every convolution but the red ones'
    )
    drawing.text(0.3, height - 0.22, key, 8.5, MUTED, ha='left')
    drawing.save(path)


def _steps(version):
    shapes = architecture.output_shapes(version, INPUT)
    sizes = {name: shape[1] for name, shape in shapes.items()}
    yield Step('input', 'BGR', f'{INPUT} × {INPUT} × 3', INPUT, ('white', LINE), GAP)
    channels = 3
    for row in architecture.stages(version):
        size, gap = sizes[row.name], GAP
        if isinstance(row, architecture.Fire):
            channels, colors, gap = row.e1x1 + row.e3x3, FIRE, FIRE_GAP
            name, detail = row.name, f'{row.s1x1} → {row.e1x1} + {row.e3x3}'
        elif isinstance(row, architecture.MaxPool):
            name, detail, colors = 'max-pool', '3×3 /2', POOL
        else:
            channels, colors = row.out_channels, CONV
            stride = f' /{row.stride}' if row.stride > 1 else ''
            name, detail = row.name, f'{row.kernel}×{row.kernel}{stride}'
        output = f'{size} × {size} × {channels}'
        if row.name == 'conv10':
            yield Step('dropout', '50%', '', size, POOL, GAP)
        yield Step(name, detail, output, size, colors, gap)
    yield Step('average', 'global', f'{channels}', 1, POOL, GAP)
    yield Step('softmax', '', f'{channels} classes', 1, ('white', LINE), GAP)


def _place(steps, top):
    """The upper edges of the boxes."""
    tops = []
    for step in steps:
        tops.append(top)
        top += BOX_HEIGHT + step.gap
    return tops


def _draw_bands(drawing, steps, tops):
    """What the boxes put out, on stripes of equal height and width of the maps."""
    sizes = list(dict.fromkeys(step.size for step in steps))
    for step, top in zip(steps, tops):
        if sizes.index(step.size) % 2:
            drawing.stripe(top - GAP / 2, BOX_HEIGHT + step.gap, BAND)
        drawing.text(0.3, top + BOX_HEIGHT / 2, step.output, 9, ha='left')


def _draw_column(drawing, x, version, bypass, steps, tops):
    title = f'{bypass} bypass' if bypass else 'without bypass'
    drawing.text(x, 0.86, title, 11, weight='bold')
    shapes = architecture.parameter_shapes(version, bypass).values()
    drawing.text(x, 1.07, f'{sum(map(math.prod, shapes)):,} parameters', 8.5, MUTED)
    rows = {row.name: row for row in architecture.stages(version, bypass)}
    for n, (step, top) in enumerate(zip(steps, tops)):
        drawing.box(x, top + BOX_HEIGHT / 2, BOX_WIDTH, BOX_HEIGHT, step.colors)
        edge = BOX_WIDTH / 2 - 0.1
        drawing.text(
            x - edge, top + BOX_HEIGHT / 2, step.name, 9, ha='left', weight='bold', zorder=5
        )
        drawing.text(x + edge, top + BOX_HEIGHT / 2, step.detail, 8.5, ha='right', zorder=5)
        if n + 1 < len(steps):
            drawing.line((x, top + BOX_HEIGHT), (x, tops[n + 1]))
        row = rows.get(step.name)
        if getattr(row, 'bypass', None):
            _draw_bypass(drawing, x, top, row)


def _draw_bypass(drawing, x, top, fire):
    """Around the fire module whose box begins at `top`: its input, or a 1x1 convolution of it."""
    start, end, lane = top - 0.1, top + BOX_HEIGHT + 0.12, x + LANE
    drawing.line((x, start), (lane, start), (lane, end), (x + 0.085, end), color=BYPASS)
    drawing.plus(x, end, BYPASS)
    if fire.bypass == 'complex':
        drawing.box(lane, top + BOX_HEIGHT / 2, 0.68, 0.24, ADAPT)
        words = f'1×1, {fire.e1x1 + fire.e3x3}'
        drawing.text(lane, top + BOX_HEIGHT / 2, words, 8, zorder=5)


if __name__ == '__main__':
    main()
