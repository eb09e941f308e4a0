"""What a C file computes, asked of the compiler that is installed here, if one is."""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import numpy as np

from common.console import UserError
from exports import c_names
from exports.c_source import CSource

COMPILERS = ('cc', 'gcc', 'clang')
SECONDS = 600  # until a program is given up
MAIN = Path(__file__).parent / 'c' / 'check.c'


def find_compiler() -> Optional[list[str]]:
    """The command, a list of words: that of the environment's CC, or what is installed; or None."""
    chosen = shlex.split(os.environ.get('CC', ''))
    names = [chosen] if chosen else [[name] for name in COMPILERS]
    return next((words for words in names if shutil.which(words[0])), None)


def main_program(name: str) -> str:
    """The text of a program that classifies pictures from its input, for NAME.c and NAME.h."""
    own = c_names.identifier(name)
    text = MAIN.read_text(encoding='utf-8').replace('CHECKED', f'"{name}.h"')
    return re.sub(r'\bNETWORK_', f'{own.upper()}_', re.sub(r'\bnetwork_', f'{own}_', text))


def run(
    compiler: list[str],
    made: CSource,
    name: str,
    crops: np.ndarray,
    flags: Sequence[str] = ('-O2',),
) -> tuple[np.ndarray, np.ndarray]:
    """(answers int32 [N], logits int32 [N, classes]) of uint8 crops [N, crop, crop, 3].

    Raises UserError where it does not compile, or does not run.
    """
    with tempfile.TemporaryDirectory(prefix='squeezenet-') as folder:
        folder = Path(folder)
        (folder / f'{name}.h').write_text(made.header, encoding='utf-8')
        (folder / 'network.c').write_text(made.source, encoding='utf-8')
        (folder / 'main.c').write_text(main_program(name), encoding='utf-8')
        command = [*compiler, '-std=c99', *flags, 'network.c', 'main.c', '-o', 'check']
        _call(command, folder, 'does not compile the file')
        output = _call(
            [str(folder / 'check')], folder, 'made a program that fails', crops.tobytes()
        )
    numbers = np.frombuffer(output, '<i4').reshape(len(crops), -1)
    return numbers[:, 0], numbers[:, 1:]


def _call(
    command: Sequence[str], folder: Path, failure: str, data: Optional[bytes] = None
) -> bytes:
    try:
        done = subprocess.run(command, cwd=folder, input=data, capture_output=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f'{command[0]} {failure}: {error}') from None
    if done.returncode:
        lines = done.stderr.decode('utf-8', 'replace').strip().splitlines() or ['no message']
        shown = next((line for line in lines if 'error' in line), lines[0])
        raise UserError(f'{command[0]} {failure}: {shown}')
    return done.stdout
