"""Steps, classes and levels of every convolution, so that the whole file has the size asked for.

A step of row i and column j is c / (sqrt(s_i) d_j): s_i is what the output feels of the row's
error, d_j^2 the variance of the column's input that the columns behind it in the visiting order
cannot make up for. With one c for the network all errors cost alike; c is what the size decides.
"""

from typing import NamedTuple

import numpy as np

from models.formats.packed import PackedLayer, step_values, visiting_order
from quantisation.rounding import inverse_factor, pivoted_order, round_weights

ROW_BITS, COLUMN_BITS = 2, 2
LAMBDA = 0.25  # squared steps that a bit is worth
RIDGE = 2e-2  # of the moments' mean diagonal
HIGHEST = 40  # level with a cost of its own
ROW_CLASSES, COLUMN_CLASSES = 7, 18  # half octaves of the expected level


class Plan(NamedTuple):
    """A convolution's steps for c = 1: float64 `rows` [O], `columns` [K]."""

    rows: np.ndarray
    columns: np.ndarray


def plan(inputs, rows):
    """The Plan from moments [K + 1, K + 1] of the float inputs and the rows' sensitivities [O]."""
    inputs = _ridged(inputs)
    order = np.append(pivoted_order(inputs[:-1, :-1]), len(inputs) - 1)
    columns = np.empty(len(order))
    columns[order] = inverse_factor(inputs[np.ix_(order, order)]).diagonal()
    return Plan(1 / np.sqrt(rows), columns[:-1])


def _ridged(inputs):
    """The moments with RIDGE of their mean added, but to the constant's."""
    ridge = np.full(len(inputs), RIDGE * inputs.diagonal()[:-1].mean() + 1e-30)
    ridge[-1] = 1e-9 * inputs[-1, -1] + 1e-30
    return inputs + np.diag(ridge)


def step_bytes(values, bits):
    """(step bytes uint8, exponent): positive `values` are about their step_values * 2^exponent."""
    octave = np.floor(np.log2(values))
    exponent = int(max(octave.min(), octave.max() - 255 // 2**bits + 1))
    mantissa = np.rint((values / 2.0**octave - 1) * 2**bits)
    steps = np.clip((octave - exponent) * 2**bits + mantissa, 0, 255)
    return steps.astype(np.uint8), exponent


class Frame(NamedTuple):
    """A convolution's PackedLayer but for its levels and biases, and float32 steps [O, K]."""

    row_steps: np.ndarray
    column_steps: np.ndarray
    exponent: int
    row_classes: np.ndarray
    column_classes: np.ndarray
    order: np.ndarray
    steps: np.ndarray


def frame(weight, the_plan, c):
    """The Frame of a weight [O, K]. What a class is: the absolute level's expected half octave."""
    middle = np.median(the_plan.rows)
    rows, row_exponent = step_bytes(the_plan.rows / middle, ROW_BITS)
    columns, exponent = step_bytes(the_plan.columns * (middle * c), COLUMN_BITS)
    exponent += row_exponent
    values = step_values(rows, ROW_BITS)[:, None] * np.ldexp(
        step_values(columns, COLUMN_BITS), exponent
    )
    order = visiting_order(columns)
    return Frame(rows, columns, exponent, *_classes(np.abs(weight) / values), order, values)


def _classes(sizes):
    whole = max(sizes.mean(), 1e-9)
    rows = 2 * np.log2(np.maximum(sizes.mean(axis=1) / whole, 1e-9))
    columns = 2 * np.log2(np.maximum(sizes.mean(axis=0), 1e-9))
    half = ROW_CLASSES // 2
    row_classes = np.clip(np.rint(rows), -half, half) + half
    column_classes = np.clip(np.rint(columns) + 10, 0, COLUMN_CLASSES - 1)
    return row_classes.astype(np.uint8), column_classes.astype(np.uint8)


def first_bits():
    """bits [G, HIGHEST + 1] of the levels of each class, before any is known: geometric ones."""
    number = np.arange(ROW_CLASSES + COLUMN_CLASSES - 1)
    mean = 2.0 ** ((number - 10 - ROW_CLASSES // 2) / 2) / 2  # of the absolute level
    ratio = mean / (1 + mean)
    sizes = np.arange(HIGHEST + 1)
    return (-np.log2(1 - ratio)[:, None] - sizes * np.log2(ratio)[:, None] + (sizes > 0)).astype(
        np.float32
    )


def counted_bits(layers, prior):
    """bits [G, HIGHEST + 1] by the levels of PackedLayers; `prior` stands where few are."""
    weights = 2.0 ** -np.minimum(prior - (np.arange(HIGHEST + 1) > 0), 60)
    counts = 20 * weights / weights.sum(axis=1, keepdims=True)
    for layer in layers:
        sizes = np.minimum(np.abs(layer.levels), HIGHEST)
        flat = (layer.row_classes[:, None] + layer.column_classes).astype(np.int64)
        flat = flat * (HIGHEST + 1) + sizes
        counts += np.bincount(flat.ravel(), minlength=counts.size).reshape(counts.shape)
    found = -np.log2(counts / counts.sum(axis=1, keepdims=True))
    return (found + (np.arange(HIGHEST + 1) > 0)).astype(np.float32)


def quantise(known, inputs, the_plan, c, bits):
    """The PackedLayer of `known` (weight [O, K], bias [O]); `inputs` are its inputs' moments."""
    weight, bias = known
    the_frame = frame(weight, the_plan, c)
    order = the_frame.order
    whole = np.append(order, len(order))
    factor = inverse_factor(_ridged(inputs)[np.ix_(whole, whole)]).astype(np.float32)
    classes = the_frame.row_classes[:, None] + the_frame.column_classes[order]
    importance = 1 / (the_plan.rows * c) ** 2
    levels, errors = round_weights(
        weight[:, order], factor[:-1, :-1], the_frame.steps[:, order], importance, classes, bits,
        LAMBDA,
    )  # fmt: skip
    found = np.empty_like(levels)
    found[:, order] = levels
    noise = np.sqrt((errors**2).sum(axis=1).mean())
    exponent, rounded = round_bias(bias - errors @ factor[:-1, -1], noise / 4)
    return PackedLayer(
        found,
        *the_frame[:2],
        *the_frame[3:5],
        rounded,
        the_frame.exponent,
        exponent,
        True,
    )


def round_bias(bias, step):
    """(exponent, int16 [O]) of float32 [O], in steps of about `step`."""
    least = np.log2(max(np.abs(bias).max(), 1e-30) / 32767)
    exponent = int(np.clip(np.ceil(max(least, np.log2(max(step, 1e-30)) - 0.5)), -64, 64))
    return exponent, np.rint(bias / 2.0**exponent).astype(np.int16)


def refit(known, moments):
    """(weight [O, K], bias [O]) that come nearest to the wanted outputs, drawn to `known`."""
    weight, bias = known
    ridged = _ridged(moments.inputs)
    ridge = ridged.diagonal() - moments.inputs.diagonal()
    right = moments.outputs + np.concatenate([weight, bias[:, None]], axis=1) * ridge
    found = np.linalg.solve(ridged, right.T).T.astype(np.float32)
    return found[:, :-1], found[:, -1]
