"""infer.py computes by the OpenVINO in Paddle's wheel: the same golden data, and nothing left."""

import json
import os
import platform
import subprocess
import sys

from common.paddle_setup import has_openvino

import numpy as np
import pytest
from conftest import CAT, COFFEE, ROOT

needs_openvino = pytest.mark.skipif(not has_openvino(), reason="Paddle's wheel has no OpenVINO")


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ('linux', 'x86_64'), reason='other wheels have none'
)
def test_paddle_still_brings_it():
    """Where not, infer.py takes oneDNN, and README's speeds are no longer true."""
    assert has_openvino()


@needs_openvino
def test_golden_tests_pass_with_it():
    """Caffe's blobs and logits, with the tolerances of test_golden.py."""
    files = [ROOT / 'tests' / 'network' / 'test_golden.py', ROOT / 'tests/models/test_inference.py']
    chosen = 'not keep_no_memory and not old_form'
    command = [sys.executable, '-m', 'pytest', '-q', *files, '-k', chosen, '-p', 'no:cacheprovider']
    environment = {**os.environ, 'TEST_BY_OPENVINO': '1'}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture
def many(tmp_path):
    """A list of 30 pictures, more than NumPy computes, in more than one worker's batch."""
    path = tmp_path / 'val.txt'
    path.write_text(f'{CAT} 285\n{COFFEE} 967\n' * 15)
    return path


def infer(folder, *arguments, **environment):
    """(its first lines, its results) of infer.py in `folder`."""
    command = [sys.executable, ROOT / 'infer.py', *arguments, '--output', folder / 'out.json']
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=120, cwd=folder,
        env={**os.environ, 'TMPDIR': str(folder), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count('\n') <= 1  # progress
    found = json.loads((folder / 'out.json').read_text())['pictures']
    (folder / 'out.json').unlink()
    return done.stdout, [[entry['probability'] for entry in one['top']] for one in found]


@needs_openvino
@pytest.mark.parametrize('workers', [0, 2])
def test_infer_uses_it_gives_what_onednn_gives_and_leaves_nothing(workers, many, tmp_path):
    common = '--val_list', many, '--num_workers', workers
    said, found = infer(tmp_path, *common)
    assert f'device: CPU, float32, workers: {workers} (by OpenVINO)' in said
    assert list(tmp_path.iterdir()) == [many]  # it would keep what it compiled where it runs
    said, wanted = infer(tmp_path, *common, FLAGS_enable_pir_api='1')
    assert 'OpenVINO' not in said
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    assert not np.array_equal(found, wanted)
