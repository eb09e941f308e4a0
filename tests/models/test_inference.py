"""A network on Paddle Inference: its results, and what it leaves behind: no memory, no files."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import paddle
import pytest
from conftest import ROOT

from models import inference, model_io
from models.inference import Predictor, build_program
from network.config import make_config
from network.preprocessing import Preprocessing

SMALL = Preprocessing(resize_size=67, crop=67)
PICTURE = np.random.default_rng(0).normal(0, 50, (1, 3, 67, 67)).astype(np.float32)

PREDICT = """
import sys
import common.paddle_setup
import numpy, tempfile
from common import console
from models import model_io
from models.inference import Predictor, build_program

@console.one_line_errors
def main():
    tensors, config = model_io.read_model(sys.argv[1])
    for before in sys.argv[2:]:
        exec(before)
    size = config['preprocessing']['crop']
    pictures = numpy.random.default_rng(0).normal(0, 50, (1, 3, size, size)).astype('f4')
    print(repr(Predictor(build_program(tensors, config))(pictures)[0].tolist()))

sys.exit(main())
"""


def predict(model, *before, **environment):
    """The CompletedProcess that prints the logits of PICTURE, after the lines `before`."""
    command = [sys.executable, '-c', PREDICT, str(model), *before]
    environment = {**os.environ, **environment}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def model(tmp_path, seeded_tensors):
    tensors, config = small_model(seeded_tensors)
    model_io.write_model(tmp_path / 'model', tensors, config)
    return tmp_path / 'model'


def small_model(seeded_tensors, **options):
    tensors = seeded_tensors('1.1', options.get('bypass'), 3)
    config = {**make_config('1.1', None, 3, preprocessing=SMALL), **options}
    return tensors, config


def in_dygraph(tensors, config):
    network = model_io.build_network(tensors, config)
    network.eval()
    return network(paddle.to_tensor(PICTURE)).numpy()


@pytest.mark.parametrize(
    'options',
    [{}, {'bypass': 'simple'}, {'bypass': 'complex'}, {'conv10_pad': 1}, {'conv10_relu': False}],
)
def test_logits_are_those_of_the_network(options, seeded_tensors):
    tensors, config = small_model(seeded_tensors, **options)
    found = Predictor(build_program(tensors, config))(PICTURE)
    expected = in_dygraph(tensors, config)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_second_program_of_a_kind_has_its_own_weights(seeded_tensors):
    tensors, config = small_model(seeded_tensors)
    first = Predictor(build_program(tensors, config))
    other = {name: value * np.float32(0.9) for name, value in tensors.items()}
    second = Predictor(build_program(other, config))
    for predictor, weights in ((first, tensors), (second, other)):
        expected = in_dygraph(weights, config)
        assert np.abs(predictor(PICTURE) - expected).max() < 1e-4 * np.abs(expected).max()


def test_tensors_of_another_size_make_no_program(seeded_tensors):
    tensors, config = small_model(seeded_tensors)
    with pytest.raises(ValueError, match='not those of the configuration'):
        build_program({**tensors, 'conv10.bias': np.zeros(4, np.float32)}, config)


def memory():
    """Resident MB of this process."""
    return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGESIZE') / 1e6


@pytest.mark.skipif(not Path('/proc/self/statm').exists(), reason='Linux tells the memory')
def test_evaluations_one_after_the_other_keep_no_memory(seeded_tensors):
    """Paddle's own way loses a network's parameters, 3 MB here, with every one that it builds."""
    tensors, config = small_model(seeded_tensors)
    for count in range(30):
        Predictor(build_program(tensors, config))(PICTURE)
        if count == 5:
            before = memory()
    assert memory() - before < 20


def test_old_form_of_paddles_programs_works_too(model):
    new, old = predict(model), predict(model, FLAGS_enable_pir_api='0')
    assert (old.returncode, old.stderr) == (0, '')
    np.testing.assert_allclose(eval(old.stdout), eval(new.stdout), rtol=1e-4)


# --- the temporary folder ----------------------------------------------------------------------


@pytest.mark.parametrize('most', [0, 50_000, 2_500_000])
def test_network_that_cannot_be_written_whole_gets_one_line_and_no_answer(most, model):
    """The real fault: write(2) fails in the middle of Paddle's files, or of ours."""
    pytest.importorskip('resource')
    limit = f'import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}))'
    done = predict(model, limit)
    assert (done.returncode, done.stdout) == (1, '')
    assert done.stderr.count('\n') == 1, done.stderr


def test_full_temporary_folder_is_not_needed(model, tmp_path):
    """4 KB of room: for links, not for a network of 3 MB."""
    full = tmp_path / 'full'
    full.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=8k,nr_inodes=20', 'none', str(full)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip('only root may mount a file system')
    try:
        (full / 'ballast').write_bytes(bytes(4096))
        done = predict(model, TMPDIR=str(full))
        left = [path.name for path in full.iterdir()]
    finally:
        subprocess.run(['umount', str(full)], check=True)
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout == predict(model).stdout
    assert left == ['ballast']


def test_no_temporary_folder_gets_one_line(model, tmp_path):
    where = f'tempfile.tempdir = {str(tmp_path / "none")!r}'
    done = predict(model, where)
    assert (done.returncode, done.stdout) == (1, '')
    assert str(tmp_path / 'none') in done.stderr
    assert done.stderr.count('\n') == 1


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    return tmp_path


def folder_of(process, temporary, age=3600):
    folder = temporary / f'squeezenet-{process}-abc'
    folder.mkdir()
    (folder / 'network.json').symlink_to('/proc/self/fd/99')
    os.utime(folder, (time.time() - age, time.time() - age))
    return folder


@pytest.fixture
def dead():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, '-c', ''])
    process.wait()
    return process.pid


def test_what_a_killed_process_left_is_cleared(temporary, dead, seeded_tensors):
    folder_of(dead, temporary)
    build(seeded_tensors)
    assert list(temporary.iterdir()) == []


def test_what_may_be_anothers_is_left_alone(temporary, dead, seeded_tensors):
    kept = {folder_of(os.getppid(), temporary), folder_of(dead, temporary, age=10)}
    for name in ('squeezenet-photos', 'squeezenet-12', 'other'):
        (temporary / name).mkdir()
        kept.add(temporary / name)
    build(seeded_tensors)
    assert set(temporary.iterdir()) == kept


def build(seeded_tensors):
    inference._frame.cache_clear()
    return build_program(*small_model(seeded_tensors))
