"""Caffemodels that are meant to break their readers: crafted ones, and real ones with mutations.

`CRAFTED[kind]()` is a list of inputs thought up beforehand, `MUTATED[kind](rng)` is one drawn at
random. An input is {file name: bytes}, the files of one folder.
"""

import functools
import struct
from pathlib import Path

import numpy as np
from hostile_models import tensors
from mutations import FLOATS, INTEGERS, TEXTS, mutate_bytes

from caffe_format.layers import build_net
from caffe_format.proto import V1_TYPES, NetParameter, kind_of, name_of

OFFICIAL = Path(__file__).parents[2] / 'data' / 'squeezenet_v1.1.caffemodel'


def with_weights(net, weights, kind='data'):
    for layer in net.layer:
        if kind_of(layer) == 'Convolution':
            for part in ('weight', 'bias'):
                value = weights[f'{name_of(layer).replace("/", ".")}.{part}']
                layer.blobs.add(shape={'dim': value.shape}, **{kind: value.ravel().tolist()})
    return net


def as_v1(net):
    numbers = {name: number for number, name in V1_TYPES.items()}
    old = NetParameter(name=net.name, input=[b'data'])
    for layer in net.layer:
        if layer.bottom:
            row = old.layers.add(name=layer.name, type=numbers[kind_of(layer)])
            row.bottom.extend(layer.bottom)
            row.top.extend(layer.top)
            row.convolution_param.CopyFrom(layer.convolution_param)
            row.blobs.extend(layer.blobs)
    return old


def as_snapshot(net):
    """A snapshot of training by a fork: a data layer, raw data, batch normalisation, field 13."""
    snapshot = NetParameter()
    snapshot.CopyFrom(net)
    data = snapshot.layer[0]
    data.type, data.top[:] = b'Data', [b'data', b'label']
    data.ClearField('input_param')
    data.include.add(phase=0)
    data.transform_param.mean_value.extend([104, 117, 123])
    data.transform_param.crop_size, data.transform_param.scale = 224, 0.5
    for layer in snapshot.layer:
        for blob in layer.blobs:
            blob.raw_data_type, blob.raw_data = 2, np.array(blob.data, '<f2').tobytes()
            blob.ClearField('data')
        if kind_of(layer) == 'Pooling':
            layer.pooling_param.round_mode = 0
    at = [name_of(layer) for layer in snapshot.layer].index('relu_conv10')
    for kind, sizes in ((b'Scale', (2, 2)), (b'BatchNorm', (2, 2, 1))):
        norm = type(data)(name=kind, type=kind, bottom=[b'conv10'], top=[b'conv10'])
        for size in sizes:
            norm.blobs.add(shape={'dim': [size]}, data=[1.0] * size)
        snapshot.layer.insert(at, norm)
    return snapshot


@functools.lru_cache(None)
def caffe_nets():
    """The official file, small ones of each form, and wiring without weights."""
    small = with_weights(build_net('1.1', None, 2), tensors())
    return (
        build_net('1.0', 'complex', 5, 1),
        as_v1(build_net('1.1', 'simple', 5)),
        as_snapshot(small),
        as_v1(small),
        with_weights(build_net('1.1', 'complex', 2), tensors(2, 'complex'), 'double_data'),
        NetParameter.FromString(OFFICIAL.read_bytes()),
    )


def mutate_message(rng, message):
    """Change a field somewhere in a protobuf message: odd values, copies, deletions, new order."""
    while True:
        inner = [getattr(message, field.name) for field, _ in message.ListFields()]
        inner = [value for value in inner if hasattr(value, 'add') or hasattr(value, 'ListFields')]
        if not inner or rng.random() < 0.15:
            break
        value = rng.choice(inner)
        message = rng.choice(value) if hasattr(value, 'add') else value
    field = rng.choice(message.DESCRIPTOR.fields)
    value = getattr(message, field.name)
    try:
        if hasattr(value, 'add'):
            _mutate_rows(rng, value)
        elif rng.random() < 0.2:
            message.ClearField(field.name)
        elif hasattr(value, 'append'):
            value.extend([_odd(rng, field)] * rng.choice((1, 1, 4, 1000)))
            value[rng.randrange(len(value))] = _odd(rng, field)
        elif hasattr(value, 'ListFields'):
            value.SetInParent()
        else:
            setattr(message, field.name, _odd(rng, field))
    except (TypeError, ValueError, OverflowError):  # a number that its field cannot hold
        message.ClearField(field.name)


