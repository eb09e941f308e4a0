"""What is printed: lines to copy, with whatever paths."""

import shlex
import subprocess

import pytest
from conftest import ROOT

import caffe2paddle
from common.console import quoted


@pytest.mark.skipif(ROOT.drive != '', reason='another shell')
@pytest.mark.parametrize('path', ['my photos/best', "it's; rm -rf $HOME", '结果', '-x', 'a"b', '*'])
def test_a_quoted_path_is_one_word_of_a_shell(path):
    assert shlex.split(quoted(path)) == [path]
    done = subprocess.run(f'printf %s {quoted(path)}', shell=True, capture_output=True)
    assert done.stdout.decode() == path


def test_what_steers_a_terminal_is_not_printed():
    assert quoted('a\x1b[31m\nb') == quoted('a?[31m b')


def test_the_next_line_of_caffe2paddle_can_be_copied(tmp_path, capsys):
    output = tmp_path / 'my params'
    model = ROOT / 'data' / 'squeezenet_v1.1.caffemodel'
    assert caffe2paddle.main([str(model), '--output', str(output)]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith('next: '))
    assert shlex.split(line)[1:5] == ['python', 'infer.py', '--model', str(output)]
