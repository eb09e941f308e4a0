"""Model files that are meant to break their readers: crafted ones, and real ones with mutations.

CRAFTED and MUTATED as in hostile_caffe.py.
"""

import functools
import gzip
import io
import json
import pickle
import pickletools
import struct
import tarfile
from dataclasses import asdict

import numpy as np
import safetensors.numpy
from mutations import NESTED, mutate_bytes, mutate_json

from models import paddle_v2, parameters
from network import architecture
from training import checkpoint
from training.state import RunState


@functools.lru_cache(None)
def tensors(classes=2, bypass=None):
    rng = np.random.default_rng(0)
    shapes = architecture.parameter_shapes('1.1', bypass, classes)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def mutate_tensors(rng):
    """The tensors with one or two missing, renamed, of another type or shape, or not finite."""
    values = dict(tensors())
    for _ in range(rng.choice((0, 1, 1, 2))):
        name = rng.choice(sorted(values))
        value, kind = values.pop(name), rng.randrange(6)
        if kind == 1:
            values[rng.choice(('x', 'conv1.weight', 'conv10.bias', name.upper()))] = value
        elif kind == 2:
            types = ('f2', 'f8', 'i8', 'u1', '?', 'c8')
            values[name] = (np.abs(value) * 9).astype(rng.choice(types))
        elif kind == 3:
            values[name] = value.reshape(rng.choice(((-1,), (1, -1), (*value.shape, 1))))
        elif kind == 4:
            values[name] = value[: rng.randrange(len(value))]
        elif kind == 5:
            values[name] = np.full_like(value, rng.choice((np.nan, np.inf, 3e38)))
    return values


# --- safetensors, config.json, checkpoints --------------------------------------------------------


