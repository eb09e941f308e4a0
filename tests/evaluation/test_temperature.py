"""Temperature and threshold, on logits whose right answers are known."""

import numpy as np
import pytest

from evaluation.temperature import choose_threshold, fit_temperature, log_softmax


def sampled(temperature, count=4000, classes=5):
    """Logits, and labels drawn from softmax(logits / temperature)."""
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, (count, classes))
    cumulative = np.exp(log_softmax(logits, temperature)).cumsum(axis=1)
    return logits, (rng.random((count, 1)) > cumulative).sum(axis=1).clip(max=classes - 1)


@pytest.mark.parametrize('temperature', [0.5, 1.0, 2.5])
def test_the_temperature_that_made_the_labels_is_found(temperature):
    assert fit_temperature(*sampled(temperature)) == pytest.approx(temperature, rel=0.06)


def test_few_pictures_leave_the_temperature_alone():
    logits, labels = sampled(3.0)
    assert fit_temperature(logits[:19], labels[:19]) == 1.0


def test_the_threshold_is_the_lowest_that_is_right_often_enough():
    certainties = np.array([0.9, 0.8, 0.8, 0.7, 0.6, 0.5])
    right = np.array([True, True, False, True, True, False])
    assert choose_threshold(certainties, right, 0.75) == (0.6, 0.8, 5 / 6)
    assert choose_threshold(certainties, right, 0.9) == (0.9, 1.0, 1 / 6)  # not one 0.8 of two
    assert choose_threshold(certainties, right, 0.6) == (0.5, 4 / 6, 1.0)
    assert choose_threshold(certainties, ~right, 0.9) is None
