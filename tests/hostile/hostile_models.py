"""Models in safetensors, with their configurations and checkpoints, that are meant to break their
readers: crafted ones, and real ones with mutations; and the tensors of hostile models of all kinds.

CRAFTED and MUTATED as in hostile_caffe.py.
"""

import functools
import json
import struct
from dataclasses import asdict

import numpy as np
import safetensors.numpy
from mutations import NESTED, mutate_bytes, mutate_json

from models import model_io
from network import architecture
from runs import checkpoint
from runs.state import RunState


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
    return model_io.make_config('1.1', None, 2, class_names=['a', 'b'], source={'file': 'x'})


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


CRAFTED = {
    'safetensors': _crafted_safetensors,
    'config': _crafted_config,
    'checkpoint': _crafted_checkpoint,
}
MUTATED = {'safetensors': _safetensors, 'config': _config, 'checkpoint': _checkpoint}
