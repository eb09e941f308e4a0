"""The limits of pictures hold in every command, also where Paddle loads OpenCV first."""

import subprocess
import sys
from pathlib import Path

import hostile_pictures
import pytest

ROOT = Path(__file__).resolve().parents[2]
# VmHWM, not ru_maxrss, which begins with what the process that started this one has held.
MEASURED = (
    'import os, re, runpy, sys; sys.argv = sys.argv[1:]\n'
    'sys.path.insert(0, os.path.dirname(sys.argv[0]))\n'
    'try: runpy.run_path(sys.argv[0], run_name="__main__")\n'
    'finally: print(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])'
)


@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='Linux tells the memory')
@pytest.mark.parametrize(
    'arguments',
    [
        ['infer.py', 'big.png'],
        ['infer.py', '--val_list', 'list.txt', '--num_workers', 0],
        ['train.py', '--train_list', 'list.txt', '--val_list', 'list.txt', '--num_workers', 0],
    ],
    ids=lambda arguments: ' '.join(map(str, arguments[:2])),
)
def test_a_picture_of_too_many_pixels_is_refused_in_little_memory(tmp_path, arguments):
    """OpenCV reads its limit once, when it is loaded: a file of 219 kB took 1.7 GB."""
    (tmp_path / 'big.png').write_bytes(hostile_pictures.png(15_000, 15_000, 15_000))
    (tmp_path / 'list.txt').write_text('big.png 0\nbig.png 1\n')
    script, *rest = arguments
    command = [sys.executable, '-c', MEASURED, ROOT / script, *map(str, rest)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    message = 'big.png: 15000x15000: 225000000 pixels; at most 178956970 are read'
    assert sum(message in line for line in done.stderr.splitlines()) == 1
    assert 'Traceback' not in done.stderr
    assert int(done.stdout.splitlines()[-1]) < 1_200_000  # kB


def test_OpenCVs_own_limits_are_set_before_paddle_loads_it():
    code = (
        'import common.paddle_setup, cv2, os, numpy as np\n'
        'from common.opencv_setup import MAX_PIXELS\n'
        'assert os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] == str(MAX_PIXELS)\n'
        'try: cv2.imdecode(np.frombuffer(b"P5 15000 15000 255 ", np.uint8), 1); print("read")\n'
        'except cv2.error: print("refused")\n'
        'cv2.imdecode(np.frombuffer(b"P5 10 10 255 ", np.uint8), 1)'
    )
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ('refused\n', '')