def _odd(rng, field):
    names = {field.CPPTYPE_FLOAT: FLOATS, field.CPPTYPE_DOUBLE: FLOATS}
    names[field.CPPTYPE_STRING] = [text.encode('utf-8', 'surrogatepass') for text in TEXTS]
    return rng.choice(names.get(field.cpp_type, INTEGERS))


def _mutate_rows(rng, rows):
    kind = rng.randrange(4)
    if kind == 0 or not rows:
        for _ in range(rng.choice((1, 2, 3000))):
            rows.add()
    elif kind == 1:
        rows.append(rng.choice(rows))
    elif kind == 2:
        del rows[rng.randrange(len(rows))]
    else:
        order = [type(rows[0]).FromString(row.SerializeToString()) for row in rows]
        i, k = rng.randrange(len(order)), rng.randrange(len(order))
        order[i], order[k] = order[k], order[i]
        del rows[:]
        rows.extend(order)


def _caffemodel(rng):
    nets = caffe_nets()
    net = NetParameter()
    net.CopyFrom(rng.choices(nets, (30, 30, 20, 10, 5, 5))[0])
    for _ in range(rng.choice((0, 1, 1, 1, 2, 4))):
        mutate_message(rng, net)
    content = net.SerializeToString()
    if rng.random() < 0.4:
        content = mutate_bytes(rng, content, [nets[0].SerializeToString()])
    return {'net.caffemodel': content}


def _field(number, content):
    """A length-delimited protobuf field."""
    head, length = b'', len(content)
    for value in (number << 3 | 2, length):
        while value > 127:
            head += bytes([value & 127 | 128])
            value >>= 7
        head += bytes([value])
    return head + content


def _crafted_caffemodel():
    claim = NetParameter()
    layer = claim.layer.add(name=b'conv1', type=b'Convolution')
    layer.blobs.add(shape={'dim': [2**20, 2**20, 1, 1]}, data=[0.0] * 1_200_000)
    layer.blobs.add(shape={'dim': [2**40]})
    cyclic = build_net('1.1', 'simple', 2)
    for row in cyclic.layer:
        row.bottom[:], row.top[:] = [b'a', b'a'] * 20, [b'a']
    nested = b''
    for _ in range(20_000):
        nested = _field(100, nested)
    blow_up = build_net('1.1', None, 2)
    for i in range(9000):
        blow_up.layer.add(name=b'e', type=b'Eltwise', bottom=[b'data', b'%d' % i] * 16, top=[b'x'])
    empty = struct.pack('<BB', 2 << 3 | 2, 0)
    contents = [
        *(net.SerializeToString() for net in (*caffe_nets(), claim, cyclic, blow_up)),
        nested,
        b'\x12\0' * 32_000_000,  # V1 layers: 3.9 GB once parsed
        _field(100, b'\x42\0' * 2_500_000),  # rules
        _field(100, _field(143, b'\x0a\0' * 2_500_000)),  # shapes of inputs
        _field(100, _field(7, _field(7, _field(1, b'\x01' * 2_500_000)))),  # axes
        _field(100, _field(7, b'\x2d\0\0\0\0' * 2_500_000)),  # floats, one by one
        b'\x0b' * 100_000,  # groups in groups
        empty * 2_500_000,
        empty * 9_999,
        _field(100, b'\x3a\x00' * 2_500_000),  # a layer of 2.5 million empty blobs
        _field(100, _field(7, _field(7, b'\x08\x01' * 2_500_000))),
        _field(100, b'\x1a\x00' * 2_500_000),
        b'\x1a\x00' * 2_500_000,
        _field(1, b'\xff' * 1_000_000) + empty,
    ]
    return [{'net.caffemodel': content} for content in contents]


CRAFTED = {'caffemodel': _crafted_caffemodel}
MUTATED = {'caffemodel': _caffemodel}
