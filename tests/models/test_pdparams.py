""".pdparams files: what is read from them, and that nothing in them is ever run."""

import collections
import contextlib
import os
import pickle
import struct
import time
import tracemalloc

import numpy as np
import paddle
import pytest

from models.formats import pdparams
from models.formats.pdparams import PickleRefused, load_arrays

MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3) - 2.5


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


# --- what is read ----------------------------------------------------------------------------


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize('container', [dict, collections.OrderedDict])
def test_arrays_are_read_bit_for_bit_from_every_protocol(protocol, container):
    rng = np.random.default_rng(0)
    arrays = {
        'c': rng.normal(size=(3, 4, 2, 1)).astype(np.float32),
        'fortran': np.asfortranarray(rng.normal(size=(5, 3)).astype(np.float32)),
        'transposed': rng.normal(size=(5, 3)).astype(np.float32).T,
        'strided': rng.normal(size=(8, 3)).astype(np.float32)[::2, 1:],
        'double': rng.normal(size=4),
        'half': rng.normal(size=4).astype(np.float16),
        'big-endian': rng.normal(size=(2, 2)).astype('>f4'),
        'special': np.array([np.nan, -np.inf, -0.0, 1e-42], np.float32),
        'count': np.arange(3),
    }
    found = load_arrays(pickle.dumps(container(arrays), protocol))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize('protocol', [2, 3, 4])
def test_what_paddle_save_writes_is_read_bit_for_bit(protocol, tmp_path):
    paddle.seed(0)
    layer = paddle.nn.Conv2D(3, 4, 3)
    path = str(tmp_path / 'layer.pdparams')
    paddle.save(layer.state_dict(), path, protocol=protocol)
    found = load_arrays((tmp_path / 'layer.pdparams').read_bytes())
    assert list(found) == ['weight', 'bias']
    for name, tensor in layer.state_dict().items():
        assert found[name].tobytes() == tensor.numpy().tobytes()


def test_entries_that_are_no_arrays_are_left_out():
    content = {'StructuredToParameterName@@': {'a': 'conv_0.w'}, 'a': MATRIX, 'epoch': 3, 'n': None}
    assert list(load_arrays(pickle.dumps(content))) == ['a']


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('function', 'name'),
    [
        (os.system, 'system'),
        (eval, 'eval'),
        (exec, 'exec'),
        (getattr, 'getattr'),
        (open, 'open'),
        (np.load, 'numpy.load'),
        (np.frombuffer, 'numpy.frombuffer'),
        (pickle.loads, 'loads'),
        (bytearray, 'bytearray'),
    ],
)
@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_calls_are_refused_by_name_and_never_made(function, name, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argument = {os.system: 'touch run', exec: 'open("run", "w")', eval: 'open("run", "w")'}
    call = Call(function, argument.get(function, 'run'))
    with pytest.raises(PickleRefused, match=f'asks to run .*{name}; parameters need no such'):
        load_arrays(pickle.dumps({'a': call}, protocol))
    assert list(tmp_path.iterdir()) == []


def test_attributes_of_admitted_names_are_refused():
    """STACK_GLOBAL with a dotted name would reach numpy.ndarray.tofile."""
    code = b'\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.'
    with pytest.raises(PickleRefused, match=r'asks to run numpy\.ndarray\.tofile'):
        load_arrays(code)


NDARRAY, DTYPE = b'cnumpy\nndarray\n', b'cnumpy\ndtype\n'
RECONSTRUCT = b'cnumpy.core.multiarray\n_reconstruct\n)R'
F4 = DTYPE + b'U\x02f4\x85R'
DEEP = b')' + b'\x85' * 90_000  # a tuple in a tuple in a tuple ...


def array(shape, dtype=F4, content=b'C\x08' + bytes(8)):
    """Opcodes of a dictionary with one array of this state."""
    state = b'(K\x01' + shape + dtype + b'\x89' + content + b't'
    return b'\x80\x03}U\x01a' + RECONSTRUCT + state + b'bs.'


def test_the_opcodes_of_these_tests_make_an_array():
    assert load_arrays(array(b'K\x02\x85'))['a'].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ('code', 'words'),
    [
        (array(b'K\x03\x85'), 'shape and bytes do not agree'),
        (array(b'\x8a\x10' + b'\x01' * 16 + b'\x85'), 'shape and bytes do not agree'),
        (array(b'J\x00\x00\x00\x40J\x00\x00\x00\x40\x86'), 'shape and bytes do not agree'),
        (array(DEEP), 'shape and bytes do not agree'),
        (array(b'K\x02\x85', dtype=b'N'), 'shape and bytes do not agree'),
        (array(b'K\x01\x85', dtype=DTYPE + b'U\x01O\x85R'), "array of 'O'; floats are expected"),
        (array(b'K\x01\x85', dtype=DTYPE + DEEP + b'\x85R'), 'floats are expected'),
        (array(b'K\x02\x85', content=b'N'), 'shape and bytes do not agree'),
        (b'\x80\x03}' + DEEP + b'K\x01s.', 'has a tuple for a key'),
        (b'\x80\x03(' + DEEP + b'K\x01d.', 'has a tuple for a key'),
        (b'\x80\x03}(' + DEEP + b'K\x01u.', 'has a tuple for a key'),
        (b'\x80\x03' + NDARRAY + b'}U\x01xK\x01sb.', 'changes objects that are no arrays'),
        (b'\x80\x03]K\x01a.', 'holds a list; a dictionary of arrays is expected'),
        (b'\x80\x03K\x01.', 'holds a int'),
        (b'', 'no readable .pdparams file'),
        (b'\x00\x01\x02', 'no readable .pdparams file'),
        (b'\x80\x09.', 'no readable .pdparams file'),
    ],
)
def test_damage_and_malice_are_refused(code, words):
    with pytest.raises(PickleRefused, match=words) as refusal:
        load_arrays(code)
    assert len(str(refusal.value)) < 300


