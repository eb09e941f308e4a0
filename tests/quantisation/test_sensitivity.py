"""What the output feels, of networks that are sure and unsure."""

import common.paddle_setup  # noqa: F401 - before Paddle

import numpy as np

from quantisation import sensitivity


def test_a_network_that_is_sure_of_everything_is_asked_at_a_higher_temperature():
    """Its probabilities are 1, and what it feels would be rounding errors."""
    logits = np.array([[900.0, 0, 100], [0, 800, 50]] * 9, np.float32)
    heat = sensitivity._heat(lambda x: x, logits)
    unsure = 1 - sensitivity._softmax(logits / heat).max(axis=1).mean()
    assert sensitivity.UNSURE <= unsure < 2 * sensitivity.UNSURE
    assert sensitivity._heat(lambda x: x, logits / 1000) == 1.0
