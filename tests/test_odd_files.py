"""FIFOs, devices, and what lies in the place of files that were not fetched: one line at once, of
every command; and outputs that cannot be written are found out before the work.
"""

import os

import pytest
from conftest import CAT, ROOT
from inferring import one_error_line
from model_checks import assert_refused

import caffe2paddle
import compress
import export
import infer
from pictures.decoding import PictureError, decode_picture, load_picture

MODELS = ('a.caffemodel', 'a.safetensors', 'a.pdparams', 'a.sqz', 'a.net', 'pass_0.tar', 'a')
STAND_INS = {
    'git lfs pull': b'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 2949120\n',
    'a saved web page; download the file itself': b'\n<!DOCTYPE html><title>Sign in</title>',
}


@pytest.fixture
def fifo(tmp_path):
    """Function name -> the path of a FIFO that nobody writes to."""

    def make(name):
        os.mkfifo(tmp_path / name)
        return tmp_path / name

    return make


def run(command, *arguments):
    return command.main([str(argument) for argument in arguments])


@pytest.mark.parametrize('name', [*MODELS, 'model/model.safetensors', 'v2/_conv1.w0'])
@pytest.mark.parametrize('words', STAND_INS)
def test_a_model_that_was_not_fetched_is_named_as_such(name, words, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(STAND_INS[words])
    assert_refused(path.parent if '/' in name else path, path, words)


@pytest.mark.parametrize('words', STAND_INS)
def test_a_picture_that_was_not_fetched_is_named_as_such(words, tmp_path):
    (tmp_path / 'a.jpg').write_bytes(STAND_INS[words])
    with pytest.raises(PictureError, match=words):
        load_picture(tmp_path / 'a.jpg')
    with pytest.raises(PictureError, match=words):
        decode_picture(STAND_INS[words])


@pytest.mark.parametrize('name', [*MODELS, 'v2/_conv1.w0'])
def test_a_fifo_is_no_model(name, tmp_path, fifo):
    (tmp_path / 'v2').mkdir()
    path = fifo(name)
    assert_refused(path.parent if '/' in name else path, path, 'is not a regular file')


@pytest.mark.parametrize(
    'arguments',
    [
        (compress, '--list', 'FIFO'),
        (compress, '--pictures', 'FIFO', '--output', 'a.sqz'),
        (compress, '--train_list', 'FIFO', '--output', 'a.sqz'),
        (compress, '--val_list', 'FIFO', '--output', 'a.sqz'),
        (compress, '--output', 'FIFO', '--model', 'no such model'),
        (export, '--model', 'FIFO', '--to', 'onnx', '--output', 'a.onnx'),
        (export, '--calibrate', 'FIFO', '--to', 'onnx_int8', '--output', 'a.onnx'),
        (export, '--image', 'FIFO', '--to', 'page', '--output', 'a.html'),
        (export, '--to', 'page', '--output', 'FIFO', '--model', 'no such model'),
        (caffe2paddle, 'FIFO', '--output', 'a'),
        (caffe2paddle, '--list', 'FIFO'),
        (caffe2paddle, '--class_names', 'FIFO', '--output', 'a'),
        (caffe2paddle, '--to_caffe', 'no such model', '--output', 'FIFO.caffemodel'),
        (infer, CAT, '--model', 'FIFO'),
        (infer, CAT, '--output', 'FIFO.csv', '--model', 'no such model'),
    ],
    ids=lambda arguments: ' '.join(map(str, (arguments[0].__name__, *arguments[1:3]))),
)
@pytest.mark.filterwarnings('ignore')
def test_a_fifo_ends_a_command_in_one_line(arguments, fifo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command, *rest = arguments
    name = next(x for x in rest if str(x).startswith('FIFO'))
    path = fifo(f'{name}.txt' if '--pictures' in rest else name)
    assert run(command, *(path if x == name else x for x in rest)) == 1
    error = one_error_line(capsys)
    assert str(path) in error
    assert 'is not a regular file' in error
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    ('output', 'words'), [('.', 'Is a directory'), ('file/a.sqz', 'Not a directory')]
)
def test_an_output_that_cannot_be_is_found_out_before_the_work(output, words, tmp_path, capsys):
    (tmp_path / 'file').touch()
    assert run(compress, '--model', 'no such model', '--output', tmp_path / output) == 1
    assert words in one_error_line(capsys)


def test_a_device_is_neither_read_nor_replaced(tmp_path, capsys):
    os.symlink('/dev/zero', tmp_path / 'zero.sqz')
    assert run(compress, '--list', tmp_path / 'zero.sqz') == 1
    assert run(compress, '--model', ROOT / 'no', '--output', tmp_path / 'zero.sqz') == 1
    assert capsys.readouterr().err.count('is not a regular file') == 2
