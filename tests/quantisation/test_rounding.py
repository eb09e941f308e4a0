"""Rounding: what the factor means, that levels decode to what was meant, what each idea gains."""

import numpy as np
import pytest

from models.formats import packed
from quantisation.rounding import inverse_factor, pivoted_order, round_weights

FREE = np.zeros((1, 50), np.float32)  # levels cost nothing


@pytest.fixture
def moments():
    """Second moments of 24 correlated inputs of very different strength."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((500, 4)) @ rng.standard_normal((4, 24))
    inputs += 0.2 * rng.standard_normal((500, 24))
    inputs *= 2.0 ** rng.integers(-1, 2, 24)
    return inputs.T @ inputs / 500


def decoded(levels, steps):
    """The weights of levels in visiting order, by the packed file's own decoder."""
    quantiser = packed.quantisers(levels, np.arange(levels.shape[1]))
    numbers = 2 * levels.astype(int) - np.sign(levels) * quantiser
    return numbers * steps


def rounded(weight, factor, step, bits=FREE, lam=0.0):
    steps = np.full(weight.shape, step, np.float32)
    classes = np.zeros(weight.shape, np.uint8)
    rows = np.full(len(weight), step**-2, np.float32)
    levels, errors = round_weights(weight, factor, steps, rows, classes, bits, lam)
    return levels, errors, decoded(levels, steps)


def test_factor_is_the_upper_root_of_the_inverse(moments):
    factor = inverse_factor(moments)
    assert np.array_equal(factor, np.triu(factor))
    assert np.allclose(factor.T @ factor @ moments, np.eye(24), atol=1e-8)


def test_what_cannot_be_made_up_for_grows_along_the_order(moments):
    order = pivoted_order(moments)
    assert sorted(order) == list(range(24))
    left = 1 / inverse_factor(moments[np.ix_(order, order)]).diagonal()
    assert (np.diff(left) > -1e-9).all()
    assert left[-1] == pytest.approx(np.sqrt(moments.diagonal().max()))


def test_trellis_is_better_than_its_quantisers_alone():
    """Levels two steps apart would err by 4/12 of a squared step in the mean."""
    weight = np.random.default_rng(1).uniform(-40, 40, (40, 200)).astype(np.float32)
    levels, errors, found = rounded(weight, np.eye(200), 1.0)
    assert levels.dtype == np.int16
    assert np.allclose(weight - found, errors, atol=1e-4)
    assert 0.2 < (errors**2).mean() < 0.285


def test_errors_are_carried_to_what_is_not_yet_rounded(moments):
    weight = np.random.default_rng(2).standard_normal((30, 24)).astype(np.float32)
    order = pivoted_order(moments)
    inputs = moments[np.ix_(order, order)]

    def cost(found):
        return np.einsum('ij,jk,ik->', weight - found, inputs, weight - found)

    alone = rounded(weight, np.eye(24), 0.1)[2]
    _, errors, carried = rounded(weight, inverse_factor(inputs), 0.1)
    assert cost(carried) < 0.3 * cost(alone)
    assert (errors**2).sum() == pytest.approx(cost(carried), rel=1e-3)


def test_bits_have_their_price():
    weight = np.random.default_rng(3).standard_normal((20, 150)).astype(np.float32)
    bits = np.arange(50, dtype=np.float32)[None] * 2
    shares = []
    for lam in (0.0, 0.3, 1e6):
        levels, errors, found = rounded(weight, np.eye(150), 0.5, bits, lam)
        assert np.allclose(weight - found, errors, atol=1e-5)
        shares.append((levels == 0).mean())
    assert shares[0] < shares[1] < shares[2] == 1


def test_dead_rows_and_huge_weights_are_rounded_too():
    weight = np.zeros((3, 80), np.float32)
    weight[1] = 3000
    levels, _, found = rounded(weight, np.eye(80), 0.5)
    assert not levels[[0, 2]].any()
    assert np.allclose(found, weight, atol=0.51)
