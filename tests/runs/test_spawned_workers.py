"""Training with workers where there is no fork, as on macOS and Windows; tried on any system."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DATA = ROOT / 'data'

# Every process runs the top of the program again, and so starts its workers in this way.
PROGRAM = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import train
from pictures import workers
workers.START_METHOD = 'spawn'
if __name__ == '__main__':
    sys.exit(train.main())
"""


def test_spawned_workers_change_nothing(tmp_path):
    """They evaluate and compute frozen features on Paddle Inference, each in its own process."""
    (tmp_path / 'program.py').write_text(PROGRAM)
    for name in ('train', 'val'):
        lines = (DATA / f'{name}.txt').read_text().splitlines(keepends=True)[::9]
        (tmp_path / f'{name}.txt').write_text(''.join(lines))
    flags = '--model', DATA / 'squeezenet_v1.1.caffemodel', '--data_dir', DATA
    flags += '--train_list', tmp_path / 'train.txt', '--freeze', 'fire9', '--batch_size', 3
    flags += '--max_iter', 1, '--lr', 0.01
    for program, *more in (
        (ROOT / 'train.py', '--num_workers', 0, '--output', 'none'),
        (tmp_path / 'program.py', '--num_workers', 1, '--output', 'spawned'),
    ):
        command = [sys.executable, *map(str, (program, *flags, *more))]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (0, '')
    for file in ('last/model.safetensors', 'report/per_class.csv'):
        same = [(tmp_path / folder / file).read_bytes() for folder in ('none', 'spawned')]
        assert same[0] == same[1], file
