"""Writing a model that fails or is killed: the old model or the new one stays, whole and without
litter, and the reason is one line.
"""

import errno
import os
import signal
import subprocess
import sys

import model_checks
import numpy as np
import pytest
from conftest import ROOT
from model_checks import assert_bits, contents

from common import console, files
from models.model_io import make_config, read_model, write_model
from network import architecture

tensors, config, model = model_checks.tensors, model_checks.config, model_checks.model


def disk_is_full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize('call', ['fsync', 'replace'])
def test_interrupted_write_leaves_the_old_model_and_no_litter(call, model, monkeypatch):
    """Even where the new model is of another kind than the old one."""
    before = contents(model)
    other = make_config('1.1', None, 5)
    zeros = {n: np.zeros(s, 'f4') for n, s in architecture.parameter_shapes('1.1', None, 5).items()}
    monkeypatch.setattr(os, call, disk_is_full)
    with pytest.raises(OSError, match='No space left'):
        write_model(model, zeros, other)
    assert contents(model) == before


FILL_THE_DISK = """
import resource, sys
import numpy
from caffe_format import caffemodel
from caffe_format.proto import NetParameter
from common import console, files
from common.console import UserError
from models import model_io
from network import architecture

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # bytes a file: room for config.json
shapes = architecture.parameter_shapes('1.1', None, 5)
tensors = {name: numpy.zeros(shape, 'f4') for name, shape in shapes.items()}
config = model_io.make_config('1.1', None, 5)
write = console.one_line_errors(model_io.write_model)
sys.exit(write(sys.argv[1], tensors, config))
"""


def test_disk_that_fills_up_leaves_the_old_model_and_no_litter(model, tensors, config):
    """The real fault: write(2) fails in the middle of model.safetensors."""
    pytest.importorskip('resource')
    before = contents(model)
    command = [sys.executable, '-c', FILL_THE_DISK, model]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, '')
    assert done.stderr.endswith('File too large\n')
    assert done.stderr.count('\n') == 1
    assert contents(model) == before
    found, found_config = read_model(model)
    assert_bits(found, tensors)
    assert found_config == config


def one_line(capsys, directory, tensors, config):
    """What a command would print where write_model fails."""
    assert console.one_line_errors(write_model)(directory, tensors, config) == 1
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    return error


def test_place_that_cannot_be_written_gets_one_line(tmp_path, capsys, tensors, config):
    place = tmp_path / 'place'
    place.mkdir()
    place.chmod(0o555)
    root = os.geteuid() == 0  # root may write anywhere, so be somebody else for a moment
    try:
        if root:
            os.seteuid(65534)
        error = one_line(capsys, place / 'model', tensors, config)
    finally:
        if root:
            os.seteuid(0)
    assert 'Permission denied' in error
    assert str(place) in error
    assert list(place.iterdir()) == []


def test_file_where_the_directory_should_be_gets_one_line(tmp_path, capsys, tensors, config):
    (tmp_path / 'file').write_text('mine')
    assert str(tmp_path / 'file') in one_line(capsys, tmp_path / 'file', tensors, config)
    assert str(tmp_path / 'file') in one_line(capsys, tmp_path / 'file' / 'x', tensors, config)
    assert (tmp_path / 'file').read_text() == 'mine'


def write_until(calls, directory, tensors, config):
    """A child process writes a model and is killed before its `calls`-th call to the system.

    Returns whether it was.
    """
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == signal.SIGKILL
    left = [calls]

    def killing(function):
        def call(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    for name in ('replace', 'rename', 'fsync', 'unlink', 'open', 'fstat'):
        setattr(os, name, killing(getattr(os, name)))
    write_model(directory, tensors, config)
    os._exit(0)


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
def test_kill_at_any_moment_leaves_the_old_model_or_the_new_one(model, tensors, config):
    """A model of another kind is written over an old one, and killed before each call."""
    other = make_config('1.1', None, 5)
    zeros = {n: np.zeros(s, 'f4') for n, s in architecture.parameter_shapes('1.1', None, 5).items()}
    found, calls, killed = [], 0, True
    while killed:
        write_model(model, tensors, config)
        killed = write_until(calls, model, zeros, other)
        found.append((read_model(model, say=pytest.fail)[1]['class_num'], killed))
        calls += 1
        for left in model.glob('.*.partial'):
            left.unlink()
    assert len(found) > 10
    assert (3, True) in found
    assert (5, True) in found
    assert found[-1] == (5, False)


def test_leftovers_of_killed_writers_are_cleared_by_the_next(model, tensors, config):
    left = model / '.model.safetensors.0123456789ab.partial'
    left.write_bytes(b'half a model')
    os.utime(left, (0, 0))
    write_model(model, tensors, config)
    assert sorted(contents(model)) == ['config.json', 'model.safetensors']


def test_two_writers_at_once_leave_one_whole_file(tmp_path):
    """A writer that began earlier and is still at it loses nothing to the other."""
    with files.atomic_write(tmp_path / 'file') as first:
        first.write(b'first')
        first.flush()
        os.utime(first.fileno(), (0, 0))  # a slow one
        with files.atomic_write(tmp_path / 'file') as second:
            second.write(b'second')
        assert (tmp_path / 'file').read_bytes() == b'second'
    assert (tmp_path / 'file').read_bytes() == b'first'
    assert list(tmp_path.iterdir()) == [tmp_path / 'file']
