"""The authors' Deep Compression file, built here by its documented format, and damaged."""

import numpy as np
import pytest

from common.console import UserError
from models.formats import deep_compression
from models.model_io import read_model
from network import architecture

SHAPES = {
    name: shape
    for name, shape in architecture.parameter_shapes('1.0').items()
    if name.endswith('.weight')
}


def sparse_layers(seed=0):
    """{name: (codebook [256], bias [O], places int64 [n], codes uint8 [n])}, a few weights each."""
    rng = np.random.default_rng(seed)
    layers = {}
    for name, shape in SHAPES.items():
        codebook = rng.standard_normal(256).astype('<f4')
        codebook[0] = 0
        places = np.sort(rng.choice(np.prod(shape), 31, replace=False))
        bias = rng.standard_normal(shape[0]).astype('<f4')
        layers[name] = codebook, bias, places, rng.integers(1, 256, 31).astype(np.uint8)
    return layers


def encode(places, codes):
    """(codes, gaps), a filler of code 0 and gap 15 for each stretch of 16 zeros."""
    found, gaps, last = [], [], -1
    for place, code in zip(places, codes):
        while place - last > 16:
            found.append(0)
            gaps.append(15)
            last += 16
        found.append(code)
        gaps.append(place - last - 1)
        last = place
    return found, gaps


def net_file(layers):
    counts, parts = [], []
    for codebook, bias, places, codes in layers.values():
        found, gaps = encode(places, codes)
        counts.append(len(found))
        gaps = gaps + [0] * (len(gaps) % 2)
        pairs = bytes(low | high << 4 for low, high in zip(gaps[::2], gaps[1::2]))
        parts += [codebook.tobytes(), bias.tobytes(), bytes(found), pairs]
    return np.array(counts, '<u4').tobytes() + b''.join(parts)


@pytest.fixture(scope='module')
def content():
    return net_file(sparse_layers())


def refused(tmp_path, content, words):
    (tmp_path / 'x.net').write_bytes(content)
    with pytest.raises(UserError, match=words) as refusal:
        read_model(tmp_path / 'x.net')
    assert str(refusal.value).startswith(str(tmp_path / 'x.net'))


@pytest.mark.parametrize('name', ['x.net', 'without_suffix'])
def test_every_weight_is_where_the_gaps_put_it(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    tensors, config = read_model(tmp_path / name)
    assert (config['version'], config['conv10_pad'], config['class_num']) == ('1.0', 1, 1000)
    assert list(tensors) == list(architecture.parameter_shapes('1.0'))
    for weight, (codebook, bias, places, codes) in sparse_layers().items():
        wanted = np.zeros(np.prod(SHAPES[weight]), np.float32)
        wanted[places] = codebook[codes]
        assert tensors[weight].tobytes() == wanted.tobytes(), weight
        assert tensors[weight.replace('.weight', '.bias')].tobytes() == bias.tobytes()


def test_every_truncation_is_refused(tmp_path, content):
    for end in (0, 3, 103, 104, 5000, len(content) - 1):
        refused(tmp_path, content[:end], 'is no Deep Compression file')
    refused(tmp_path, content + b'\0', 'is no Deep Compression file')


def test_counts_that_do_not_fit_are_refused(tmp_path, content):
    forged = np.frombuffer(content, '<u4', 26).copy()
    for value in (0, 2**32 - 1):
        forged[3] = value
        refused(tmp_path, forged.tobytes() + content[104:], 'is no Deep Compression file')


def test_an_entry_beyond_the_weight_is_refused(tmp_path):
    layers = sparse_layers()
    codebook, bias, _, codes = layers['conv1.weight']
    size = np.prod(SHAPES['conv1.weight'])
    layers['conv1.weight'] = codebook, bias, np.array([size + 5]), codes[:1]
    refused(tmp_path, net_file(layers), f'conv1 has an entry at place {size + 5}')


def test_a_codebook_must_begin_with_zero(tmp_path):
    layers = sparse_layers()
    layers['conv10.weight'][0][0] = 3
    refused(tmp_path, net_file(layers), 'conv10 has a codebook whose entry 0 is 3')


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    layers = sparse_layers()
    layers['conv10.weight'][1][0] = np.nan
    refused(tmp_path, net_file(layers), 'conv10.bias holds NaN')


def test_a_giant_file_is_not_read(tmp_path):
    with open(tmp_path / 'x.net', 'wb') as file:
        file.truncate(deep_compression.MOST_BYTES + 1)
    with pytest.raises(OSError, match='at most 16,777,216 are read'):
        read_model(tmp_path / 'x.net')
