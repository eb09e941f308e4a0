"""Parameter files: what `--model` reads, and the parameter directories that the commands write.

A parameter directory holds `model.safetensors` (float32, named as in `architecture`), which carries
its configuration, and config.json, a copy of that for people. Also read are Caffe's `.caffemodel`,
single `.safetensors` and `.pdparams` files, and PaddlePaddle v2's directories and tars. Nothing
that a file contains is ever executed.
"""

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from common.console import UserError, notice
from common.files import (
    DATA,
    atomic_write,
    one_writer,
    partial_neighbour,
    read_regular_file,
    sync_folder,
)
from models.formats import (
    packed,
    paddle_names,
    paddle_v2,
    pdparams,
    refusals,
    tar,
    torchvision_names,
)
from models.formats.deep_compression import is_net, read_net
from models.tensors import check_tensors, finish, recognise, refuse_other_types
from network.config import (
    ModelOverrides,
    check_config,
    complete,
    config_text,
    make_config,
    parse_config,
    refuse_contradiction,
    settle,
)

# of data/squeezenet_v1.1.caffemodel
BUNDLED_SHA256 = '33daaf1cea77eb1ee99565a4692ae2e132b2a7568fcb2c7521c75cd5a2a661bb'
CONVERTED = Path('caffe_params')  # what caffe2paddle.py writes
MOST_BYTES = 1 << 30  # of one file; a SqueezeNet of 100,000 classes has a fifth of that
WRITTEN_SECONDS = 10  # for which a model that changes while it is read is read again
NO_OVERRIDES = ModelOverrides()


def default_model():
    """Path of the model that commands take without --model: caffe_params, else the bundled one."""
    return CONVERTED if CONVERTED.is_dir() else DATA / 'squeezenet_v1.1.caffemodel'


def read_model(path, told=NO_OVERRIDES, say=notice):
    """Returns (tensors, config): {name: float32 array} in the network's order, and make_config's.

    `told` is what the user says of what the file may leave open. What neither says is assumed, and
    `say` is called with a line on it. Raises UserError or OSError, of one line on what is wrong.
    """
    path = Path(path)
    deadline = time.monotonic() + WRITTEN_SECONDS
    while True:
        before = _state_of_files(path)
        try:
            return _read_model(path, told, say)
        except (UserError, OSError):
            time.sleep(0.05)
            unchanged = _state_of_files(path) == before  # else half of it may have been older
            if unchanged or time.monotonic() > deadline:
                raise


def _state_of_files(path):
    """What changes when another process writes the model at `path`."""
    folder = path if path.is_dir() else path.parent
    state = []
    for file in (path, folder / 'model.safetensors', folder / 'config.json'):
        try:
            status = file.stat()
            state.append((status.st_ino, status.st_mtime_ns, status.st_size))
        except (OSError, ValueError):  # ValueError: a zero byte in the path
            state.append(None)
    return state


def _read_model(path, told, say):
    if path.is_dir():
        if (path / 'model.safetensors').exists():
            return _read_safetensors(path / 'model.safetensors', told, say)
        refusals.refuse_directory(path)
        return paddle_v2.read_directory(path, told, say)
    content = read_regular_file(path, MOST_BYTES)
    if path.suffix == '.safetensors':
        return _read_safetensors(path, told, say)
    if path.suffix == '.pdparams':
        return _read_pdparams(content, path, told, say)
    if tar.is_tar(content):
        return paddle_v2.read_tar(content, path, told, say)
    for recognises, read in ((packed.is_packed, packed.read_packed), (is_net, read_net)):
        if recognises(path):
            tensors, config = read(path)
            return finish(tensors, complete(check_config(config, path), told, path, say), path)
    return read_caffemodel(path, told, say)


