"""The packed file: levels come back, weights have the same bits everywhere, damage is refused."""

import hashlib
import json
import zlib

import numpy as np
import pytest

from common.console import UserError
from models.formats import packed
from models.formats.packed import Packed, PackedLayer
from models.model_io import make_config
from network import architecture


def random_layer(rng, rows, columns, most=6, classes=1, dependent=True):
    levels = np.rint(rng.standard_normal((rows, columns)) * most / 3).astype(np.int16)
    return PackedLayer(
        levels,
        rng.integers(0, 40, rows).astype(np.uint8),
        rng.integers(0, 40, columns).astype(np.uint8),
        rng.integers(0, classes, rows).astype(np.uint8),
        rng.integers(0, classes, columns).astype(np.uint8),
        rng.integers(-300, 300, rows).astype(np.int16),
        -20,
        -8,
        dependent,
    )


def random_packed(version='1.1', bypass=None, class_num=3, seed=0, **options):
    rng = np.random.default_rng(seed)
    config = make_config(version, bypass, class_num)
    layers = {
        name: random_layer(rng, shape[0], int(np.prod(shape[1:])), **options)
        for name, shape in packed.layer_shapes(config).items()
    }
    return Packed(layers, config, 3, 2)


@pytest.fixture(scope='module')
def small():
    return random_packed(classes=3)


@pytest.fixture(scope='module')
def content(small):
    return packed.pack(small)


def assert_same(found, expected):
    assert found.config == expected.config
    assert (found.row_bits, found.column_bits) == (expected.row_bits, expected.column_bits)
    assert list(found.layers) == list(expected.layers)
    for name, layer in expected.layers.items():
        for field, value in layer._asdict().items():
            assert np.array_equal(getattr(found.layers[name], field), value), (name, field)


def resealed(rest):
    """A file of these bytes whose checksum is right."""
    head = packed.HEAD.pack(packed.MAGIC, packed.VERSION, hashlib.sha256(rest).digest())
    return head + rest


def deflated(text):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(text) + packer.flush()


def with_header(content, change):
    """The file with `change` made to its header, and a right checksum."""
    rest = content[packed.HEAD.size :]
    (size,) = packed.LENGTH.unpack_from(rest)
    header = json.loads(zlib.decompress(rest[4 : 4 + size], -15))
    change(header)
    text = deflated(json.dumps(header).encode())
    return resealed(packed.LENGTH.pack(len(text)) + text + rest[4 + size :])


@pytest.mark.parametrize('most', [1, 6, 60, 30000])
def test_what_is_packed_comes_back(most):
    """Also where levels need `extra`, which the widest are nearly all in."""
    wanted = random_packed(most=most, classes=4)
    assert_same(packed.unpack(packed.pack(wanted)), wanted)


@pytest.mark.parametrize('version', architecture.VERSIONS)
@pytest.mark.parametrize('bypass', architecture.BYPASSES)
def test_every_network_comes_back(version, bypass, tmp_path):
    wanted = random_packed(version, bypass, 1)
    size = packed.write_packed(tmp_path / 'a.sqz', wanted)
    assert size == (tmp_path / 'a.sqz').stat().st_size
    assert_same(packed.load(tmp_path / 'a.sqz'), wanted)
    tensors, config = packed.read_packed(tmp_path / 'a.sqz')
    shapes = architecture.parameter_shapes(version, bypass, 1)
    assert {name: value.shape for name, value in tensors.items()} == shapes
    assert all(value.dtype == np.float32 for value in tensors.values())
    assert config == wanted.config


