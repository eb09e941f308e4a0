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
