"""Directories and tars of PaddlePaddle v2 that are meant to break their readers.

CRAFTED and MUTATED as in hostile_caffe.py.
"""

import functools
import gzip
import io
import json
import struct
import tarfile

from hostile_models import config, tensors
from mutations import mutate_bytes, mutate_json

from models.formats import paddle_v2


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
        gzip.compress(_whole_tar(), mtime=0),
        gzip.compress(_whole_tar(), mtime=0)[:-4],
        gzip.compress(bytes(300 << 20), 1, mtime=0),
        gzip.compress(gzip.compress(_whole_tar(), mtime=0)),
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


CRAFTED = {'v2': _crafted_v2, 'tar': _crafted_tar}
MUTATED = {'v2': _v2, 'tar': _tar}