def slow_weights(layer, row_bits, column_bits):
    """The docstring of the format, word for word, one weight at a time; VVC's state table."""

    def step(a, m):
        return (1 + (a % 2**m) / 2**m) * 2.0 ** (a // 2**m)

    table = [(0, 2), (2, 0), (1, 3), (3, 1)]  # H.266, 7.3.11.11 (residual_coding)
    rows, columns = layer.levels.shape
    order = sorted(range(columns), key=lambda j: -int(layer.column_steps[j]))
    weights = np.zeros((rows, columns), np.float32)
    for i in range(rows):
        state = 0
        for j in order:
            k = n = int(layer.levels[i, j])
            if layer.dependent:
                n = 2 * k - (state >> 1) * ((k > 0) - (k < 0))
                state = table[state][k & 1]
            row = step(int(layer.row_steps[i]), row_bits)
            column = step(int(layer.column_steps[j]), column_bits) * 2.0**layer.exponent
            weights[i, j] = np.float32(float(np.float32(n * row)) * column)
    return weights


@pytest.mark.parametrize('dependent', [True, False])
def test_weights_are_those_of_the_documented_format(dependent):
    layer = random_layer(np.random.default_rng(3), 20, 77, most=9, dependent=dependent)
    found = packed.weights(layer, 4, 2)
    assert found.dtype == np.float32
    assert found.tobytes() == slow_weights(layer, 4, 2).tobytes()


def test_class_names_of_imagenet_take_no_room(tmp_path):
    names = packed.read_class_names(packed.DATA / 'synset_words.txt')
    rng = np.random.default_rng(0)
    plain = make_config('1.1', None, 1000)
    layers = {
        name: random_layer(rng, shape[0], int(np.prod(shape[1:])), most=1)
        for name, shape in packed.layer_shapes(plain).items()
    }
    named = {**plain, 'class_names': names}
    without = packed.pack(Packed(layers, plain, 2, 2))
    content = packed.pack(Packed(layers, named, 2, 2))
    assert len(content) < len(without) + 20
    assert packed.unpack(content).config == named
    other = {**plain, 'class_names': [*names[1:], 'größe']}
    assert packed.unpack(packed.pack(Packed(layers, other, 2, 2))).config == other


def test_every_flipped_byte_is_refused(content):
    for at in [*range(60), *range(60, len(content), 4999), len(content) - 1]:
        damaged = bytearray(content)
        damaged[at] ^= 0x10
        with pytest.raises(UserError):
            packed.unpack(bytes(damaged))


def test_every_truncation_and_every_tail_is_refused(content):
    for end in [*range(60), *range(60, len(content), 4999), len(content) - 1]:
        with pytest.raises(UserError):
            packed.unpack(content[:end])
    with pytest.raises(UserError):
        packed.unpack(content + b'\0')


def test_without_its_checksum_a_damaged_stream_is_refused_or_whole(content):
    """A forger makes the checksum fit: what is read then must still be a whole network."""
    rest = content[packed.HEAD.size :]
    refused = 0
    for at in [*range(0, 400, 7), *range(400, len(rest), 5003)]:
        damaged = bytearray(rest)
        damaged[at] ^= 0x04
        try:
            found = packed.unpack(resealed(bytes(damaged)))
        except UserError as error:
            assert '\n' not in str(error) and len(str(error)) < 800
            refused += 1
        else:
            assert list(found.layers) == list(packed.layer_shapes(found.config))
    assert refused > 10


CHANGES = {
    'has other keys': lambda h: h.update(extra=1),
    'has row_bits outside': lambda h: h.update(row_bits=9),
    'class_num is True': lambda h: h['config'].update(class_num=True),
    "configuration: 'version'": lambda h: h['config'].pop('version'),
    'has over 100000 classes': lambda h: h['config'].update(class_num=2**62),
    'has a layer that is not sound': lambda h: h['layers'][3].__setitem__(0, 2**70),
    'has not 26 layers': lambda h: h['layers'].pop(),
    'has a packing outside': lambda h: h['packing'].__setitem__(0, 6),
    'promises': lambda h: h['lengths'].__setitem__(0, 7),
    'has 11 streams, not': lambda h: h['lengths'].pop(),
    'row_steps': lambda h: h['config'].update(class_num=5),
    'has no true or false': lambda h: h.update(imagenet_names=3),
}


@pytest.mark.parametrize('words', CHANGES)
def test_a_forged_header_is_refused_in_words(content, words):
    with pytest.raises(UserError, match=words) as refusal:
        packed.unpack(with_header(content, CHANGES[words]))
    assert len(str(refusal.value)) < 200


def test_another_version_is_named(content):
    other = bytearray(content)
    other[4] = 2
    with pytest.raises(UserError, match='is version 2 of the packed format'):
        packed.unpack(bytes(other))


def test_a_bomb_is_not_inflated(content):
    bomb = deflated(bytes(64 << 20))
    with pytest.raises(UserError, match='the header has more than'):
        packed.unpack(resealed(packed.LENGTH.pack(len(bomb)) + bomb))


def test_a_giant_file_is_not_read(tmp_path):
    with open(tmp_path / 'giant.sqz', 'wb') as file:
        file.truncate((16 << 20) + 1)
    with pytest.raises(OSError, match='has 16,777,217 bytes; at most 16,777,216 are read'):
        packed.load(tmp_path / 'giant.sqz')


def test_the_bundled_file_is_the_bundled_network():
    path = packed.DATA / 'squeezenet_v1.1.sqz'
    assert path.stat().st_size <= 400_000
    tensors, config = packed.read_packed(path)
    assert (config['version'], config['class_num']) == ('1.1', 1000)
    assert tensors['conv10.weight'].shape == (1000, 512, 1, 1)
    assert config['source']['file'] == 'squeezenet_v1.1.caffemodel'
