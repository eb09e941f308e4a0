"""Run every benchmark and print their tables: python benchmarks/run_all.py

Takes --images FOLDER_OR_LIST, --rounds N and --save FILE.md as each of them does.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from timing import HERE, progress

BENCHMARKS = 'evaluation', 'reading', 'layers', 'training', 'updates', 'converting', 'growth'
WITHOUT_PICTURES = 'layers', 'updates', 'converting'


def main():
    parser = argparse.ArgumentParser(description='Run every benchmark and print their tables.')
    parser.add_argument('--images', metavar='FOLDER_OR_LIST', help='default: made of demo photos')
    parser.add_argument('--rounds', type=int, help="default: each benchmark's own")
    parser.add_argument('--save', metavar='FILE.md', help='write the tables to a file, too')
    options = parser.parse_args()
    texts, failed = [], []
    for name in BENCHMARKS:
        command = [sys.executable, HERE / f'{name}.py']
        if options.images and name not in WITHOUT_PICTURES:
            command += ['--images', options.images]
        if options.rounds:
            command += ['--rounds', str(options.rounds)]
        start = time.perf_counter()
        progress(f'{name}.py')
        result = subprocess.run(command, stdout=subprocess.PIPE, encoding='utf-8')
        progress(f'{name}.py took {time.perf_counter() - start:.0f} s')
        if result.returncode:
            failed.append(name)
        texts.append(result.stdout)
        print(result.stdout, flush=True)
    if options.save:
        Path(options.save).write_text('\n'.join(texts), encoding='utf-8')
    if failed:
        sys.exit(f'run_all.py: failed: {", ".join(failed)}')


if __name__ == '__main__':
    main()
