"""What tests of model files share: a small sound model, and what has to hold of one that is read
or refused.
"""

import numpy as np
import pytest

from common import console
from common.console import UserError
from models.model_io import make_config, read_model, write_model


@pytest.fixture
def tensors(seeded_tensors):
    return seeded_tensors('1.1', class_num=3)


@pytest.fixture
def config():
    return make_config('1.1', None, 3, class_names=['brick', 'gräs', '砾石'])


@pytest.fixture
def model(tmp_path, tensors, config):
    """A sound parameter directory."""
    write_model(tmp_path / 'model', tensors, config)
    return tmp_path / 'model'


def assert_bits(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == np.float32, name
        assert found[name].tobytes() == value.tobytes(), name


def assert_refused(path, *words):
    """An error of one line that names `path` and holds `words`."""
    with pytest.raises((UserError, OSError)) as refusal:
        read_model(path)
    text = console.explain(refusal.value)
    assert text.count('\n') == 0
    assert len(text) < 400
    for word in words:
        assert str(word) in text


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}
