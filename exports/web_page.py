"""A model as one HTML file: packed network, its decoder, the network in JavaScript, the page.

The files of page/ are put into page/index.html, less their comments. The packed network stands in
it as text that is an eighth longer than its bytes, so that one of 400 kB stays below 0.5 MB; base64
would add a third.
"""

import html
import json
import re
import zlib
from pathlib import Path

import numpy as np

from network import architecture

PAGE = Path(__file__).parent / 'page'
NOT_IN_HTML = b'\0\r<'


def build(packed, config, title='SqueezeNet'):
    """The page's text, of the bytes of a packed file and its model's configuration.

    `config` must have class_names. The text is UTF-8 where it is written.
    """
    names = deflate(json.dumps(config['class_names'], ensure_ascii=False).encode())
    about = {
        **about_network(packed, config),
        'class_num': config['class_num'],
        'conv10_relu': config['conv10_relu'],
        'temperature': config.get('temperature') or 1.0,
        'threshold': config.get('threshold') or 0.0,
        'names_bytes': len(names),
    }
    parts = {
        'about': json_text(about),
        'names': text_of(names),
        'model': text_of(packed),
        'head': '',
        'title': html.escape(title),
    }
    return fill((PAGE / 'index.html').read_text(encoding='utf-8'), parts)


def about_network(packed, config) -> dict:
    """What a page's JavaScript needs to know of the network, whatever its classes."""
    return {
        'conv10_pad': config['conv10_pad'],
        'preprocessing': config['preprocessing'],
        'rows': _rows(config),
        'model_bytes': len(packed),
    }


def fill(template: str, parts: dict, folder: Path = PAGE) -> str:
    """`template` with each {{name}} replaced: by parts[name], else by the file of that name."""

    def part(found):
        name = found[1]
        if name in parts:
            return parts[name]
        return _without_comments((folder / name).read_text(encoding='utf-8'))

    return re.sub(r'\{\{(.+?)\}\}', part, template)


def _without_comments(script: str) -> str:
    lines = [line.strip() for line in script.splitlines()]
    return '\n'.join(line for line in lines if line and not line.startswith('//'))


def json_text(value) -> str:
    """JSON that can stand in a script element."""
    return json.dumps(value, separators=(',', ':')).replace('<', '\\u003c')


def _rows(config):
    """The table of the network as JSON has it."""
    rows = architecture.stages(config['version'], config['bypass'], config['class_num'])
    return [{'kind': type(row).__name__, **row._asdict()} for row in rows]


def text_of(content):
    """Bytes as text that takes a byte of UTF-8 for every seven bits, or two for sixteen.

    Seven bits, highest first, are a character of ASCII; but where that would be NUL, CR or <, which
    HTML changes or reads as markup, the nine bits that follow are taken, too, into one character
    from U+0100 on.
    """
    padded = np.frombuffer(content + bytes(4), np.uint8).astype(np.int64)
    windows = (padded[:-2] << 16 | padded[1:-1] << 8 | padded[2:]).tolist()
    letters, at = [], 0
    while at < 8 * len(content):
        sixteen = windows[at >> 3] >> (8 - (at & 7)) & 0xFFFF
        seven = sixteen >> 9
        if seven in NOT_IN_HTML:
            letters.append(256 + 512 * NOT_IN_HTML.index(seven) + (sixteen & 511))
            at += 16
        else:
            letters.append(seven)
            at += 7
    return ''.join(map(chr, letters))


def deflate(content: bytes) -> bytes:
    """Raw deflate (RFC 1951), as browsers inflate it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()
