"""Pickles of tensors (.pdparams) that are meant to break their readers, programs of random opcodes
and calls of commands among them. CRAFTED and MUTATED as in hostile_caffe.py.
"""

import functools
import pickle
import pickletools
import struct

import numpy as np
from hostile_models import mutate_tensors, tensors
from mutations import mutate_bytes


class Command:
    """Pickles as a call of `function`: what an attacker would do."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@functools.lru_cache(None)
def pickles():
    """State dicts as paddle.save writes them, by several protocols: whole ones and tiny ones."""
    tiny = {'conv1.weight': np.ones((2, 3), np.float32), 'conv10.bias': np.zeros(2, '>f8')}
    whole = {name: Command(tuple, (name, value)) for name, value in tensors().items()}
    table = {'StructuredToParameterName@@': {name: name for name in tensors()}}
    tiny_ones = [pickle.dumps({**tiny, **table}, protocol) for protocol in range(6)]
    return [*tiny_ones, pickle.dumps({**whole, **table}, 2), pickle.dumps({**tensors()}, 4)]


ADMITTED = (b'numpy\nndarray', b'numpy\ndtype', b'collections\nOrderedDict', b'builtins\ntuple')
ADMITTED += (b'numpy.core.multiarray\n_reconstruct', b'numpy._core.numeric\n_frombuffer')
ADMITTED += (b'_codecs\nencode', b'os\nsystem', b'builtins\neval', b'builtins\ngetattr')


OPCODES = [opcode for opcode in pickletools.opcodes if opcode.code not in '.\x80\x82\x83\x84']
TEXT_ARGUMENTS = {'S': b"'f4'", 'c': None, 'i': b'os\nsystem', 'P': b'x'}  # others: a number


def _program(rng):
    """A pickle of random opcodes, nearly all of them with an argument that fits."""
    code = bytearray(b'\x80\x04')
    for _ in range(rng.choice((5, 30, 300))):
        opcode = rng.choice(OPCODES)
        code += opcode.code.encode('latin1')
        size = opcode.arg.n if opcode.arg else 0
        number = rng.choice((0, 1, 2, 5)) if rng.random() < 0.99 else 2**31
        if opcode.code == 'c':
            code += rng.choice(ADMITTED) + b'\n'
        elif size == pickletools.UP_TO_NEWLINE:
            code += TEXT_ARGUMENTS.get(opcode.code, b'%d' % number) + b'\n'
        elif size > 0:
            code += (number % 2 ** (8 * size)).to_bytes(size, 'little')
        elif size < 0:  # a count of bytes, then these
            size = {'1': 1, '4': 4, '8': 8}[opcode.arg.name[-1]]
            code += (number % 2 ** (8 * size)).to_bytes(size, 'little') + b'f4<a1'[:number]
    return bytes(code) + b'.'


def _pdparams(rng):
    if rng.random() < 0.4:
        return {'model.pdparams': _program(rng)}
    if rng.random() < 0.2:
        return {'model.pdparams': pickle.dumps(mutate_tensors(rng), rng.randrange(1, 6))}
    seeds = pickles()
    content = rng.choice(seeds[:6]) if rng.random() < 0.8 else rng.choice(seeds[6:])
    return {'model.pdparams': mutate_bytes(rng, content, seeds[:6])}


def _array(shape=b'K\x01\x85', code=b'U\x02f4', content=b'U\x04abcd', order=b'U\x01<'):
    """A pickle of one array whose shape, type, bytes and byte order are pickle opcodes."""
    dtype = b'cnumpy\ndtype\n' + code + b'K\x00K\x01\x87R(K\x03' + order + b'NNNJ\0\0\0\0K\x00tb'
    whole = b'(K\x01' + shape + dtype + b'\x89' + content + b'tb'
    return b'\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\n)R' + whole + b's.'


def _crafted_pdparams():
    commands = [Command(eval, 'open("outside", "w")'), Command(exec, 'import os; os.abort()')]
    commands += [Command(getattr, np.ndarray, 'tofile'), Command(__import__, 'os')]
    doubled = b'N' + b'2\x86' * 60  # a tuple of 2**60 Nones
    deep = b')' + b'\x85' * 500_000
    many = b'\x80\x02](' + b'N' * 500_000 + b'eq\x00'
    contents = [
        *pickles(),
        *(pickle.dumps({'conv1.weight': command}, 2) for command in commands),
        *(b'\x80\x02c' + name + b'\n)R.' for name in ADMITTED),
        *(_array(code=code) for code in (doubled, deep, b'U\x02O8', b'U\x02i8', b'K\x01', b'}')),
        *(_array(order=order) for order in (doubled, deep, b'N', b'U\x01|')),
        _array(),
        _array(shape=b'\x8a\x0a' + b'\x01' * 10 + b'\x85'),
        _array(shape=b'\x8a\x06' + b'\x01' * 6 + b'K\x00\x86', content=b'U\0'),
        *(_array(shape=shape) for shape in (doubled, deep, b'J\xff\xff\xff\xff\x85', b'U\1a')),
        *(_array(content=content) for content in (doubled, deep, b'N', b'}', b'X\1\0\0\0a')),
        b'\x80\x02}' + deep + b'Ns.',
        b'\x80\x02}' + doubled + b'Ns.',
        pickle.dumps({10**9000: 1}, 2),
        pickle.dumps({i * (2**61 - 1): None for i in range(1, 20_000)}, 2),  # all hash to 0
        b'\x80\x02N' + b''.join(b'p%d\n' % (i * (2**61 - 1)) for i in range(20_000)) + b'.',
        pickle.dumps({f'conv{i}.weight': np.zeros((3, 3, 3, 3)) for i in range(26)}, 2),
        pickle.dumps({f'conv{i}.bias': np.zeros(3) for i in range(26)}, 2),
        pickle.dumps({'_conv._conv._conv.weight': np.zeros(3), '_conv.bias': np.zeros(3)}, 2),
        pickle.dumps({'_conv.weight': np.zeros((1, 1, 1, 7)), '_conv9.bias': np.zeros(2)}, 2),
        pickle.dumps({'\ud800': np.zeros(2)}, 2),
        pickle.dumps({'conv1.weight': np.zeros(2, object)}, 2),
        b'\x80\x02' + b'(' * 2_000_000 + b'.',
        b'\x80\x02' + b'}' * 2_000_000 + b'.',
        b'\x80\x02}' + b'2' * 2_000_000 + b'.',
        many + (b'cbuiltins\ntuple\nh\x00\x85R') * 20_000 + b'.',
        b'\x80\x02' + b'N\x940' * 1_000_000 + b'}.',
        b'\x80\x02B\xff\xff\xff\x7fabc.',
        b'\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.',
        b'\x80\x02X' + struct.pack('<I', 1_000_000) + b'a' * 1_000_000 + b'q\x00}'
        + b'0c_codecs\nencode\nh\x00\x85R' * 20_000 + b'.',
        b'r2147483647\n.',
        b'I' + b'9' * 1_000_000 + b'\n.',
        b'X\x00\x00\x10\x00' + b'\xff' * (1 << 20) + b'.',
    ]  # fmt: skip
    return [{'model.pdparams': content} for content in contents]


CRAFTED = {'pdparams': _crafted_pdparams}
MUTATED = {'pdparams': _pdparams}
