"""How a run reads its pictures: each time anew or, with --cache, from what it decoded before."""

from functools import partial
from pathlib import Path

from pictures.cache import PictureCache

GIGABYTE = 10**9


def cache_of(options):
    """The PictureCache of the run in --output."""
    return PictureCache(Path(options.output) / 'cache', options.cache * GIGABYTE)


def kept(options, make):
    """`make`, a function of a picture's path that gives an array; or the same with the cache."""
    return partial(cache_of(options).kept, make) if options.cache else make
