"""What a page computes, asked of a browser or of Node, where one is installed."""

import base64
import html
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from common.console import UserError

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
QUIET = (
    '--headless',
    '--disable-gpu',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--virtual-time-budget=60000',  # milliseconds of the page's own clock; its work takes none
)
SECONDS = 120  # until a program is given up

ASK = """
async function ask(about, names, text) {
  const data = Uint8ClampedArray.from(atob('%s'), (letter) => letter.charCodeAt(0));
  const model = await openModel(about, names, text);
  const start = performance.now();
  const { answer } = look(model, about.preprocessing, { width: %d, height: %d, data });
  const seconds = (performance.now() - start) / 1000;
  return JSON.stringify({ logits: Array.from(answer.logits), seconds });
}
"""
IN_BROWSER = """
ask(JSON.parse($('about').textContent), $('names').textContent, $('model').textContent)
  .catch(String).then((text) => { document.body.replaceChildren(`<<${text}>>`); });
"""
IN_NODE = """
const page = require('fs').readFileSync(0, 'utf8');
const part = (id) => page.match(new RegExp(`<script id="${id}"[^>]*>([^]*?)</script>`))[1];
require('vm').runInThisContext(`${part('engine')};${part('ask')}`);
ask(JSON.parse(part('about')), part('names'), part('model'))
  .catch(String).then((text) => { console.log(`<<${text}>>`); });
"""


def find():
    """(kind, path) of what can run a page: 'browser' or 'node'; None where there is neither."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return 'browser', path
    path = shutil.which('node')
    return ('node', path) if path else None


def ask(found, page, picture):
    """{'logits', 'seconds'}: what the page (text) computes of a uint8 RGB picture [h, w, 3].

    `found` is what `find` gave. Raises UserError.
    """
    kind, path = found
    height, width = picture.shape[:2]
    opaque = np.dstack([picture, np.full((height, width), 255, np.uint8)]).tobytes()
    script = ASK % (base64.b64encode(opaque).decode(), width, height)
    if kind == 'node':
        output = _run([path, '-e', IN_NODE], f'{page}<script id="ask">{script}</script>')
    else:
        output = html.unescape(dump(path, f'{page}<script>{script}{IN_BROWSER}</script>'))
    answer = re.search(r'<<(.*)>>', output, re.DOTALL)
    try:
        return json.loads(answer[1])
    except (TypeError, ValueError):
        raise UserError(f'the page does not work in {path}: {answer and answer[1]}') from None


def dump(path, page, *options):
    """The document that a browser makes of `page` once its scripts have run, as text."""
    folder = Path(tempfile.mkdtemp(prefix='squeezenet-'))
    try:
        file = folder / 'page.html'
        file.write_bytes(page.encode())
        root = ['--no-sandbox'] if hasattr(os, 'geteuid') and os.geteuid() == 0 else []
        command = [path, *QUIET, *root, f'--user-data-dir={folder / "profile"}', *options]
        return _run([*command, '--dump-dom', file.as_uri()])
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # the browser's last helpers may still write


def _run(command, text=None):
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, encoding='utf-8', timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        raise UserError(f'{command[0]} gave no answer in {SECONDS} s') from None
    return done.stdout
