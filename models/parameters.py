"""Parameter files: what `--model` reads, and the parameter directories that the commands write.

A parameter directory holds `model.safetensors` (float32, named as in `architecture`) and
`config.json`, which says how to build the network and how to feed it. Also read are Caffe's
`.caffemodel`, single `.safetensors` and `.pdparams` files, and PaddlePaddle v2's directories of one
file per parameter. Nothing that a file contains is ever executed.
"""

import hashlib
import json
import re
import struct
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from caffe_format import caffemodel
from common.console import MOST_LETTERS, UserError
from common.files import DATA, atomic_write
from models import restricted_pickle
from network import architecture
from network.preprocessing import Preprocessing

V2_HEADER = struct.Struct('<iIQ')  # format 0, bytes per value 4, number of values
V2_NAME = re.compile(
    r'_*(conv10|conv1|fire[2-9])(?:[^a-z0-9]+(squeeze1x1|expand1x1|expand3x3|bypass1x1))?'
    r'[^a-z0-9]+(?:(w0|weights?)|(?:wbias|bias|w1))',
    re.IGNORECASE,
)
CONVERTED = Path('caffe_params')  # what caffe2paddle.py writes
MOST_BYTES = 1 << 30  # of one file; a SqueezeNet of 100,000 classes has a fifth of that


class ModelError(UserError):
    """A model cannot be read, or is not a SqueezeNet."""

    def __init__(self, text):
        super().__init__(text[:MOST_LETTERS])


def make_config(version, bypass, class_num, conv10_pad=0, **others):
    """What config.json holds. `others`: conv10_relu, preprocessing (a Preprocessing), class_names,
    source ({'file': name, 'sha256': hex} of the original weights)."""
    preprocessing = others.pop('preprocessing', Preprocessing())
    return {
        'version': version,
        'bypass': bypass,
        'class_num': class_num,
        'conv10_pad': conv10_pad,
        'conv10_relu': True,
        'preprocessing': preprocessing.to_json(),
        **others,
    }


def default_model():
    """Path of the model that commands take without --model: caffe_params, else the bundled one."""
    return CONVERTED if CONVERTED.is_dir() else DATA / 'squeezenet_v1.1.caffemodel'


def read_model(path):
    """Returns (tensors, config): {name: float32 array} in the network's order, and make_config's.

    Raises ModelError (CaffeModelError for a caffemodel) with one line on what is wrong.
    """
    path = Path(path)
    if path.is_dir():
        if (path / 'model.safetensors').exists():
            return _read_safetensors(path / 'model.safetensors')
        return _read_v2_directory(path)
    if not path.exists():
        raise ModelError(f'{path}: there is no such file or directory')
    _refuse_giant(path)
    if path.suffix == '.safetensors':
        return _read_safetensors(path)
    if path.suffix == '.pdparams':
        return _read_pdparams(path)
    return read_caffemodel(path)


def read_caffemodel(path):
    """As read_model, of Caffe's own files, whatever their name ends in."""
    net = caffemodel.read_net(path)
    config = make_config(net.version, net.bypass, net.class_num, net.conv10_pad)
    config['source'] = {'file': Path(path).name, 'sha256': sha256_of(path)}
    return net.tensors, config


def write_model(directory, tensors, config):
    """Write a parameter directory. Both files are replaced once both are on the disk, or none.

    `model.safetensors` carries the configuration too, so that the file alone is a model.
    """
    directory = Path(directory)
    check_tensors(tensors, config, directory)
    arrays = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    content = safetensors.numpy.save(arrays, metadata={'config': json.dumps(config)})
    with (
        atomic_write(directory / 'config.json', 'w') as config_file,
        atomic_write(directory / 'model.safetensors') as model_file,
    ):
        config_file.write(_config_text(config))
        config_file.flush()  # a full disk shows here, before either file is replaced
        model_file.write(content)


