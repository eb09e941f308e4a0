"""What the benchmarks share: commands that run in turn, ratios with their spread, tables.

Each contestant is a process of its own, so that none disturbs another's libraries and threads. This
module imports nothing large: what a process's children use at most is counted from its own size on.
"""

import argparse
import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))  # the project's modules, and before ours where names are the same

import common.onnxruntime_setup  # noqa: E402, F401 - before ONNX Runtime, and for child processes

INSTRUCTIONS = 'avx2', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'amx_bf16', 'amx_int8'
PACKAGES = 'paddlepaddle', 'opencv-python-headless', 'pillow', 'onnxruntime', 'openvino', 'torch'


class Run(NamedTuple):
    """A command that came to its end; CPU seconds are of all its processes, bytes of its largest"""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    output: str


def run(*script, program=sys.executable, environment=()):
    """Run a Python script, with its arguments, to its end; exits with its words where it fails.

    `environment`: variables that it has beside ours.
    """
    command, variables = [program, *map(str, script)], {**os.environ, **dict(environment)}
    with tempfile.TemporaryFile('w+') as output, tempfile.TemporaryFile('w+') as errors:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=errors, env=variables)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            sys.exit(f'{" ".join(command)} failed:\n{output.read()}{errors.read()}')
        unit = 1 if sys.platform == 'darwin' else 1024
        cpu_seconds = usage.ru_utime + usage.ru_stime
        return Run(seconds, cpu_seconds, usage.ru_maxrss * unit, output.read())


def in_turn(contestants, rounds):
    """{name: function} -> {name: [its result of each round]}; every other round goes backwards."""
    results = {name: [] for name in contestants}
    for number in range(rounds):
        order = list(contestants)[:: -1 if number % 2 else 1]
        for name in order:
            words = name if isinstance(name, str) else ', '.join(map(str, name))
            progress(f'round {number + 1} of {rounds}: {words}')
            results[name].append(contestants[name]())
    return results


def progress(text):
    print(f'  {text}', file=sys.stderr, flush=True)


def spread(values, digits=1):
    """'median (smallest..largest)'"""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f'{middle:,.{digits}f} ({low:,.{digits}f}..{high:,.{digits}f})'


def ratio(ours, peer):
    """ours / peer of each round, as a spread"""
    return spread([a / b for a, b in zip(ours, peer)], digits=2)


def table(header, rows):
    """A markdown table; all columns but the first are numbers."""
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths)] for row in [header, *rows]]
    rule = ['-' * widths[0], *('-' * (width - 1) + ':' for width in widths[1:])]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in [lines[0], rule, *lines[1:]])


def machine():
    """CPU, its instruction sets, cores, system and versions, in one line"""
    versions = [f'Python {platform.python_version()}']
    for package in PACKAGES:
        try:
            versions.append(f'{package} {importlib.metadata.version(package)}')
        except importlib.metadata.PackageNotFoundError:
            versions.append(f'{package} absent')
    return f'{processor()}, {cores()} cores, {platform.system()}; {", ".join(versions)}.'


def processor():
    """Its name, and which of INSTRUCTIONS it has: these decide which rows hold elsewhere."""
    said = cpuinfo()
    family = ', '.join(f'{name} {said[name]}' for name in ('cpu family', 'model') if name in said)
    name = said.get('model name') or platform.processor() or platform.machine()
    return f'{name} ({"; ".join(filter(None, (family, " ".join(instructions()))))})'


def instructions():
    """Those of INSTRUCTIONS that Linux says the processor has; elsewhere none."""
    flags = cpuinfo().get('flags', '').split()
    return [name for name in INSTRUCTIONS if name in flags]


def cpuinfo():
    """{field: text} of the first processor, of Linux alone."""
    try:
        with open('/proc/cpuinfo', encoding='ascii', errors='replace') as file:
            lines = [line.split(':', 1) for line in file if ':' in line]
    except OSError:
        return {}
    return {name.strip(): text.strip() for name, text in reversed(lines)}


def load():
    """What else the machine did before the benchmark began, in words."""
    if not hasattr(os, 'getloadavg'):
        return 'unknown'
    return f'{os.getloadavg()[0]:.2f} of {cores()} cores busy in the minute before'


def cores():
    """How many cores this process may use"""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


def make_pictures(options, folder):
    """A list file of `options.count` full-size JPEGs with labels, and a sentence about them."""
    words = run(HERE / 'make_photos.py', options.images or '', options.count, folder).output
    return Path(folder) / 'list.txt', words.strip()


def first_lines(list_path, count, folder):
    """A list of the first `count` lines of another one."""
    path = Path(folder) / f'first{count}.txt'
    lines = list_path.read_text(encoding='utf-8').splitlines(keepends=True)
    path.write_text(''.join(lines[:count]), encoding='utf-8')
    return path


def main(description, measure, child=None, count=600, rounds=5):
    """A benchmark's command line. `measure(options, folder)` returns the paragraphs to print;
    `child(*arguments)` is what the benchmark runs of itself in processes of their own."""
    if child and sys.argv[1:2] == ['--child']:
        child(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=description.split('\n')[0])
    if count:  # pictures
        parser.add_argument(
            '--images',
            metavar='FOLDER_OR_LIST',
            help='pictures to use; default: full-size JPEGs made of the demo photos',
        )
        parser.add_argument('--count', type=int, default=count, help=f'pictures; default {count}')
    parser.add_argument('--rounds', type=int, default=rounds, help=f'default {rounds}')
    parser.add_argument('--save', metavar='FILE.md', help='write the tables to a file, too')
    options = parser.parse_args()
    before = load()
    with tempfile.TemporaryDirectory(prefix='squeezenet-bench-') as folder:
        tables = measure(options, Path(folder))
    text = '\n\n'.join([*tables, f'Machine: {machine()} Load: {before}.'])
    print(text, flush=True)
    if options.save:
        Path(options.save).write_text(text + '\n', encoding='utf-8')
