"""What a page computes, asked of a browser or of Node, where one is installed."""

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from select import select
from typing import NamedTuple

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
)
SECONDS = 120  # until a program is given up

LOGITS = """
  const model = await openModel(about, part('names'), part('model'));
  const start = performance.now();
  const { answer } = look(model, about.preprocessing, picture);
  return { logits: Array.from(answer.logits), seconds: (performance.now() - start) / 1000 };
"""
FEATURES = """
  const network = await openFeatures(about, part('model'));
  const small = resize(picture, about.preprocessing);
  const input = networkInput(small, about.preprocessing);
  return [input, mirror(input)].map((x) => Array.from(meanFeatures(network(x), about.conv10_pad)));
"""
ASK = """
(async (part) => {
  const about = JSON.parse(part('about'));
  const data = Uint8ClampedArray.from(atob('%s'), (letter) => letter.charCodeAt(0));
  const picture = { width: %d, height: %d, data };
  %s
})"""
OF_DOCUMENT = '((id) => document.getElementById(id).textContent)'
IN_NODE = """
const [page, expression] = JSON.parse(require('fs').readFileSync(0, 'utf8'));
globalThis.part = (id) => page.match(new RegExp(`<script id="${id}"[^>]*>([^]*?)</script>`))[1];
const run = (text) => require('vm').runInThisContext(text);
run(part('engine'));
run(expression).then((answer) => console.log(JSON.stringify(answer)));
"""
OF_TEXT = '(part)'


class Runner(NamedTuple):
    """A program that can run a page: `name` is 'node' or the browser's."""

    name: str
    path: str


def find():
    """The Runner that is installed, a browser if there is one; or None."""
    names = BROWSERS if os.name == 'posix' else ()  # Windows has no pipes of the kind
    found = (Runner(name, shutil.which(name)) for name in (*names, 'node'))
    return next((runner for runner in found if runner.path), None)


def ask(runner, page, picture, script=LOGITS):
    """What the page (text) computes of a uint8 RGB picture [h, w, 3].

    By LOGITS {'logits', 'seconds'}; by FEATURES, of a page that learns, the means of fire9's map
    for the centre and for its mirror image. Raises UserError.
    """
    height, width = picture.shape[:2]
    opaque = np.dstack([picture, np.full((height, width), 255, np.uint8)]).tobytes()
    expression = ASK % (base64.b64encode(opaque).decode(), width, height, script)
    if runner.name == 'node':
        return run_in_node(runner.path, page, expression + OF_TEXT)
    with Browser(runner.path, page) as browser:
        return browser.evaluate(expression + OF_DOCUMENT)


def run_in_node(path, page, expression):
    """What a JavaScript expression, awaited, gives in Node beside the page's engine. UserError."""
    try:
        done = subprocess.run(
            [path, '-e', IN_NODE],
            input=json.dumps([page, expression]),
            capture_output=True,
            encoding='utf-8',
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise UserError(f'{path} gave no answer in {SECONDS} s') from None
    if done.returncode:
        error = re.search(r'^\w*Error: .*', done.stderr, re.MULTILINE)
        raise UserError(f'the page does not work in {path}: {error and error[0]}')
    return json.loads(done.stdout)


class Browser:
    """A headless browser that shows a page (text); `with` starts and ends it.

    It is spoken to by Chrome's DevTools protocol over a pair of pipes.
    """

    def __init__(self, path, page, *options):
        self.path, self.page, self.options = path, page, options
        self.last, self.session = 0, None

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix='squeezenet-'))
        try:
            self._start()
            file = self.folder / 'page.html'
            file.write_bytes(self.page.encode())
            target = self.call('Target.createTarget', url='about:blank')['targetId']
            attached = self.call('Target.attachToTarget', targetId=target, flatten=True)
            self.session = attached['sessionId']
            self.call('Page.enable')
            self.call('Page.navigate', url=file.as_uri())
            self.wait_for_event('Page.loadEventFired')
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self):
        """The browser reads commands from its file 3 and writes answers to its file 4."""
        commands, self.commands = os.pipe()
        self.answers, answers = os.pipe()

        def connect():
            first, second = os.dup(commands), os.dup(answers)
            os.dup2(first, 3)
            os.dup2(second, 4)

        root = ['--no-sandbox'] if os.geteuid() == 0 else []
        profile = f'--user-data-dir={self.folder / "profile"}'
        self.process = subprocess.Popen(
            [self.path, *QUIET, *root, profile, *self.options, '--remote-debugging-pipe'],
            env={**os.environ, 'TMPDIR': str(self.folder)},
            close_fds=False,
            preexec_fn=connect,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self.waiting = b''

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.commands)
        os.close(self.answers)
        shutil.rmtree(self.folder, ignore_errors=True)  # its helpers may still write for a moment

    def evaluate(self, expression):
        """The value of a JavaScript expression, awaited; UserError with the page's error."""
        found = self.call(
            'Runtime.evaluate', expression=expression, awaitPromise=True, returnByValue=True
        )
        if 'exceptionDetails' in found:
            error = found['exceptionDetails'].get('exception', {}).get('description', '')
            raise UserError(f'the page does not work in {self.path}: {error.split(chr(10))[0]}')
        return found['result'].get('value')

    def call(self, method, **parameters):
        """The result of one command of the protocol."""
        self.last += 1
        command = {'id': self.last, 'method': method, 'params': parameters}
        if self.session:
            command['sessionId'] = self.session
        text = json.dumps(command).encode() + b'\0'
        while text:
            text = text[os.write(self.commands, text) :]
        answer = self._wait_for(lambda message: message.get('id') == self.last)
        if 'error' in answer:
            raise UserError(f'{self.path}: {method}: {answer["error"]["message"]}')
        return answer['result']

    def wait_for_event(self, method):
        """The parameters of the next event of this name; what comes before it is dropped."""
        return self._wait_for(lambda message: message.get('method') == method).get('params')

    def _wait_for(self, wanted):
        while True:
            message = self._receive()
            if wanted(message):
                return message

    def _receive(self):
        while b'\0' not in self.waiting:
            if not select([self.answers], [], [], SECONDS)[0]:
                raise UserError(f'{self.path} gave no answer in {SECONDS} s')
            content = os.read(self.answers, 1 << 20)
            if not content:
                raise UserError(f'{self.path} could not be started')
            self.waiting += content
        message, _, self.waiting = self.waiting.partition(b'\0')
        return json.loads(message)