def _config_text(config):
    return json.dumps(config, indent=2, ensure_ascii=False) + '\n'


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
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def recognise(tensors, where):
    """(version, bypass, class_num) by names and shapes; simple bypass leaves no trace there."""
    try:
        version = {7: '1.0', 3: '1.1'}[tensors['conv1.weight'].shape[-1]]
        class_num = len(tensors['conv10.bias'])
    except (KeyError, IndexError, TypeError):
        raise ModelError(f'{where}: has no conv1.weight and conv10.bias of a SqueezeNet') from None
    if not class_num:
        raise ModelError(f'{where}: conv10.bias is empty')
    return version, 'complex' if 'fire2.bypass1x1.weight' in tensors else None, class_num


def check_tensors(tensors, config, where):
    """Raises ModelError unless names and shapes are those of the network and all numbers finite."""
    shapes = architecture.parameter_shapes(config['version'], config['bypass'], config['class_num'])
    for name, shape in shapes.items():
        if name not in tensors:
            raise ModelError(f'{where}: parameter {name} is missing')
        if tensors[name].shape != shape:
            found = list(tensors[name].shape)
            raise ModelError(f'{where}: {name} has shape {found}; it should be {list(shape)}')
        with np.errstate(over='ignore'):  # a double beyond float32 becomes infinite
            finite = np.isfinite(np.asarray(tensors[name], np.float32)).all()
        if not finite:
            raise ModelError(f'{where}: {name} holds NaN or infinite numbers')
    for name in tensors:
        if name not in shapes:
            raise ModelError(f'{where}: {name} is no parameter of this SqueezeNet')


def _finish(tensors, config, where):
    """Check what was read, and bring it into the network's order and float32."""
    check_tensors(tensors, config, where)
    names = architecture.parameter_shapes(config['version'], config['bypass'], config['class_num'])
    return {name: np.asarray(tensors[name], np.float32) for name in names}, config


def _refuse_giant(path):
    if path.stat().st_size > MOST_BYTES:
        raise ModelError(f'{path}: is larger than {MOST_BYTES >> 20} MiB; no SqueezeNet is')


def _read_safetensors(path):
    _refuse_giant(path)
    try:
        with safetensors.safe_open(path, 'np') as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (safetensors.SafetensorError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f'{path}: cannot be read as safetensors: {error}') from None
    _refuse_other_types(tensors, path)
    config = _config_beside(path)
    if config is None and 'config' in metadata:
        config = _parse_config(metadata['config'], f'{path}: its configuration')
    return _finish(tensors, config or make_config(*recognise(tensors, path)), path)


def _read_pdparams(path):
    try:
        tensors = restricted_pickle.load_arrays(path.read_bytes())
    except restricted_pickle.PickleRefused as error:
        raise ModelError(f'{path}: {error}') from None
    _refuse_other_types(tensors, path)
    config = _config_beside(path)
    return _finish(tensors, config or make_config(*recognise(tensors, path)), path)


def _refuse_other_types(tensors, path):
    for name, value in tensors.items():
        if value.dtype.kind != 'f':
            raise ModelError(f'{path}: {name} holds {value.dtype} numbers; floats are expected')


def _config_beside(path):
    beside = path.parent / 'config.json'
    if not beside.exists():
        return None
    _refuse_giant(beside)
    try:
        return _parse_config(beside.read_text(encoding='utf-8'), beside)
    except UnicodeDecodeError:
        raise ModelError(f'{beside}: is not UTF-8 text') from None


def _parse_config(text, where):
    """A checked configuration. What this port cannot do as told is refused, never ignored."""
    try:
        config = json.loads(text)
        json.dumps(config, ensure_ascii=False).encode()  # "\\ud800" is JSON, but no character
    except (ValueError, RecursionError) as error:
        raise ModelError(f'{where}: is not JSON: {error}') from None
    return check_config(config, where)


