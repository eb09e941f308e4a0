"""Read the arrays of a `.pdparams` file without executing anything that is in it.

A .pdparams file is a pickle, and a pickle is a program. This reader lets it build plain containers
and, in place of NumPy's classes, stand-ins that only remember what they were given.
"""

import io
import pickle
import pickletools
import struct

import numpy as np


class PickleRefused(Exception):
    """The pickle asks for something that parameters do not need, or is damaged."""


class _Dtype:
    """Stands in for numpy.dtype: a kind such as 'f4', and a byte order."""

    def __init__(self, code, *_):
        self.code, self.order = code, '='

    def __setstate__(self, state):
        self.order = state[1]

    def real(self):
        if self.code not in ('f2', 'f4', 'f8', 'i4', 'i8') or self.order not in ('<', '>', '='):
            kind = self.code if isinstance(self.code, str) else type(self.code).__name__
            raise PickleRefused(f'holds an array of {kind!r}; floats are expected')
        return np.dtype(self.order + self.code)


class _Array:
    """Stands in for numpy.ndarray while the pickle is read."""

    def __init__(self, *_):
        self.state = None

    def __setstate__(self, state):
        self.state = state

    def real(self):
        """The array, if the bytes are as many as the shape says."""
        try:
            _, shape, dtype, fortran_order, content = self.state
            array = np.frombuffer(content, dtype.real())
            return array.reshape(shape, order='F' if fortran_order else 'C')
        except (TypeError, ValueError, AttributeError):
            raise PickleRefused('holds an array whose shape and bytes do not agree') from None


def _from_buffer(content, dtype, shape, order):
    array = _Array()
    array.state = (1, shape, dtype, order == 'F', content)
    return array


def _tuple(items=()):
    return tuple(items)


def _dictionary(items=()):
    return {_key(key): value for key, value in items}


def _latin1(text, encoding='latin1'):
    return text.encode('latin1')


ADMITTED = {
    ('numpy', 'ndarray'): _Array,
    ('numpy', 'dtype'): _Dtype,
    ('collections', 'OrderedDict'): _dictionary,
    ('builtins', 'tuple'): _tuple,
    ('__builtin__', 'tuple'): _tuple,  # the name of protocol 2
    ('_codecs', 'encode'): _latin1,
}
for _package in ('numpy.core', 'numpy._core'):  # NumPy 1 and 2
    ADMITTED[_package + '.multiarray', '_reconstruct'] = _Array
    ADMITTED[_package + '.numeric', '_frombuffer'] = _from_buffer

MOST_STEPS = 1_000_000  # a SqueezeNet takes 2000; a step may cost 100 bytes of memory
# Opcodes of classes, sets, extensions and outside objects: parameters need none of them.
UNUSED_OPCODES = 'INST OBJ NEWOBJ NEWOBJ_EX PERSID BINPERSID EXT1 EXT2 EXT4 ' + (
    'EMPTY_SET ADDITEMS FROZENSET NEXT_BUFFER READONLY_BUFFER'
)


class _Unpickler(pickle._Unpickler):
    """The unpickler in Python: the one in C allocates memory as a damaged file tells it to."""

    def __init__(self, content):
        super().__init__(io.BytesIO(content))
        self.room = len(content)

    def find_class(self, module, name):
        try:
            return ADMITTED[module, name]
        except KeyError:
            raise PickleRefused(
                f'asks to run {module}.{name}; parameters need no such thing, so it is not read'
            ) from None

    def load_reduce(self):
        # From the memo, every call could be given the same large thing, and would copy it.
        arguments = self.stack[-1]
        self.room -= sum(len(value) for value in arguments if hasattr(value, '__len__'))
        if self.room < 0:
            raise PickleRefused('expands to far more than it holds')
        super().load_reduce()

    def load_build(self):
        if not isinstance(self.stack[-2], (_Array, _Dtype)):
            raise PickleRefused('changes objects that are no arrays')
        super().load_build()

    def load_setitem(self):
        value, key = self.stack.pop(), self.stack.pop()
        self.stack[-1].update({_key(key): value})

    def load_setitems(self):
        items = self.pop_mark()
        self.stack[-1].update(_dictionary(zip(items[::2], items[1::2])))

    def load_dict(self):
        items = self.pop_mark()
        self.append(_dictionary(zip(items[::2], items[1::2])))

    def load_bytearray8(self):
        (count,) = struct.unpack('<Q', self.read(8))
        self.append(self.read(count))  # unlike the original, allocates what is there alone


def _dispatch():
    """Opcode -> method: the original table without UNUSED_OPCODES, and with the methods above."""
    table = dict(pickle._Unpickler.dispatch)
    for name in UNUSED_OPCODES.split():
        del table[getattr(pickle, name)[0]]
    for name in ('REDUCE', 'BUILD', 'SETITEM', 'SETITEMS', 'DICT', 'BYTEARRAY8'):
        table[getattr(pickle, name)[0]] = getattr(_Unpickler, f'load_{name.lower()}')
    return table


_Unpickler.dispatch = _dispatch()


def _key(key):
    if not isinstance(key, (str, int)):  # hashing a tuple nested 100,000 deep would crash Python
        raise PickleRefused(f'has a {type(key).__name__} for a key; names are expected')
    return key


def load_arrays(content):
    """{name: array} of a pickled dictionary, as paddle.save writes a state_dict.

    Entries that are no arrays (Paddle's table of names, say) are left out. Raises PickleRefused.
    """
    try:
        for count, _ in enumerate(pickletools.genops(content)):
            if count > MOST_STEPS:
                raise PickleRefused(f'has more than {MOST_STEPS} steps; parameters need far fewer')
        found = _Unpickler(content).load()
        if not isinstance(found, dict):
            kind = type(found).__name__
            raise PickleRefused(f'holds a {kind}; a dictionary of arrays is expected')
        items = map(_named_array, found.items())
        return {name: array for name, array in items if array is not None}
    except PickleRefused:
        raise
    except Exception as error:  # a damaged pickle can fail in any way at all
        raise PickleRefused(f'is no readable .pdparams file: {error!r:.200}') from None


def _named_array(item):
    name, value = item
    if isinstance(value, tuple) and len(value) == 2:  # paddle.save wraps tensors: (name, array)
        value = value[1]
    return str(name), value.real() if isinstance(value, _Array) else None
