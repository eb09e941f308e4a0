"""The commands called by a program, in its main thread or another, as a web page's button does."""

import json
import subprocess
import sys

import pytest
from conftest import CAT, ROOT

PROGRAM = """
import json, os, signal, sys, threading

handlers = lambda: [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
signal.signal(signal.SIGTERM, lambda *_: print('term'))
signal.signal(signal.SIGHUP, lambda *_: print('hup'))
before = handlers()
status = []

def call(command, arguments):
    status.append(__import__(command).main(arguments))

if __name__ == '__main__':
    where, command, *arguments = json.loads(sys.argv[1])
    if where == 'thread':
        thread = threading.Thread(target=call, args=(command, arguments))
        thread.start()
        thread.join()
    else:
        call(command, arguments)
    print('status', *status)
    print('same' if handlers() == before else 'changed')
    try:
        for name in ('SIGHUP', 'SIGTERM', 'SIGINT'):
            os.kill(os.getpid(), getattr(signal, name))
    except KeyboardInterrupt:
        print('interrupted')
"""


def lines_of(where, command, *arguments):
    """The last five lines of a program that calls a command's main, then gets three signals."""
    call = json.dumps([where, command, *map(str, arguments)])
    done = subprocess.run(
        [sys.executable, '-c', PROGRAM, call],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert 'Traceback' not in done.stderr, done.stderr
    return done.stdout.splitlines()[-5:]


WELL = ['status 0', 'same', 'hup', 'term', 'interrupted']


@pytest.mark.parametrize('where', ['thread', 'main'])
def test_infer(where, three_classes, pair):
    arguments = '--model', three_classes, CAT, '--num_workers', 0
    assert lines_of(where, 'infer', *arguments) == WELL
    arguments = '--model', three_classes, '--val_list', pair, '--num_workers', 2
    assert lines_of(where, 'infer', *arguments) == WELL


@pytest.mark.parametrize('where', ['thread', 'main'])
def test_export(where, three_classes, tmp_path):
    arguments = '--model', three_classes, '--to', 'paddle', '--output', tmp_path / 'out'
    assert lines_of(where, 'export', *arguments) == WELL


@pytest.mark.parametrize('where', ['thread', 'main'])
@pytest.mark.parametrize('trainers', [1, 2])
def test_train(where, trainers, pair, tmp_path):
    lists = '--train_list', pair, '--val_list', pair, '--output', tmp_path / 'run'
    amount = '--epochs', 1, '--batch_size', 2 // trainers, '--trainer', trainers
    assert lines_of(where, 'train', '--device', 'cpu', *lists, *amount) == WELL


@pytest.mark.parametrize('where', ['thread', 'main'])
def test_compress_that_fails(where, tmp_path):
    arguments = '--model', tmp_path / 'none', '--output', tmp_path / 'my.sqz'
    assert lines_of(where, 'compress', *arguments) == ['status 1', *WELL[1:]]


@pytest.mark.parametrize('where', ['thread', 'main'])
def test_caffe2paddle(where, three_classes, tmp_path):
    file = tmp_path / 'my.caffemodel'
    assert lines_of(where, 'caffe2paddle', '--to_caffe', three_classes, '--output', file) == WELL
    arguments = file, '--output', tmp_path / 'params', '--verify', '--image', CAT
    assert lines_of(where, 'caffe2paddle', *arguments) == WELL
