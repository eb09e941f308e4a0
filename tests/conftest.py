"""What several tests share: Caffe's golden data, weights, models, and a way to run the commands."""

import functools
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import common.paddle_setup  # noqa: F401 - before Paddle

import cv2
import numpy as np
import paddle
import pytest

from caffe_format import caffemodel
from models import model_io
from network import architecture

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / 'golden'
CAT, COFFEE = GOLDEN / 'cat_227.png', GOLDEN / 'coffee_227.png'
MEAN = np.array([104, 117, 123])  # BGR


for name in ('SIGINT', 'SIGHUP'):  # ignored behind `&` and nohup, and so by what a test starts
    number = getattr(signal, name, None)
    if number and signal.getsignal(number) == signal.SIG_IGN:
        usual = signal.default_int_handler if name == 'SIGINT' else signal.SIG_DFL
        signal.signal(number, usual)

paddle.set_device('cpu')  # the golden data are compared there, whatever the machine has


def pytest_configure(config):
    config.addinivalue_line('filterwarnings', 'ignore:No ccache found')  # said by Paddle's start


@functools.cache
def _seeded_tensors(version, bypass, class_num):
    rng = np.random.RandomState(97)
    tensors = {}
    for name, shape in architecture.parameter_shapes(version, bypass, class_num).items():
        scale = 0.1
        if name.endswith('.weight'):
            scale = np.sqrt(2 / np.prod(shape[1:])) / (64 if name == 'conv1.weight' else 1)
        tensors[name] = (rng.standard_normal(shape) * scale).astype(np.float32)
    return tensors


@pytest.fixture(scope='session')
def seeded_tensors():
    """Function (version, bypass=None, class_num=10) -> the weights of golden/README.md."""
    return lambda version, bypass=None, class_num=10: dict(
        _seeded_tensors(version, bypass, class_num)
    )


@pytest.fixture(scope='session')
def official_tensors():
    """The bundled Caffe weights, {name: float32 array}."""
    return caffemodel.read_net(ROOT / 'data' / 'squeezenet_v1.1.caffemodel').tensors


@pytest.fixture(scope='session')
def pixels():
    """The two golden pictures: int64 [2, 227, 227, 3] BGR."""
    names = ('cat_227.png', 'coffee_227.png')
    return np.stack([cv2.imread(str(GOLDEN / name)) for name in names]).astype(np.int64)


@pytest.fixture(scope='session')
def images(pixels):
    """The two golden pictures as the network takes them: float32 [2, 3, 227, 227]."""
    return np.ascontiguousarray((pixels - MEAN).transpose(0, 3, 1, 2).astype(np.float32))


@pytest.fixture(scope='session')
def activations():
    """Caffe's blobs: {key: array}, see golden/README.md."""
    with np.load(GOLDEN / 'activations.npz') as file:
        return dict(file)


@pytest.fixture(scope='session')
def model(tmp_path_factory, seeded_tensors):
    """Function (version, bypass, class_num, **make_config's) -> a parameter directory."""

    def write(version='1.1', bypass=None, class_num=3, **options):
        directory = tmp_path_factory.mktemp('model')
        config = model_io.make_config(version, bypass, class_num, **options)
        model_io.write_model(directory, seeded_tensors(version, bypass, class_num), config)
        return directory

    return write


@pytest.fixture(scope='session')
def three_classes(model):
    return model(class_names=['red brick', 'gräs', '砾石'])


@pytest.fixture
def pair(tmp_path):
    """A list of the two golden pictures with labels 0 and 1; one path holds spaces."""
    shutil.copy(CAT, tmp_path / 'a cat.png')
    shutil.copy(COFFEE, tmp_path / 'coffee.png')
    (tmp_path / 'val.txt').write_text('a cat.png 0\ncoffee.png 1\n')
    return tmp_path / 'val.txt'


@pytest.fixture
def run_script(tmp_path):
    """Function (script, *arguments) -> subprocess.CompletedProcess, run in tmp_path."""

    def run(script, *arguments):
        command = [sys.executable, ROOT / script, *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    return run