def join_safetensors(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack('<Q', len(text)) + text + data


def split_safetensors(content):
    (size,) = struct.unpack_from('<Q', content)
    return json.loads(content[8 : 8 + size]), content[8 + size :]


@functools.lru_cache(None)
def config():
    return parameters.make_config('1.1', None, 2, class_names=['a', 'b'], source={'file': 'x'})


@functools.lru_cache(None)
def safetensors_file(dtype='float32'):
    values = {name: value.astype(dtype) for name, value in tensors().items()}
    return safetensors.numpy.save(values, {'config': json.dumps(config())})


def _safetensors(rng):
    content = safetensors_file(rng.choice(('float32', 'float16', 'float64')))
    if rng.random() < 0.4:
        metadata = {'config': json.dumps(mutate_json(rng, config()))}
        content = safetensors.numpy.save(mutate_tensors(rng), rng.choice((None, metadata)))
        return {'model.safetensors': content}
    if rng.random() < 0.7:
        header, data = split_safetensors(content)
        header = mutate_json(rng, header)
        if isinstance(header, dict) and rng.random() < 0.3:
            for name in rng.sample(sorted(header), min(3, len(header))):
                if isinstance(header[name], dict):
                    types = ('F64', 'F16', 'BF16', 'F8_E4M3', 'I64', 'BOOL', 'C64', 'U8', 'F4', '?')
                    header[name]['dtype'] = rng.choice(types)
        content = join_safetensors(header, data)
    return {'model.safetensors': mutate_bytes(rng, content) if rng.random() < 0.5 else content}


def _crafted_safetensors():
    header, data = split_safetensors(safetensors_file())
    first = {'dtype': 'F32', 'shape': [2**40], 'data_offsets': [0, 4]}
    huge = {'dtype': 'F32', 'shape': [2**62, 2**62], 'data_offsets': [0, len(data)]}
    none = {'dtype': 'F32', 'shape': [0, 2**40], 'data_offsets': [0, 0]}
    meta = {'config': '[' * 100_000}
    empty = {**tensors(), 'conv10.weight': np.zeros((0, 512, 1, 1)), 'conv10.bias': np.zeros(0)}
    beyond = {**tensors(), 'conv10.bias': np.array([1e300, 0])}
    contents = [
        *(safetensors_file(dtype) for dtype in ('float32', 'float16', 'float64')),
        *(join_safetensors({'a': value}, data) for value in (first, huge, none)),
        join_safetensors({**header, 'conv1.weight': header['conv1.bias']}, data),  # overlap
        join_safetensors({'__metadata__': meta}, b''),
        join_safetensors({**header, '__metadata__': meta}, data),
        join_safetensors(b'[' * 1_000_000, b''),
        struct.pack('<Q', 2**63) + b'{}',
        struct.pack('<Q', 90 << 20) + b'{' * 1000,
        safetensors.numpy.save(empty),
        safetensors.numpy.save(beyond),
        safetensors.numpy.save({f't{i}': np.zeros(0) for i in range(50_000)}),
    ]
    return [{'model.safetensors': content} for content in contents]


@functools.lru_cache(None)
def plain_safetensors():
    return safetensors.numpy.save(tensors())


def _with_config(text):
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    return {'model.safetensors': plain_safetensors(), 'config.json': text}


def _config(rng):
    text = json.dumps(mutate_json(rng, config())).encode()
    return _with_config(mutate_bytes(rng, text) if rng.random() < 0.3 else text)


def _crafted_config():
    texts = [
        b'',
        b'[' * 100_000,
        b'{"a":' * 100_000,
        b'9' * 100_000,
        b'"\\ud800"',
        b'\xff',
        b'null',
    ]
    odd = [{'source': NESTED}, {'class_names': ['\ud800', 'b']}, {'class_num': 2**62}]
    odd += [{'class_names': ['../../outside', '/etc/passwd']}, {'conv10_pad': True}]
    odd += [{'conv10_pad': 1.0}, {'class_num': 2.0}, {'version': 1.1}, {'extra': '\ud800'}]
    odd += [{'preprocessing': {'resize': NESTED}}, {'preprocessing': {'x' * 10**6: 'x' * 10**6}}]
    odd += [{'model': '../elsewhere/model.safetensors', 'source': {'file': '/etc/passwd'}}]
    odd += [{'conv10_pad': 'x' * 10**6}, {'version': NESTED}, {'class_names': 'ab'}]
    odd += [{'preprocessing': {'mean': [float('nan')] * 3}}, {'class_num': 10**400}]
    return [_with_config(text) for text in texts + [{**config(), **change} for change in odd]]


@functools.lru_cache(None)
def _state():
    """What train.py keeps beside the tensors."""
    lists = {'train_list': {'labels': '0'}, 'val_list': {'labels': '0'}}
    return asdict(RunState(config(), {'trainer': 1, 'batch_size': 32}, lists, 9, iteration=7))


def checkpoint_file(state):
    """A checkpoint of `state` (or of a text, as it is) with a checksum that fits."""
    text = state if isinstance(state, str) else json.dumps(state)
    values = {**tensors(), **{f'velocity/{k}': v for k, v in tensors().items()}}
    metadata = {'state': text, 'sha256': checkpoint._checksum(values, text)}
    header, data = split_safetensors(safetensors.numpy.save(values))
    return join_safetensors({'__metadata__': metadata, **header}, data)  # always in this order


@functools.lru_cache(None)
def _sound_checkpoint():
    return checkpoint_file(_state())


def _checkpoint(rng):
    content = _sound_checkpoint()
    if rng.random() < 0.4:
        content = checkpoint_file(mutate_json(rng, _state()))
    else:
        header, data = split_safetensors(content)
        if rng.random() < 0.5:
            header = mutate_json(rng, header)
        content = mutate_bytes(rng, join_safetensors(header, data))
    files = {f'iteration_{rng.choice((8, 10**9)):08d}.safetensors': content}
    if rng.random() < 0.1:
        files['iteration_00000007.safetensors'] = _sound_checkpoint()
    return files


def _crafted_checkpoint():
    texts = ['[' * 100_000, '[]', 'null', '1', '"x"', '{}', '9' * 10_000, '']
    files = [_sound_checkpoint(), b'', safetensors.numpy.save(tensors())]
    files += [checkpoint_file(text) for text in texts]
    files += [checkpoint_file({**_state(), 'config': {}})]
    return [{'iteration_00000008.safetensors': content} for content in files]


# --- pickles, and PaddlePaddle v2's directories ---------------------------------------------------


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


@functools.lru_cache(None)
def _v2_files():
    files = {}
    for name, value in tensors().items():
        layer, kind = name.rsplit('.', 1)
        content = paddle_v2.HEADER.pack(0, 4, value.size) + value.tobytes()
        files[f'_{layer}.{"w0" if kind == "weight" else "wbias"}'] = content
    return files


def _v2(rng):
    files = dict(_v2_files())
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice(sorted(files))
        kind = rng.randrange(4)
        if kind == 0:
            del files[name]
        elif kind == 1:
            files[rng.choice(('x', '__', '_CONV1.w0', '_conv10.bias', name + '0'))] = files[name]
        else:
            files[name] = mutate_bytes(rng, files[name], [b'', _v2_files()['_conv1.w0']])
    if rng.random() < 0.3:
        files['config.json'] = json.dumps(mutate_json(rng, config())).encode()
    return files


def _crafted_v2():
    whole, head = _v2_files(), paddle_v2.HEADER
    inputs = [whole, {}, {'_conv1.w0': b''}]
    for count in (2**63, 2**62, 0, 2**64 - 1):
        inputs.append({**whole, '_conv10.w0': head.pack(0, 4, count)})
    inputs.append({**whole, '_conv10.wbias': head.pack(0, 4, 0)})
    inputs.append({**whole, '_conv1.w0': head.pack(0, 4, 1) + struct.pack('<f', float('nan'))})
    for classes in (2**55, 2**60, 2**63, 10**30):
        text = json.dumps({'version': '1.1', 'class_num': classes}).encode()
        empty = {'_conv10.w0': head.pack(0, 4, 0), '_conv10.wbias': head.pack(0, 4, 0)}
        inputs += [{**whole, 'config.json': text}, {**whole, **empty, 'config.json': text}]
    return inputs


# --- tars of PaddlePaddle v2 ----------------------------------------------------------------------


def tar_file(files, form=tarfile.USTAR_FORMAT, **member):
    """A tar of {name: content}, each of whose headers has the values `member`."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode='w', format=form) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for field, value in member.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


@functools.lru_cache(None)
def _whole_tar():
    return tar_file(_v2_files())


def _tar(rng):
    content = _whole_tar() if rng.random() < 0.7 else tar_file(_v2(rng))
    if rng.random() < 0.8:
        content = mutate_bytes(rng, content, [b'', _whole_tar()[:2048]])
    if rng.random() < 0.3:
        content = gzip.compress(content, 1, mtime=0)
        content = mutate_bytes(rng, content) if rng.random() < 0.7 else content
    return {'model.tar': content}


def _crafted_tar():
    whole = _v2_files()
    name = next(iter(whole))
    links = tar_file(dict.fromkeys(whole, b''), type=tarfile.SYMTYPE, linkname='/etc/passwd')
    contents = [
        _whole_tar(),
        links,
        gzip.compress(_whole_tar()),
        gzip.compress(_whole_tar())[:-4],
        gzip.compress(bytes(300 << 20), 1),
        gzip.compress(gzip.compress(_whole_tar())),
        b'\x1f\x8b' + bytes(100),
        bytes(257) + b'ustar' + bytes(250),
        tar_file({f'../../{key}': value for key, value in whole.items()}),
        tar_file({f'/{key}': value for key, value in whole.items()}),
        tar_file({name: whole[name]}, type=tarfile.GNUTYPE_SPARSE),
        tar_file({name: whole[name]}, type=tarfile.DIRTYPE),
        tar_file({name: whole[name]}, type=tarfile.LNKTYPE, linkname=name),
        tar_file(dict.fromkeys(map(str, range(20_000)), b'')),
        tar_file({name: b''}, tarfile.PAX_FORMAT, pax_headers={'size': '9' * 30}),
        tar_file({name: b''}, tarfile.PAX_FORMAT, pax_headers={'GNU.sparse.realsize': '9' * 15}),
        tar_file({name: b''}, tarfile.PAX_FORMAT, pax_headers={'path': 'x' * 1_000_000}),
    ]
    return [{'model.tar': content} for content in contents]


CRAFTED = {
    'safetensors': _crafted_safetensors,
    'config': _crafted_config,
    'pdparams': _crafted_pdparams,
    'v2': _crafted_v2,
    'tar': _crafted_tar,
    'checkpoint': _crafted_checkpoint,
}
MUTATED = {
    'safetensors': _safetensors,
    'config': _config,
    'pdparams': _pdparams,
    'v2': _v2,
    'tar': _tar,
    'checkpoint': _checkpoint,
}
