"""How much of a network its packed file keeps, on pictures: the figures, and what they mean."""

import math
from typing import NamedTuple, Optional

import numpy as np

import reader
from models.cpu_network import BATCH
from models.inference import Predictor, build_program
from network.preprocessing import preprocessing_of

ALEXNET = 240e6  # bytes, as the paper counts them


class Comparison(NamedTuple):
    """Of two networks on the same pictures; the last four are None without labels.

    agreement: share of pictures whose likeliest class is the same. divergence: mean
    Kullback-Leibler divergence of the second from the first, in nats. top1, top5: shares that are
    right, of each network. lost, gained: pictures that only the first, or only the second, has
    right at the first guess.
    """

    pictures: int
    agreement: float
    divergence: float
    top1: Optional[tuple] = None
    top5: Optional[tuple] = None
    lost: Optional[int] = None
    gained: Optional[int] = None

    def loss(self):
        """Points of top-1 lost; without labels, of agreement."""
        kept = 1 + self.top1[1] - self.top1[0] if self.top1 else self.agreement
        return 100 * (1 - kept)

    def chance(self):
        """How likely a difference in top-1 as large as this is by chance alone (sign test)."""
        n, least = self.lost + self.gained, min(self.lost, self.gained)
        tail = sum(math.comb(n, k) for k in range(least + 1)) / 2**n
        return min(1.0, 2 * tail)


def logits_of(tensors, config, crops, meter):
    """float32 [N, class_num] for uint8 crops [N, h, w, 3]."""
    predictor, preprocessing = Predictor(build_program(tensors, config)), preprocessing_of(config)
    rows = []
    for start in range(0, len(crops), BATCH):
        part = crops[start : start + BATCH]
        rows.append(predictor(reader.network_input(part, preprocessing)))
        meter.count(len(part))
    return np.concatenate(rows)


def compare(first, second, labels=None):
    """The Comparison of logits [N, C] of the float network and of the packed one."""
    before, after = _log_softmax(first), _log_softmax(second)
    divergence = (np.exp(before) * (before - after)).sum(axis=1).mean()
    agreement = (first.argmax(axis=1) == second.argmax(axis=1)).mean()
    found = Comparison(len(first), float(agreement), float(divergence))
    if labels is None:
        return found
    hits = [_hits(logits, labels) for logits in (first, second)]
    right = [found[:, 0] for found in hits]
    return found._replace(
        top1=tuple(float(one.mean()) for one in right),
        top5=tuple(float(one.any(axis=1).mean()) for one in hits),
        lost=int((right[0] & ~right[1]).sum()),
        gained=int((right[1] & ~right[0]).sum()),
    )


def _log_softmax(logits):
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def _hits(logits, labels):
    """Whether each of the five likeliest classes is right: bool [N, 5]."""
    return np.argsort(-logits, axis=1, kind='stable')[:, :5] == labels[:, None]


def size_in_words(size, tensors):
    """What a file of `size` bytes means for a network with the parameters `tensors`."""
    weights = sum(value.size for value in tensors.values())
    return (
        f'{size:,} bytes, {8 * size / weights:.2f} bits a parameter; {4 * weights / size:.1f} '
        f'times smaller than in float32 ({4 * weights / 1e6:.1f} MB), '
        f"{ALEXNET / size:.0f} times smaller than AlexNet's 240 MB"
    )


def comparison_in_words(found):
    """The lines that say what a Comparison holds."""
    lines = [
        f'{found.pictures} pictures: both networks agree on {found.agreement:.1%}; '
        f'KL divergence {found.divergence:.4f}'
    ]
    if found.top1:
        (one, other), (five, five_after) = found.top1, found.top5
        lines.append(
            f'top-1 {one:.2%} before, {other:.2%} after; top-5 {five:.2%} before, '
            f'{five_after:.2%} after; {found.lost} pictures lost, {found.gained} gained'
        )
        chance = found.chance()
        lines.append(
            'the difference in top-1 is '
            + ('within chance' if chance > 0.05 else 'more than chance')
            + f' for {found.pictures} pictures (sign test, p = {chance:.2f})'
        )
    return lines
