"""compress.py as a command: sizes kept, honest words, every reader takes its file."""

import json

import numpy as np
import pytest
from conftest import ROOT

import compress as command
from common.console import UserError
from models import model_io
from models.formats import packed
from quantisation import search

PHOTOS = ROOT / 'data' / 'photos'
TEXTURES = ROOT / 'data' / 'textures'


@pytest.fixture(scope='module')
def model(tmp_path_factory, seeded_tensors):
    """A model directory of three classes with small inputs, so that it is quick."""
    folder = tmp_path_factory.mktemp('model')
    config = model_io.make_config('1.1', None, 3, class_names=['a', 'b', 'größe'])
    config['preprocessing'].update(resize_size=64, crop=64)
    model_io.write_model(folder, seeded_tensors('1.1', class_num=3), config)
    return folder


@pytest.fixture(scope='module')
def val_list(tmp_path_factory):
    path = tmp_path_factory.mktemp('lists') / 'val.txt'
    pictures = sorted(TEXTURES.rglob('*.jpg'))[:12]
    path.write_text(''.join(f'{p} {i % 3}\n' for i, p in enumerate(pictures)))
    return path


@pytest.fixture
def compress(run_script, model):
    return lambda *arguments: run_script('compress.py', '--model', model, *arguments)


def test_a_file_of_the_size_asked_for_that_every_command_reads(
    compress, run_script, val_list, tmp_path
):
    done = compress(
        '--pictures', PHOTOS, '--val_list', val_list, '--output', 'a.sqz', '--size', 90000
    )
    assert done.returncode == 0, done
    size = (tmp_path / 'a.sqz').stat().st_size
    assert 85000 < size <= 90000
    assert f'{size:,} bytes' in done.stdout
    for words in ('agree on', 'KL divergence', 'top-1', 'lost', 'gained', 'sign test', 'AlexNet'):
        assert words in done.stdout
    assert 'the same float32 network at the same speed' in done.stdout

    tensors, config = model_io.read_model(tmp_path / 'a.sqz')
    assert config['class_names'] == ['a', 'b', 'größe']
    assert config['preprocessing']['crop'] == 64

    listed = run_script('compress.py', '--list', 'a.sqz').stdout.splitlines()
    assert len(listed) == 1 + 26 + 2
    *rows, total = [int(line.split()[-1]) for line in listed[1:]]
    assert sum(rows) == total == size

    seen = run_script('infer.py', '--model', 'a.sqz', PHOTOS / 'cat.jpg')
    assert seen.returncode == 0 and 'größe' in seen.stdout
    done = run_script('caffe2paddle.py', '--to_caffe', 'a.sqz', '--output', 'a.caffemodel')
    assert done.returncode == 0, done
    back, _ = model_io.read_model(tmp_path / 'a.caffemodel')
    assert all(np.array_equal(back[name], value) for name, value in tensors.items())


def test_the_same_seed_gives_the_same_bytes_without_pictures_too(compress, tmp_path):
    for name, seed in (('a', 1), ('b', 1), ('c', 2)):
        done = compress('--output', f'{name}.sqz', '--size', 120000, '--seed', seed)
        assert done.returncode == 0, done
        assert 'no pictures: fitted on coloured noise' in done.stdout
    a, b, c = ((tmp_path / f'{name}.sqz').read_bytes() for name in 'abc')
    assert a == b != c
    assert packed.unpack(a).config['class_num'] == 3


@pytest.mark.parametrize(('version', 'bypass'), [('1.0', 'complex'), ('1.1', 'simple')])
def test_other_networks_are_compressed_too(run_script, seeded_tensors, tmp_path, version, bypass):
    """Padded conv10 without a ReLU, one class."""
    config = model_io.make_config(version, bypass, 1, 1, conv10_relu=False)
    config['preprocessing'].update(resize_size=64, crop=64)
    model_io.write_model(tmp_path / 'net', seeded_tensors(version, bypass, 1), config)
    done = run_script(
        'compress.py', '--model', 'net', '--output', 'a.sqz', '--size', 150000, '--pictures', PHOTOS
    )
    assert done.returncode == 0, done
    assert (tmp_path / 'a.sqz').stat().st_size <= 150000
    assert model_io.read_model(tmp_path / 'a.sqz')[1] == config


class Sizes:
    """Stands for a Compressor whose file of n bytes loses `lost(n)` points, and for its Judge."""

    def __init__(self, lost):
        self.lost = lost

    def usual_size(self):
        return 400

    def largest_size(self):
        return 1200

    def compress(self, size):
        return bytes(size)

    def compare(self, made):
        return self

    def loss(self):
        return self.lost


@pytest.mark.parametrize(('most', 'size'), [(1.0, 625), (5.0, 210), (0.1, None)])
def test_most_loss_finds_the_smallest_size_that_meets_it(monkeypatch, most, size):
    sizes = Sizes(0)
    sizes.compare = lambda made: Sizes(500 / len(made))
    monkeypatch.setattr(command.packed, 'pack', lambda made: made)
    made, kept = command.smallest(sizes, sizes, most)
    assert kept == (size is not None)
    if most == 1.0:
        assert 500 <= len(made) <= size
    elif kept:
        assert 100 <= len(made) <= 125


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--pictures', 'nowhere'], 'nowhere'),
        (['--pictures', 'empty'], 'empty: holds no pictures'),
        (['--most_loss', 1], '--most_loss needs pictures'),
        (['--size', 100], '100 bytes cannot be reached'),
    ],
)
def test_what_cannot_be_done_is_one_line(compress, tmp_path, arguments, words):
    (tmp_path / 'empty').mkdir()
    done = compress('--output', 'a.sqz', *arguments)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert words in line
    assert not (tmp_path / 'a.sqz').exists()


def test_a_size_that_rounding_cannot_reach_is_refused_with_what_can_be(monkeypatch):
    """The smallest that was made is told; below it there are sizes that only zeros would have."""
    compressor = object.__new__(search.Compressor)
    compressor.known, compressor.say = {'conv1': (np.zeros(10**6), None)}, lambda line: None
    monkeypatch.setattr(compressor, '_first_guess', lambda size: (1e-4, None), raising=False)
    monkeypatch.setattr(compressor, '_compressed', lambda *_: b'x' * 9000, raising=False)
    monkeypatch.setattr(search.packed, 'pack', lambda made: made)
    with pytest.raises(UserError, match='5000 bytes cannot be reached; 9000 can'):
        compressor.compress(5000)
    assert len(compressor.compress(9000)) == 9000


def test_list_of_no_packed_file_is_one_line(run_script, tmp_path):
    (tmp_path / 'a.sqz').write_text(json.dumps({}))
    done = run_script('compress.py', '--list', 'a.sqz')
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert 'a.sqz: is no packed file' in line
