"""What the C file keeps in memory, and how often it multiplies.

Rows go through the whole network as soon as they can be computed, so that a blob is never held
whole: a 3x3 convolution keeps three rows of its inputs, a pool one row of its outputs, a bypass
the two rows of its input that its module still waits for; all other rows share one buffer.
"""

from typing import NamedTuple, Optional, Union

from network import architecture
from network.preprocessing import preprocessing_of

LINE, BESIDE, PIXELS = 'line', 'bypass_line', 'pixels'
Row = Union[architecture.Conv, architecture.MaxPool, architecture.Fire]  # of the network's table


class Buffer(NamedTuple):
    """`slots` rows of `row` bytes; row y lies in slot y % slots."""

    name: str
    slots: int
    row: int


class Step(NamedTuple):
    """A row of the table with its sizes: `width` of its input, and of its output after a pool."""

    row: Row
    width: int
    channels: int
    source: Buffer
    target: Buffer
    squeezed: Optional[Buffer]


def steps(config: dict) -> list[Step]:
    """A Step of each row of the network's table. conv1's source are the pixels."""
    size = preprocessing_of(config).crop
    rows = architecture.stages(config['version'], config['bypass'], config['class_num'])
    shapes = architecture.output_shapes(config['version'], size)
    sizes = [size, *(shapes[row.name][1] for row in rows)]
    channels = [3, *(shapes[row.name][0] for row in rows)]
    source = Buffer(PIXELS, rows[0].kernel, 3 * size)
    found = []
    for k, row in enumerate(rows):
        following = rows[k + 1] if k + 1 < len(rows) else None
        target = _target(row, following, sizes[k + 1] * channels[k + 1])
        squeezed = None
        if isinstance(row, architecture.Fire):
            squeezed = Buffer(
                f'{row.name}_squeezed', 3, (sizes[k] + 2) * row.s1x1
            )  # a zero at either end
        found.append(Step(row, sizes[k], channels[k + 1], source, target, squeezed))
        source = target
    return found


def _target(row: Row, following: Optional[Row], size: int) -> Buffer:
    """Where a row's outputs go, each `size` bytes: a pool's into a buffer of their own, which is
    begun again while the module after it, with a bypass, still needs two; others into LINE, unless
    they are needed later."""
    bypassed = isinstance(following, architecture.Fire) and following.bypass
    if isinstance(row, architecture.MaxPool):
        return Buffer(f'{row.name}_rows', 3 if bypassed else 1, size)
    return Buffer(f'{row.name}_kept', 2, size) if bypassed else Buffer(LINE, 1, size)


def buffers(config: dict) -> dict[str, int]:
    """{name: bytes} of the uint8 buffers."""
    found = {}
    for step in steps(config):
        if getattr(step.row, 'name', '') != 'conv10':
            for buffer in (step.source, step.squeezed, step.target):
                if buffer:
                    found[buffer.name] = max(found.get(buffer.name, 0), buffer.slots * buffer.row)
        if getattr(step.row, 'bypass', None) == 'complex':
            found[BESIDE] = max(found.get(BESIDE, 0), step.target.row)
    return found


def multiplications(config: dict) -> int:
    """Of activations with weights, as the C file does them: of kernel rows inside the picture,
    zeros at a row's ends included; conv10 without a ReLU only once, on the mean."""
    total = 0
    for step in steps(config):
        row, width = step.row, step.width
        if isinstance(row, architecture.Fire):
            side = row.e1x1 + row.e3x3
            total += width * width * (row.in_channels + row.e1x1) * row.s1x1
            total += (3 * width - 2) * width * 3 * row.s1x1 * row.e3x3
            total += width * width * row.in_channels * side * (row.bypass == 'complex')
        elif isinstance(row, architecture.Conv):
            out = 1 if row.name == 'conv10' else (width - row.kernel) // row.stride + 1
            if row.name == 'conv10' and config['conv10_relu']:
                out = width
            total += out * out * row.kernel**2 * row.in_channels * row.out_channels
    return total
