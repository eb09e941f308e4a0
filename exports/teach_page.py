"""A page that learns: the network up to fire9, and JavaScript that fits a conv10 for new classes.

It carries the recogniser's page, too, deflated, with places for what has been taught; the modules
of both are the same. The page's own files are in teach/.
"""

from pathlib import Path

import numpy as np

from exports import web_page
from models.formats import packed

TEACH = Path(__file__).parent / 'teach'
RANK = 64  # directions of `metric`; with them a page of the bundled network has 370 kB
OLD_CLASSES = 100  # as in training/head.py
LATER = ('about', 'names', 'model', 'head', 'title')  # of the recogniser


def build(content: bytes, config: dict, old_weight: np.ndarray) -> str:
    """The page's text. `content`: a packed file's bytes; old_weight: its conv10's, [C, 512]."""
    body = without_conv10(content)
    metric, values, rest = metric_of(old_weight)
    recogniser = _recogniser()
    about = {
        **web_page.about_network(body, config),
        'version': config['version'],
        'bypass': config['bypass'],
        'metric_values': values,
        'metric_rest': rest,
        'metric_bytes': len(metric),
        'recogniser_bytes': len(recogniser),
    }
    parts = {
        'about': web_page.json_text(about),
        'model': web_page.text_of(body),
        'metric': web_page.text_of(metric),
        'recogniser': web_page.text_of(recogniser),
    }
    template = (TEACH / 'index.html').read_text(encoding='utf-8')
    return web_page.fill(template, parts, TEACH)


def _recogniser() -> bytes:
    """The recogniser's page, deflated, in which what is taught is still {{missing}}."""
    template = (web_page.PAGE / 'index.html').read_text(encoding='utf-8')
    missing = {name: f'{{{{{name}}}}}' for name in LATER}
    return web_page.deflate(web_page.fill(template, missing).encode())


def without_conv10(content: bytes) -> bytes:
    """A packed file's bytes less the last layer and its names; only pages read such a one."""
    whole = packed.unpack(content)
    layers = {name: layer for name, layer in whole.layers.items() if name != 'conv10'}
    config = {key: value for key, value in whole.config.items() if key != 'class_names'}
    return packed.pack(whole._replace(layers=layers, config=config))


def metric_of(old_weight: np.ndarray) -> tuple:
    """(bytes, values, rest): the metric of training/head.py's `basis`, in few bytes.

    Its largest RANK directions v[i] (int8 [RANK, 512]; each divided by its length) have the factors
    values[i]; all others have the factor `rest`. Of few old classes: none, and 1.
    """
    if len(old_weight) < OLD_CLASSES:
        return b'', [], 1.0
    _, singular, vectors = np.linalg.svd(old_weight.astype(np.float64), full_matrices=False)
    factors = np.sqrt(singular)
    directions = vectors[:RANK] / np.abs(vectors[:RANK]).max(axis=1, keepdims=True)
    levels = np.round(127 * directions).astype(np.int8)
    rest = factors[RANK:].sum() / (old_weight.shape[1] - RANK)
    return levels.tobytes(), factors[:RANK].round(5).tolist(), float(rest)
