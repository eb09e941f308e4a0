"""How sure a network is, and how sure it should be: one temperature, and a threshold for `unknown`.

Guo et al., "On Calibration of Modern Neural Networks" (arXiv:1706.04599), section 4.2.
"""

from typing import NamedTuple, Optional

import numpy as np

TEMPERATURES = np.geomspace(0.05, 20, 241)  # 2.5 % apart
FEWEST = 20  # pictures to fit one number to


def log_softmax(logits, temperature=1.0):
    """float64 [N, C] of logits [N, C]."""
    scaled = np.asarray(logits, np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))


def fit_temperature(logits, labels):
    """The temperature at which softmax(logits / temperature) has the least loss; 1.0 for too few.

    logits: [N, C]; labels: int64 [N] of pictures that nothing was trained on.
    """
    if len(labels) < FEWEST:
        return 1.0
    rows = np.arange(len(labels))
    losses = [-log_softmax(logits, t)[rows, labels].mean() for t in TEMPERATURES]
    return round(float(TEMPERATURES[int(np.argmin(losses))]), 4)


class Threshold(NamedTuple):
    """Below `value` a network answers `unknown`. precision: share of its other answers that are
    right; answered: share of the pictures that get one, both on the pictures that chose it."""

    value: float
    precision: float
    answered: float


def choose_threshold(certainties, right, precision) -> Optional[Threshold]:
    """The lowest Threshold whose answers are right as often as `precision`, or None.

    certainties: probability of the likeliest class, [N]; right: bool [N], whether it was the class.
    """
    order = np.argsort(-np.asarray(certainties), kind='stable')
    certain, hits = np.asarray(certainties)[order], np.cumsum(np.asarray(right)[order])
    answered = np.arange(1, len(order) + 1)
    last_of_its_value = np.append(certain[1:] < certain[:-1], True)
    good = np.flatnonzero((hits / answered >= precision) & last_of_its_value)
    if not len(good):
        return None
    chosen = good[-1]
    share = answered[chosen] / len(order)
    return Threshold(float(certain[chosen]), float(hits[chosen] / answered[chosen]), float(share))
