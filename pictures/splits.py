"""Which of a folder's pictures are for training, which for choosing, which for the last test."""

import hashlib
from collections import Counter
from typing import NamedTuple

from common.console import UserError

SIDES = ('train', 'val', 'test')


class Picture(NamedTuple):
    """A picture file that decodes: its path below the folder, and the sha256 of its bytes."""

    path: str
    digest: str


def divide(classes, shares, seed, remarks):
    """{side: {class: [Picture]}} of {class: [Picture]}, for the sides of `shares`, in its order.

    `shares` is {side: share of each class}; the first side gets what the others leave. Each gets at
    least one of a class, where there are enough. `seed` and the files' contents alone decide, and
    identical files share a side; those that lie in two classes go to the first. What could not be
    so is added to `remarks`.
    """
    first, *others = shares
    homes = Counter(d for pictures in classes.values() for d in {p.digest for p in pictures})
    shared = {digest for digest, count in homes.items() if count > 1}
    sides = {side: {} for side in shares}
    for name, pictures in classes.items():
        contents = {picture.digest for picture in pictures}
        own = sorted(contents - shared, key=lambda digest: _shuffle_key(seed, digest))
        left = len(own) - (not contents & shared)  # one stays
        chosen = {}
        for side in others:
            count = min(max(1, round(shares[side] * len(contents))), left)
            chosen.update(dict.fromkeys(own[:count], side))
            own, left = own[count:], left - count
            if not count:
                remarks.append(
                    f'class {name!r} has too few pictures to divide ({len(contents)}):'
                    f' {side}.txt has none'
                )
        for side in shares:
            sides[side][name] = [p for p in pictures if chosen.get(p.digest, first) == side]
    _remark_copies(classes, shared, first, remarks)
    return sides


def _shuffle_key(seed, digest):
    return hashlib.sha256(f'{seed} {digest}'.encode()).digest()


def _remark_copies(classes, shared, first, remarks):
    total = sum(map(len, classes.values()))
    copies = total - len({p.digest for pictures in classes.values() for p in pictures})
    if copies:
        remarks.append(
            f'{copies} pictures are copies of others, byte for byte; copies share a side'
        )
    if shared:
        digest = min(shared)
        paths = [p.path for pictures in classes.values() for p in pictures if p.digest == digest]
        remarks.append(
            f'{len(shared)} pictures lie in more than one class, such as {" and ".join(paths[:2])};'
            f' {first}.txt has them under each of their labels'
        )


def fit_names(sides, folders, remarks):
    """The sides' classes under the training side's names, which may differ in case.

    'train' comes first; `folders` is {side: its folder}, for messages. Raises UserError for a class
    that training lacks.
    """
    uses = Counter(name.casefold() for name in sides['train'])
    known = {n.casefold(): n for n in sides['train'] if uses[n.casefold()] == 1}
    fitted = {'train': sides['train']}
    for side in list(sides)[1:]:
        fitted[side] = {}
        for name, pictures in sides[side].items():
            other = name if name in sides['train'] else known.get(name.casefold())
            if other is None:
                raise UserError(
                    f'{folders[side] / name}: {folders["train"]} has no pictures of this class'
                )
            fitted[side].setdefault(other, []).extend(pictures)
        for name in sorted(sides['train'].keys() - fitted[side]):
            remarks.append(f'class {name!r} has no pictures in {folders[side]}')
    return fitted


def remark_shared(sides, remarks):
    """Pictures that lie on two sides, byte for byte."""
    names = list(sides)
    for i, side in enumerate(names):
        for other in names[i + 1 :]:
            seen = {p.digest: p.path for pictures in sides[side].values() for p in pictures}
            pictures = [p for pictures in sides[other].values() for p in pictures]
            both = [(seen[p.digest], p.path) for p in pictures if p.digest in seen]
            if both:
                remarks.append(
                    f'{len(both)} pictures of {other} are in {side} too, byte for byte, such as'
                    f' {" and ".join(both[0])}: accuracy on {other}.txt will flatter'
                )