def test_more_steps_than_parameters_need_are_refused(monkeypatch):
    content = pickle.dumps({'a': MATRIX, 'b': [None] * 1000})
    assert list(load_arrays(content)) == ['a']
    monkeypatch.setattr(pdparams, 'MOST_STEPS', 1000)
    with pytest.raises(PickleRefused, match='has more than 1000 steps'):
        load_arrays(content)


def colliding(count):
    """Multiples of 2**61 - 1: Python hashes them all to 0."""
    return [i * (2**61 - 1) for i in range(1, count)]


@pytest.mark.parametrize(
    'code',
    [
        pickle.dumps(dict.fromkeys(colliding(20_000))),
        pickle.dumps({1 << 100_000: MATRIX}),
        pickle.dumps({1: MATRIX}),
        b'\x80\x02N' + b''.join(b'p%d\n' % i for i in colliding(20_000)) + b'}.',
    ],
    ids=['keys', 'digits', 'one', 'memo'],
)
def test_numbers_for_keys_are_refused_before_they_can_collide(code):
    start = time.process_time()
    with pytest.raises(PickleRefused, match=r'int for a key|of the memo'):
        load_arrays(code)
    assert time.process_time() - start < 2  # 20,000 take a minute where they collide


def test_instructions_that_parameters_need_not_are_refused_by_name():
    with pytest.raises(PickleRefused, match='has the instruction EMPTY_SET'):
        load_arrays(pickle.dumps({'a': {1, 2}}, 4))


@pytest.mark.parametrize(
    'code',
    [
        b'\x80\x04r\xff\xff\xff\x7f.',  # memo place 2**31: C's unpickler makes that much room
        b'\x80\x04X\xff\xff\xff\x7f',  # a string, bytes and a bytearray of 2 GB and more
        b'\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x00',
        b'\x80\x05\x96\x00\x00\x00\x00\x02\x00\x00\x00',
        b'\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x00.',  # a frame
        b'\x80\x04\x8b\xff\xff\xff\x7f',  # an integer
    ],
)
def test_sizes_that_a_file_only_claims_cost_no_memory(code):
    tracemalloc.start()
    try:
        with pytest.raises(PickleRefused):
            load_arrays(code)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20  # at its peak
    finally:
        tracemalloc.stop()


def bomb(large, function, calls=2000):
    """`large` goes to the memo, and `function` is called with it again and again."""
    call = b'h\x00h\x01\x85R'
    return b'\x80\x02' + large + b'q\x010' + function + b'q\x000(' + call * calls + b'l.'


@pytest.mark.parametrize(
    'code',
    [
        bomb(b'](' + b'N' * 80_000 + b'e', b'cbuiltins\ntuple\n'),
        bomb(b'X' + struct.pack('<I', 2_000_000) + b'a' * 2_000_000, b'c_codecs\nencode\n'),
        bomb(
            b'](' + b''.join(b'U\x05%05dN\x86' % i for i in range(20_000)) + b'e',
            b'ccollections\nOrderedDict\n',
        ),
    ],
    ids=['tuples', 'bytes', 'dictionaries'],
)
def test_large_things_copied_from_the_memo_are_refused(code):
    with pytest.raises(PickleRefused, match='expands to far more than it holds'):
        load_arrays(code)


@pytest.mark.parametrize('protocol', [0, 2, 4])
def test_a_truncated_file_is_refused_wherever_it_ends(protocol):
    content = pickle.dumps({'a': MATRIX, 'b': MATRIX.T}, protocol)
    for end in range(len(content)):
        with pytest.raises(PickleRefused):
            load_arrays(content[:end])


def test_any_flipped_bit_is_read_or_refused_never_more():
    content = pickle.dumps({'a': MATRIX, 'b': MATRIX.T}, 2)
    for position in range(len(content)):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[position] ^= 1 << bit
            with contextlib.suppress(PickleRefused):
                load_arrays(bytes(damaged))