def read_caffemodel(path, told=NO_OVERRIDES, say=notice, given=None):
    """As read_model, of Caffe's own files, whatever their name ends in.

    `given` is what the user knows better of the pictures: see `caffemodel.read_net`.
    """
    from caffe_format import caffemodel  # here, since its protobuf takes 40 ms to import

    net = caffemodel.read_net(path, given)
    config = make_config(
        net.version,
        net.bypass,
        net.class_num,
        net.conv10_pad,
        conv10_relu=net.conv10_relu,
        preprocessing=net.preprocessing,
    )
    config = complete(config, told, path, say, net.unknown_fields)
    config['source'] = {'file': Path(path).name, 'sha256': sha256_of(path)}
    if config['source']['sha256'] != BUNDLED_SHA256:  # whose mean is known
        for note in net.notes:
            say(f'{path}: {note}')
    return net.tensors, config


def write_model(directory, tensors, config):
    """Write a parameter directory: the rename of model.safetensors is the moment of the change.

    config.json never lies beside a model that it does not belong to: the old one goes before that
    rename, the new one comes after. What fails before leaves all as it was.
    """
    directory = Path(directory)
    check_tensors(tensors, config, directory)
    arrays = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    content = safetensors.numpy.save(arrays, metadata={'config': json.dumps(config)})
    copy = directory / 'config.json'
    old = partial_neighbour(copy)
    with one_writer(directory):
        try:
            with (
                atomic_write(copy, 'w') as config_file,
                atomic_write(directory / 'model.safetensors') as model_file,
            ):
                config_file.write(config_text(config))
                model_file.write(content)
                for file in (config_file, model_file):  # a full disk shows here
                    file.flush()
                    os.fsync(file.fileno())
                with suppress(FileNotFoundError):
                    os.rename(copy, old)
                    sync_folder(directory)
            old.unlink(missing_ok=True)
        except BaseException:
            if old.exists():
                os.rename(old, copy)
            raise


def empty_network(config, dropout=0.5):
    """The SqueezeNet that `config` describes, with Caffe's fillers for parameters."""
    from squeezenet import SqueezeNet  # here, since reading files needs no Paddle

    return SqueezeNet(
        config['version'],
        config['bypass'],
        config['class_num'],
        dropout,
        config['conv10_pad'],
        config['conv10_relu'],
    )


def build_network(tensors, config, dropout=0.5):
    """The SqueezeNet that `config` describes, with the parameters `tensors`."""
    network = empty_network(config, dropout)
    network.set_state_dict(tensors)
    return network


def sha256_of(path):
    """Hexadecimal sha256 of a file."""
    return hashlib.sha256(read_regular_file(path, MOST_BYTES)).hexdigest()


def _read_safetensors(path, told, say):
    content = read_regular_file(path, MOST_BYTES)  # not mapped: another run may truncate the file
    try:
        tensors = safetensors.numpy.load(content)
        size = int.from_bytes(content[:8], 'little')
        metadata = json.loads(content[8 : 8 + size]).get('__metadata__') or {}
    except KeyError as error:
        raise UserError(
            f'{path}: holds numbers of type {error!s:.99}, which NumPy has not'
        ) from None
    except Exception as error:  # damage shows in many ways
        raise UserError(f'{path}: cannot be read as safetensors: {error!s:.200}') from None
    refuse_other_types(tensors, path)
    if 'config' in metadata:
        config, _ = parse_config(metadata['config'], f'{path}: its configuration')
        refuse_contradiction(config, path)
        return finish(tensors, complete(config, told, path, say), path)
    if torchvision_names.are_torchvisions(tensors):
        return _finish_translated(torchvision_names.translate(tensors, path, say), path, told, say)
    return _finish_translated((tensors, recognise(tensors, path), {}), path, told, say)


def _read_pdparams(content, path, told, say):
    try:
        tensors = pdparams.load_arrays(content)
    except pdparams.PickleRefused as error:
        raise UserError(f'{path}: {error}') from None
    refuse_other_types(tensors, path)
    return _finish_translated(paddle_names.translate(tensors, path, say), path, told, say)


def _finish_translated(translated, path, told, say):
    """(tensors, config) of what a file holds under our names, see paddle_names.translate."""
    tensors, recognised, known = translated
    if known:
        config = complete(make_config(*recognised, **known), told, path, say)
        refuse_contradiction(config, path)
    else:
        config = settle(path, path.parent, recognised, told, say)
    return finish(tensors, config, path)
