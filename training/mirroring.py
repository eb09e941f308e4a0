"""Whether training may mirror its pictures: not where classes are each other's mirror images.

An arrow to the left, mirrored, is an arrow to the right; to train on it as `left` unteaches both.
A conv10 that is fitted to unmirrored pictures, and asked about pictures that it was not fitted to,
shows this: it answers one class for the picture and the other for its mirror image.
"""

from typing import NamedTuple, Optional

import numpy as np

from training.head import Centres, basis, fit

FOLDS = 3
MOST_PICTURES = 2000  # of which so much is known surely enough
LEAST_SHARE = 0.5  # of a pair's recognised pictures that become the other class
SIGNIFICANCE = 0.001  # for all pairs of classes together


class MirrorPair(NamedTuple):
    """Two classes: `swapped` of the `recognised` pictures become the other class by mirroring."""

    classes: tuple[int, int]
    swapped: int
    recognised: int


def find_mirror_pair(
    centres: Centres, class_num: int, old_weight: np.ndarray
) -> Optional[MirrorPair]:
    """The pair of classes that are most surely each other's mirror images, or None.

    A pair counts where LEAST_SHARE of its recognised pictures become the other class by mirroring,
    and where this happens more often than the opposite (a picture that is recognised only when
    mirrored), which is as frequent where sides mean nothing: McNemar's exact test, by Bonferroni
    for all pairs.
    """
    labels = centres.labels
    plain, mirrored = cross_validated(centres, class_num, old_weight)
    lost, gained = np.zeros((2, class_num, class_num), np.int64)
    np.add.at(lost, (labels, mirrored), plain == labels)
    np.add.at(gained, (labels, plain), mirrored == labels)
    recognised = np.bincount(labels[plain == labels], minlength=class_num)
    pairs = class_num * (class_num - 1) // 2
    best, most_sure = None, SIGNIFICANCE / pairs
    for one, other in np.argwhere(np.triu(lost + lost.T, 1)).tolist():
        swapped = int(lost[one, other] + lost[other, one])
        opposite = int(gained[one, other] + gained[other, one])
        of = int(recognised[one] + recognised[other])
        chance = _tail(swapped, swapped + opposite)
        if swapped >= LEAST_SHARE * of and chance < most_sure:
            best, most_sure = MirrorPair((one, other), swapped, of), chance
    return best


def _tail(count: int, trials: int) -> float:
    """The probability of `count` or more heads of `trials` fair coins."""
    from scipy.stats import binom  # 0.5 s

    return float(binom.sf(count - 1, trials, 0.5))


def cross_validated(
    centres: Centres, class_num: int, old_weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(classes of the pictures, of their mirror images), int64 [N], each by a conv10 that was
    fitted to other pictures."""
    base = basis(old_weight, centres.plain - centres.plain.mean(axis=0)).astype(np.float32)
    centres = centres._replace(plain=centres.plain @ base, mirrored=centres.mirrored @ base)
    in_base = np.empty((0, base.shape[1]))  # `fit` need not look for it anew
    order = np.argsort(centres.labels, kind='stable')
    fold = np.empty(len(order), np.int64)
    fold[order] = np.arange(len(order)) % FOLDS  # each class is spread over all folds
    plain, mirrored = np.zeros((2, len(order)), np.int64)
    for number in np.unique(fold):
        held, rest = fold == number, fold != number
        if rest.any():
            weight, bias = fit(centres.views(rest, mirror=False), class_num, in_base)
            plain[held] = (centres.plain[held] @ weight.T + bias).argmax(axis=1)
            mirrored[held] = (centres.mirrored[held] @ weight.T + bias).argmax(axis=1)
    return plain, mirrored
