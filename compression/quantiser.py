"""Steps, classes and levels of every convolution, so that the whole file has the size asked for.

A step of row i and column j is c / (sqrt(s_i) d_j): s_i is what the output feels of the row's
error, d_j^2 the variance of the column's input that the columns behind it in the visiting order
cannot make up for. With one c for the network all errors cost alike; c is what the size decides.
"""

from typing import NamedTuple

import numpy as np

from compression.rounding import inverse_factor, pivoted_order, round_weights
from models.packed import PackedLayer, step_values, visiting_order

ROW_BITS, COLUMN_BITS = 2, 2
LAMBDA = 0.4  # squared steps that a bit is worth
RIDGE = 1e-2  # of the moments' mean diagonal
HIGHEST = 40  # level with a cost of its own
ROW_CLASSES, COLUMN_CLASSES = 7, 18  # half octaves of the expected level


class Plan(NamedTuple):
    """A convolution's steps for c = 1: rows float64 [O], columns float64 [K]; order int64 [K]."""

    rows: np.ndarray
    columns: np.ndarray
    moments: np.ndarray


def plan(moments, rows):
    """The Plan from moments [K + 1, K + 1] of the float inputs and the rows' sensitivities [O]."""
    inputs = regularised(moments)
    order = pivoted_order(inputs[:-1, :-1])
    factor = inverse_factor(inputs[np.ix_(order, order)])
    columns = np.empty(len(order))
    columns[order] = factor.diagonal()
    return Plan(1 / np.sqrt(rows), columns, moments)


def regularised(inputs):
    """The moments with RIDGE added, but to the constant."""
    found = inputs.copy()
    size = len(found) - 1
    found[np.arange(size), np.arange(size)] += RIDGE * found.diagonal()[:-1].mean() + 1e-12
    return found


def step_bytes(values, bits, least):
    """The nearest step bytes uint8 of positive `values` in units of 2^least."""
    octave = np.floor(np.log2(values))
    mantissa = np.rint((values / 2.0**octave - 1) * 2**bits)
    return np.clip((octave - least) * 2**bits + mantissa, 0, 255).astype(np.uint8)


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
    middle = np.sqrt(np.median(the_plan.rows) / np.median(the_plan.columns))
    rows = step_bytes(the_plan.rows / middle, ROW_BITS, least := _least(the_plan.rows / middle))
    columns = the_plan.columns * middle * c * 2.0**least
    exponent = _least(columns)
    columns = step_bytes(columns, COLUMN_BITS, exponent)
    values = step_values(rows, ROW_BITS)[:, None] * np.ldexp(
        step_values(columns, COLUMN_BITS), exponent
    )
    row_classes, column_classes = _classes(np.abs(weight) / values)
    order = visiting_order(columns)
    return Frame(rows, columns, exponent, row_classes, column_classes, order, values)


def _least(values):
    """The exponent that step bytes count from; 40 octaves lie between."""
    return int(np.floor(np.log2(values.max()))) - 40 if values.max() / values.min() > 2.0**40 else (
        int(np.floor(np.log2(values.min())))
    )


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


def quantise(weight, bias, moments, the_plan, c, bits, rows_scale=1.0):
    """The PackedLayer of a convolution: `weight` [O, K], `bias` [O], `moments` of its inputs."""
    the_frame = frame(weight, the_plan, c)
    order = the_frame.order
    inputs = regularised(moments)
    whole = np.append(order, len(order))
    factor = inverse_factor(inputs[np.ix_(whole, whole)])
    importance = rows_scale / (the_plan.rows * c) ** 2
    classes = the_frame.row_classes[:, None] + the_frame.column_classes[order]
    levels, errors = round_weights(
        weight[:, order], factor[:-1, :-1], the_frame.steps[:, order], importance, classes, bits,
        LAMBDA,
    )
    carried = errors @ factor[:-1, -1].astype(np.float32)
    noise = np.sqrt((errors**2).sum(axis=1).mean())
    bias_exponent = int(np.clip(np.floor(np.log2(max(noise, 1e-30) / 4)), -40, 40))
    least = np.ceil(np.log2(max(np.abs(bias - carried).max(), 1e-30) / 32767))
    bias_exponent = max(bias_exponent, int(least))
    found = np.empty_like(levels)
    found[:, order] = levels
    return PackedLayer(
        found, the_frame.row_steps, the_frame.column_steps, the_frame.row_classes,
        the_frame.column_classes, np.rint((bias - carried) / 2.0**bias_exponent).astype(np.int16),
        the_frame.exponent, bias_exponent, True,
    )


def refit(weight, bias, moments):
    """(weight [O, K], bias [O]) that come nearest to the wanted outputs, drawn to what they were."""
    inputs = moments.inputs
    ridge = np.append(np.full(len(inputs) - 1, RIDGE * inputs.diagonal()[:-1].mean() + 1e-12), 1e-9)
    known = np.concatenate([weight, bias[:, None]], axis=1)
    right = moments.outputs + known * ridge
    found = np.linalg.solve(inputs + np.diag(ridge), right.T).T
    return found[:, :-1].astype(np.float32), found[:, -1].astype(np.float32)
