"""Every command says what it can do."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = sorted(
    path.name for path in ROOT.glob('*.py') if "__name__ == '__main__'" in path.read_text()
)


def test_the_commands_are_in_the_root():
    assert {'train.py', 'infer.py', 'export.py', 'compress.py', 'caffe2paddle.py'} <= set(COMMANDS)


@pytest.mark.parametrize('command', COMMANDS)
def test_help_of_every_command(command):
    done = subprocess.run(
        [sys.executable, ROOT / command, '--help'], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.startswith(f'usage: {command}') and '--help' in done.stdout


@pytest.mark.parametrize('command', COMMANDS)
def test_a_python_without_the_packages_gets_one_line(command):
    """`-S` hides the installed packages, as a shell does in which nobody activated .venv."""
    done = subprocess.run(
        [sys.executable, '-S', ROOT / command, '--help'], capture_output=True, text=True, timeout=60
    )
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and len(lines) == 1 and lines[0].startswith(f'{command}: ')
    assert 'not installed in this Python' in lines[0] and 'pip install -r' in lines[0]


def test_a_missing_paddle_is_one_line():
    code = (
        'import runpy, sys; sys.modules["paddle"] = None; sys.argv = [sys.argv[1]]; '
        'sys.modules["__main__"].__file__ = sys.argv[0]; '
        'sys.path.insert(0, sys.argv[0].rpartition("/")[0]); runpy.run_path(sys.argv[0])'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, str(ROOT / 'train.py')], capture_output=True, text=True
    )
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith('train.py: Paddle not installed in this Python')
