"""A model that is read while others write it: one of theirs, whole, and never a wrong complaint."""

import threading
import time

import numpy as np
import pytest

from common import files
from common.console import UserError
from models import model_io
from models.model_io import make_config, read_model, write_model
from network import architecture


def write(directory, class_num):
    shapes = architecture.parameter_shapes('1.1', None, class_num)
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    write_model(directory, tensors, make_config('1.1', None, class_num))


def test_a_model_replaced_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    """The configuration inside the old file does not go with the new config.json."""
    write(tmp_path, 3)
    check = model_io.refuse_contradiction

    def replaced_first(config, path):
        monkeypatch.setattr(model_io, 'refuse_contradiction', check)
        write(tmp_path, 4)
        check(config, path)

    monkeypatch.setattr(model_io, 'refuse_contradiction', replaced_first)
    tensors, config = read_model(tmp_path)
    assert config['class_num'] == len(tensors['conv10.bias']) == 4


def test_a_config_that_is_away_for_a_moment_is_no_error(tmp_path, monkeypatch):
    write(tmp_path, 3)
    check = model_io.refuse_contradiction

    def gone_first(config, path):
        monkeypatch.setattr(model_io, 'refuse_contradiction', check)
        (tmp_path / 'config.json').unlink()
        raise FileNotFoundError(2, 'No such file or directory', str(tmp_path / 'config.json'))

    monkeypatch.setattr(model_io, 'refuse_contradiction', gone_first)
    assert read_model(tmp_path)[1]['class_num'] == 3


def test_what_contradicts_for_good_or_changes_for_ever_is_refused(tmp_path, monkeypatch):
    write(tmp_path, 3)
    text = (tmp_path / 'config.json').read_text().replace('"class_num": 3', '"class_num": 4')
    (tmp_path / 'config.json').write_text(text)
    with pytest.raises(UserError, match=r'class_num is 4, but model\.safetensors says 3'):
        read_model(tmp_path)
    monkeypatch.setattr(model_io, '_state_of_files', lambda path: time.monotonic())
    monkeypatch.setattr(model_io, 'WRITTEN_SECONDS', 0.2)
    with pytest.raises(UserError, match='class_num is 4'):
        read_model(tmp_path)


@pytest.mark.skipif(files.fcntl is None, reason='no such locks there')
def test_writers_take_turns_and_pass_by_one_that_stands_still(tmp_path, monkeypatch):
    held, done = threading.Event(), threading.Event()

    def hold():
        with files.one_writer(tmp_path):
            held.set()
            done.wait(30)

    threading.Thread(target=hold).start()
    assert held.wait(30)
    waiting = threading.Thread(target=write, args=(tmp_path, 3))
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive() and not (tmp_path / 'model.safetensors').exists()
    with monkeypatch.context() as patch:
        patch.setattr(files, 'STOPPED_SECONDS', 0)
        write(tmp_path, 4)
    assert read_model(tmp_path)[1]['class_num'] == 4
    done.set()
    waiting.join(30)
    assert read_model(tmp_path)[1]['class_num'] == 3
