"""Read the arrays of a `.pdparams` file without executing anything that is in it.

A .pdparams file is a pickle, and a pickle is a program for a small machine with a stack. The
standard library's pickletools takes it apart; here are the few instructions of the machine that
parameters need. In place of NumPy's classes they build stand-ins that only remember what they were
given.
"""

import pickletools

import numpy as np

MOST_STEPS = 200_000  # a SqueezeNet takes 2000; a step takes microseconds and up to 100 bytes


class PickleRefused(Exception):
    """The pickle asks for something that parameters do not need, or is damaged."""


class _Dtype:
    """Stands in for numpy.dtype: a kind such as 'f4', and a byte order."""

    def __init__(self, code, *_):
        self.code, self.order = code, '='

    def build(self, state):
        self.order = state[1]

    def real(self):
        if self.code not in ('f2', 'f4', 'f8', 'i4', 'i8') or self.order not in ('<', '>', '='):
            kind = self.code if isinstance(self.code, str) else type(self.code).__name__
            raise PickleRefused(f'holds an array of {kind!r:.99}; floats are expected')
        return np.dtype(self.order + self.code)


class _Array:
    """Stands in for numpy.ndarray while the pickle is read."""

    def __init__(self, *_):
        self.state = None

    def build(self, state):
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


def _key(key):
    """Keys are names: a tuple nested 100,000 deep would crash Python when it is hashed, and
    integers can be chosen so that they all fall on one place of the table."""
    if not isinstance(key, str):
        raise PickleRefused(f'has a {type(key).__name__} for a key; names are expected')
    return key


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

VALUES = {
    'INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4', 'FLOAT', 'BINFLOAT', 'STRING',
    'BINSTRING', 'SHORT_BINSTRING', 'BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8', 'BYTEARRAY8',
    'UNICODE', 'BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8',
}  # fmt: skip
MADE = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
EMPTY = {'EMPTY_TUPLE': tuple, 'EMPTY_LIST': list, 'EMPTY_DICT': dict}
TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}


class _Machine:
    """What a pickle works on: a stack, marks in it, and a memo of things to be used again.

    `room` is how many items and bytes calls may still copy: from the memo, every call could be
    given the same large thing.
    """

    def __init__(self, room):
        self.stack, self.marks, self.memo, self.room = [], [], {}, room

    def step(self, name, argument):
        """One instruction of those that make, move or keep values."""
        stack = self.stack
        if name in VALUES:
            stack.append(argument)
        elif name in MADE:
            stack.append(MADE[name])
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name in TUPLES:
            stack[-TUPLES[name] :] = [tuple(stack[-TUPLES[name] :])]
        elif name == 'MARK':
            self.marks.append(len(stack))
        elif name == 'POP':
            stack.pop()
        elif name == 'POP_MARK':
            self.since_mark()
        elif name == 'DUP':
            stack.append(stack[-1])
        elif name in ('PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE'):
            self.remember(len(self.memo) if argument is None else argument)
        elif name in ('GET', 'BINGET', 'LONG_BINGET'):
            stack.append(self.memo[argument])
        elif name not in ('PROTO', 'FRAME'):
            self.assemble(name, argument)

    def assemble(self, name, argument):
        """One instruction of those that put values together."""
        stack = self.stack
        if name == 'TUPLE':
            stack.append(tuple(self.since_mark()))
        elif name == 'LIST':
            stack.append(self.since_mark())
        elif name == 'APPENDS':
            items = self.since_mark()
            self.last(list).extend(items)
        elif name == 'APPEND':
            value = stack.pop()
            self.last(list).append(value)
        elif name in ('SETITEM', 'SETITEMS', 'DICT'):
            items = self.since_mark() if name != 'SETITEM' else [stack.pop(-2), stack.pop()]
            if name == 'DICT':
                stack.append({})
            self.last(dict).update(_dictionary(zip(items[::2], items[1::2])))
        elif name == 'GLOBAL':
            stack.append(_find(*argument.split(' ', 1)))
        elif name == 'STACK_GLOBAL':
            stack[-2:] = [_find(*stack[-2:])]
        elif name == 'REDUCE':
            arguments = stack.pop()
            self.spend(arguments)
            stack.append(stack.pop()(*arguments))
        elif name == 'BUILD':
            state = stack.pop()
            if not isinstance(stack[-1], (_Array, _Dtype)):
                raise PickleRefused('changes objects that are no arrays')
            stack[-1].build(state)
        else:
            raise PickleRefused(f'has the instruction {name}, which parameters do not need')

    def since_mark(self):
        """What was pushed since the last mark, taken off."""
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def last(self, kind):
        """The top of the stack, which an instruction adds to."""
        if not isinstance(self.stack[-1], kind):
            raise PickleRefused('changes objects that are no lists or dictionaries')
        return self.stack[-1]

    def remember(self, place):
        if not 0 <= place <= MOST_STEPS:  # as for keys: places can be chosen to collide
            raise PickleRefused(f'uses place {place:.3g} of the memo')
        self.memo[place] = self.stack[-1]

    def spend(self, arguments):
        self.room -= sum(len(value) for value in arguments if hasattr(value, '__len__'))
        if self.room < 0:
            raise PickleRefused('expands to far more than it holds')


def _find(module, name):
    if not (isinstance(module, str) and isinstance(name, str)):
        raise PickleRefused('asks to run something without a name')
    if (module, name) not in ADMITTED:
        raise PickleRefused(
            f'asks to run {module:.99}.{name:.99}; parameters need no such thing, so it is not read'
        )
    return ADMITTED[module, name]


def load_arrays(content):
    """{name: array} of a pickled dictionary, as paddle.save writes a state_dict.

    Entries that are no arrays (Paddle's table of names, say) are left out. Raises PickleRefused.
    """
    try:
        found = _run(content)
        if not isinstance(found, dict):
            kind = type(found).__name__
            raise PickleRefused(f'holds a {kind}; a dictionary of arrays is expected')
        items = map(_named_array, found.items())
        return {name: array for name, array in items if array is not None}
    except PickleRefused:
        raise
    except Exception as error:  # a damaged pickle can fail in any way at all
        raise PickleRefused(f'is no readable .pdparams file: {error!r:.200}') from None


def _run(content):
    machine = _Machine(len(content))
    for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if count > MOST_STEPS:
            raise PickleRefused(f'has more than {MOST_STEPS} steps; parameters need far fewer')
        if opcode.name != 'STOP':  # the last one
            machine.step(opcode.name, argument)
    return machine.stack.pop()


def _named_array(item):
    name, value = item
    if isinstance(value, tuple) and len(value) == 2:  # paddle.save wraps tensors: (name, array)
        value = value[1]
    return name, value.real() if isinstance(value, _Array) else None
