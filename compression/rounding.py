"""Rounding one convolution's weights: trellis-coded, rate-distortion optimal, error compensated.

Three ideas meet. The error of a rounded weight is carried to the weights that are not yet rounded
(Frantar et al. 2022, "GPTQ"; "Optimal Brain Quantizer"). A level costs its bits, zero the fewest,
which prunes (ISO/IEC 15938-17). Two quantisers of twice the step take turns, as the parities of the
levels before tell (Schwarz et al. 2019, "Hybrid video coding with trellis-coded quantization"):
about 1 dB less error at the same rate. Each state's survivor carries errors of its own.
"""

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


def round_weights(weight, factor, steps, rows, bits, lam):
    """Levels int16 [O, K] of `weight` float32 [O, K], columns in visiting order.

    `factor` is U [K, K], upper triangular: what an error at column j, divided by U[j, j], adds to
    the columns behind. `steps` float32 [O, K] are the steps, `rows` [O] each row's weight of its
    squared error in units where a `lam` of a squared unit is worth a bit. `bits` [K, O, M] (or any
    array that broadcasts to it) is what a level of absolute value 0 ... M-1 costs.
    Returns (levels, errors float32 [K, O] already divided by U[j, j]).
    """
    weight = np.ascontiguousarray(weight.T)  # [K, O]: a column is contiguous
    steps = np.ascontiguousarray(steps.T)
    columns, filters = weight.shape
    factor = factor.astype(np.float32)
    levels = np.zeros((columns, filters), np.int16)
    errors = np.zeros((columns, filters), np.float32)
    costs = np.full((STATES, filters), np.inf, np.float32)
    costs[0] = 0
    for start in range(0, columns, BLOCK):
        stop = min(start + BLOCK, columns)
        block = slice(start, stop)
        made = _round_block(
            weight[block], factor[block, block], steps[block], rows, bits[block], lam, costs
        )
        levels[block], errors[block], costs = made
        weight[stop:] -= factor[block, stop:].T @ errors[block]
    return levels.T, errors


def _round_block(weight, factor, steps, rows, bits, lam, costs):
    """A block of columns; (levels, errors [B, O], costs by state: all infinite but the best's)."""
    size, filters = weight.shape
    levels = np.zeros((size, STATES * filters), np.int16)
    errors = np.zeros((size, STATES * filters), np.float32)
    everyone = np.arange(filters)
    for j in range(size):
        carried = factor[:j, j] @ errors[:j] if j else np.zeros(STATES * filters, np.float32)
        wanted = weight[j] - carried.reshape(STATES, filters)
        scale = rows * (steps[j] / factor[j, j]) ** 2
        found, numbers, options = _candidates(wanted / steps[j], scale, bits[j], lam)
        options += costs[:, None]
        ways = options[BEFORE, PARITY]  # [state, way, filter]
        second = ways[:, 1] < ways[:, 0]
        costs = np.where(second, ways[:, 1], ways[:, 0])
        before = np.where(second, BEFORE[:, 1:], BEFORE[:, :1])
        parity = np.where(second, PARITY[:, 1:], PARITY[:, :1])
        origin = (before * filters + everyone).ravel()
        levels[:j] = levels[:j, origin]
        errors[:j] = errors[:j, origin]
        levels[j] = found[before, parity, everyone].ravel()
        rounded = numbers[before, parity, everyone] * steps[j]
        errors[j] = (wanted[before, everyone] - rounded).ravel() / factor[j, j]
    best = costs.argmin(axis=0)
    chosen = best * filters + everyone
    kept = np.full_like(costs, np.inf)
    kept[best, everyone] = 0
    return levels[:, chosen], errors[:, chosen], kept


def _candidates(wanted, scale, bits, lam):
    """Of each state and parity the best level: levels, its integers, costs [state, parity, O].

    `wanted` [state, O] is in steps. Even levels may also be zero; a level is otherwise the nearest.
    """
    size, sign = np.abs(wanted), np.sign(wanted)
    turn = np.maximum(np.rint((size + QUANTISER) / 4), 0)
    even = 2 * turn, 4 * turn - QUANTISER * (turn > 0)
    turn = np.maximum(np.rint((size - 2 + QUANTISER) / 4), 0)
    odd = 2 * turn + 1, 4 * turn + 2 - QUANTISER
    levels = np.stack([even[0], odd[0]], axis=1)
    numbers = np.stack([even[1], odd[1]], axis=1)
    costs = scale * (size[:, None] - numbers) ** 2 + lam * _bits_of(bits, levels)
    zero = scale * size**2 + lam * bits[..., 0]
    to_zero = zero < costs[:, 0]
    costs[:, 0] = np.where(to_zero, zero, costs[:, 0])
    for values in (levels, numbers):
        values[:, 0][to_zero] = 0
        values *= sign[:, None]
    return levels, numbers, costs


def _bits_of(bits, levels):
    """`bits` is [O, M] or [1, M]; beyond M - 1 a level costs what M - 1 does and a bit an octave."""
    most = bits.shape[-1] - 1
    index = np.minimum(levels, most).astype(np.intp)
    filters = np.arange(levels.shape[-1]) if len(bits) > 1 else 0
    found = bits[filters, index]
    beyond = levels > most
    if beyond.any():
        found = found + 2 * np.log2(np.maximum(levels / most, 1))
    return found
