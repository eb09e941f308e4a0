"""Rounding one convolution's weights: trellis-coded, rate-distortion optimal, error compensated.

Three ideas meet. The error of a rounded weight is carried to the weights that are not yet rounded
(Frantar et al. 2022, "GPTQ"; "Optimal Brain Quantizer"). A level costs its bits, zero the fewest,
which prunes (ISO/IEC 15938-17). Two quantisers of twice the step take turns, as the parities of the
levels before tell (Schwarz et al. 2019, "Hybrid video coding with trellis-coded quantization"):
about 1 dB less error at the same rate. Each state's survivor carries errors of its own.
"""

from typing import NamedTuple

import numpy as np

STATES = 4
# the two ways into each state: (state before, parity of the level)
WAYS = (((0, 0), (1, 1)), ((2, 0), (3, 1)), ((0, 1), (1, 0)), ((2, 1), (3, 0)))
BEFORE = np.array([[way[0] for way in ways] for ways in WAYS])  # [state, way]
PARITY = np.array([[way[1] for way in ways] for ways in WAYS])
BLOCK = 64  # columns; then the best survivor is kept, and its errors go to the columns behind
QUANTISER = np.array([0, 0, 1, 1], np.float32)[:, None]  # of each state


def inverse_factor(moments):
    """Upper triangular U [K, K] with U^T U = inverse of the symmetric `moments`, float64."""
    size = len(moments)
    lower = np.linalg.cholesky(moments[::-1, ::-1])  # of the reversed order: no inverse is lost
    inverse = np.linalg.solve(lower, np.eye(size))[::-1, ::-1]
    return np.triu(inverse)


def pivoted_order(moments):
    """An order of the columns: the last is the strongest, each before it what it adds most to.

    The variances that remain, given all the columns behind, then grow along the order.
    """
    size = len(moments)
    remaining = moments.diagonal().astype(np.float64).copy()
    factor = np.zeros((size, size))
    order, left = [], np.ones(size, bool)
    for step in range(size):
        pivot = int(np.argmax(np.where(left, remaining, -np.inf)))
        left[pivot] = False
        order.append(pivot)
        scale = np.sqrt(max(remaining[pivot], 1e-30))
        row = (moments[pivot] - factor[:step, pivot] @ factor[:step]) / scale
        factor[step] = row
        remaining -= row**2
    return np.array(order[::-1])


def round_weights(weight, factor, steps, rows, classes, bits, lam):
    """Levels int16 [O, K] of `weight` float32 [O, K], columns in visiting order.

    `factor` is U [K, K], upper triangular: what an error at column j, divided by U[j, j], adds to
    the columns behind. `steps` float32 [O, K] are the steps, `rows` [O] each row's weight of its
    squared error in units of which `lam` are worth a bit. `bits` [G, M] is what a level of absolute
    value 0 ... M-1 costs in each of the G `classes` uint8 [O, K].
    Returns (levels, errors float32 [O, K], the rounded weights' errors divided by U[j, j]).
    """
    weight = np.array(weight.T, np.float32, order='C')  # [K, O]: a column is contiguous
    steps, classes = np.ascontiguousarray(steps.T), np.ascontiguousarray(classes.T)
    factor, rows = factor.astype(np.float32), rows.astype(np.float32)
    levels = np.zeros(weight.shape, np.int16)
    errors = np.zeros(weight.shape, np.float32)
    costs = np.full((STATES, weight.shape[1]), np.inf, np.float32)
    costs[0] = 0
    for start in range(0, len(weight), BLOCK):
        part = slice(start, start + BLOCK)
        block = _Block(weight[part], factor[part, part], steps[part], rows, classes[part])
        levels[part], errors[part], costs = block.round(bits, lam, costs)
        weight[start + BLOCK :] -= factor[part, start + BLOCK :].T @ errors[part]
    return levels.T, errors.T


class _Block(NamedTuple):
    """The columns that are rounded together: weights, steps and classes are [B, O]."""

    weight: np.ndarray
    factor: np.ndarray
    steps: np.ndarray
    rows: np.ndarray
    classes: np.ndarray

    def round(self, bits, lam, costs):
        """(levels, errors [B, O], costs by state: all infinite but the best's)."""
        size, filters = self.weight.shape
        everyone = np.arange(filters)
        levels = np.zeros((size, STATES * filters), np.int16)
        errors = np.zeros((size, STATES * filters), np.float32)
        for j in range(size):
            carried = (self.factor[:j, j] @ errors[:j]).reshape(STATES, filters)
            wanted = self.weight[j] - carried
            scale = self.rows * (self.steps[j] / self.factor[j, j]) ** 2
            table = lam * bits[self.classes[j]].T
            found, numbers, options = _candidates(wanted / self.steps[j], scale, table)
            costs, before, parity = _survivors(options + costs[:, None])
            origin = (before * filters + everyone).ravel()
            levels[:j], errors[:j] = levels[:j, origin], errors[:j, origin]
            levels[j] = found[before, parity, everyone].ravel()
            rounded = numbers[before, parity, everyone] * self.steps[j]
            errors[j] = (wanted[before, everyone] - rounded).ravel() / self.factor[j, j]
        best = costs.argmin(axis=0)
        kept = np.full_like(costs, np.inf)
        kept[best, everyone] = 0
        return levels[:, best * filters + everyone], errors[:, best * filters + everyone], kept


def _survivors(options):
    """Of the two ways into each state the cheaper: costs, states before, parities [state, O]."""
    ways = options[BEFORE, PARITY]  # [state, way, filter]
    second = ways[:, 1] < ways[:, 0]
    costs = np.where(second, ways[:, 1], ways[:, 0])
    before = np.where(second, BEFORE[:, 1:], BEFORE[:, :1])
    return costs, before, np.where(second, PARITY[:, 1:], PARITY[:, :1])


def _candidates(wanted, scale, table):
    """Of each state and parity the best level: levels, its integers, costs [state, parity, O].

    `wanted` [state, O] is in steps; `table` [M, O] is what a level costs. A level is the nearest
    of its parity, or, if it is even, zero.
    """
    size, sign = np.abs(wanted), np.where(wanted < 0, np.float32(-1), np.float32(1))
    even = np.rint((size + QUANTISER) / 4)
    odd = np.maximum(np.rint((size - 2 + QUANTISER) / 4), 0)
    levels = np.stack([2 * even, 2 * odd + 1], axis=1)
    numbers = np.stack([4 * even - QUANTISER * (even > 0), 4 * odd + 2 - QUANTISER], axis=1)
    costs = scale * (size[:, None] - numbers) ** 2 + _costs_of(table, levels)
    zero = scale * size**2 + table[0]
    to_zero = zero < costs[:, 0]
    costs[:, 0] = np.minimum(costs[:, 0], zero)
    for values in (levels, numbers):
        values[:, 0][to_zero] = 0
        values *= sign[:, None]
    return levels, numbers, costs


def _costs_of(table, levels):
    """What levels [..., O] cost by `table` [M, O]; the last row is that of all beyond."""
    index = np.minimum(levels, len(table) - 1).astype(np.intp)
    return table[index, np.arange(levels.shape[-1])]
