"""The page that learns, made of the bundled network."""

import functools

from conftest import ROOT

from exports import teach_page
from models.formats import packed

PACKED = ROOT / 'data' / 'squeezenet_v1.1.sqz'


@functools.cache
def bundled():
    """(tensors, config) of the packed network in data/."""
    return packed.read_packed(PACKED)


@functools.cache
def page_text():
    tensors, config = bundled()
    return teach_page.build(PACKED.read_bytes(), config, tensors['conv10.weight'][:, :, 0, 0])