def check_config(config, where):
    """The configuration `config`, complete and known to be sound. Raises ModelError."""
    if not isinstance(config, dict):
        raise ModelError(f'{where}: is not a JSON object')
    try:
        config = {'bypass': None, 'conv10_pad': 0, 'conv10_relu': True, **config}
        architecture.check_choice(config['version'], config['bypass'], config['class_num'])
    except KeyError as error:
        raise ModelError(f'{where}: {error.args[0]} is missing') from None
    except (TypeError, ValueError) as error:
        raise ModelError(f'{where}: {error}') from None
    if config['conv10_pad'] not in (0, 1):
        raise ModelError(f'{where}: conv10_pad is {config["conv10_pad"]!r}; it must be 0 or 1')
    config['conv10_pad'] = int(config['conv10_pad'])
    if not isinstance(config['conv10_relu'], bool):
        raise ModelError(
            f'{where}: conv10_relu is {config["conv10_relu"]!r}; it must be true or false'
        )
    try:
        preprocessing = Preprocessing.from_json(config.get('preprocessing', {}))
    except (TypeError, ValueError) as error:
        raise ModelError(f'{where}: {error}') from None
    config['preprocessing'] = preprocessing.to_json()
    names = config.get('class_names')
    if names is not None and not (
        isinstance(names, list)
        and len(names) == config['class_num']
        and all(isinstance(name, str) for name in names)
    ):
        raise ModelError(f'{where}: class_names must be {config["class_num"]} strings')
    return config


def write_v2_directory(directory, tensors, config=None):
    """Write PaddlePaddle v2's form: `_fire2.squeeze1x1.w0` and `.wbias`, header and float32.

    `config`, as config.json beside them, keeps what they cannot tell: simple bypass, conv10_pad.
    """
    if config is not None:
        with atomic_write(Path(directory) / 'config.json', 'w') as file:
            file.write(_config_text(config))
    for name, value in tensors.items():
        layer, kind = name.rsplit('.', 1)
        suffix = 'w0' if kind == 'weight' else 'wbias'
        with atomic_write(Path(directory) / f'_{layer}.{suffix}') as file:
            file.write(V2_HEADER.pack(0, 4, value.size) + value.astype('<f4').tobytes())


def _read_v2_directory(directory):
    flat = {}
    for path in sorted(directory.iterdir()):
        match = V2_NAME.fullmatch(path.name)
        if match and path.is_file():
            layer, part, weight = match.groups()
            layer = '.'.join(filter(None, (layer, part))).lower()
            name = f'{layer}.{"weight" if weight else "bias"}'
            if name in flat:
                raise ModelError(f'{path}: is a second file for {name}')
            flat[name] = _read_v2_file(path)
    if not flat:
        raise ModelError(
            f'{directory}: is no model; it holds neither model.safetensors nor files of '
            'PaddlePaddle v2 parameters (_conv1.w0, _conv1.wbias, ...)'
        )
    for name in ('conv1.weight', 'conv10.bias'):
        if name not in flat:
            raise ModelError(f'{directory}: there is no file for {name}')
    version = '1.0' if flat['conv1.weight'].size == 96 * 3 * 7 * 7 else '1.1'
    bypass = 'complex' if 'fire2.bypass1x1.weight' in flat else None
    config = _config_beside(directory / 'x') or make_config(
        version, bypass, len(flat['conv10.bias'])
    )
    shapes = architecture.parameter_shapes(config['version'], config['bypass'], config['class_num'])
    tensors = {}
    for name, values in flat.items():
        shape = shapes.get(name, values.shape)
        if values.size != np.prod(shape):
            raise ModelError(
                f'{directory}: {name} has {values.size} values; {list(shape)} needs '
                f'{np.prod(shape)}'
            )
        tensors[name] = values.reshape(shape)
    return _finish(tensors, config, directory)


def _read_v2_file(path):
    _refuse_giant(path)
    content = path.read_bytes()
    if len(content) < V2_HEADER.size:
        raise ModelError(f'{path}: is shorter than the 16-byte header of a v2 parameter')
    form, value_size, count = V2_HEADER.unpack_from(content)
    if form != 0 or value_size != 4:
        raise ModelError(f'{path}: header says format {form}, {value_size} bytes; not 0 and 4')
    if not count:
        raise ModelError(f'{path}: header promises no values')
    if len(content) != V2_HEADER.size + 4 * count:
        held = (len(content) - V2_HEADER.size) / 4
        raise ModelError(f'{path}: header promises {count} values, the file holds {held:g}')
    return np.frombuffer(content, '<f4', offset=V2_HEADER.size)
