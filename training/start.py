"""How a training run begins: from a model, from Caffe's fillers, or from a checkpoint."""

import hashlib
import json
from argparse import Namespace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import paddle

from common.console import UserError
from models import parameters
from models.configuration import check_config
from network import architecture
from pictures import lists
from training import output, processes
from training.checkpoint import load_newest
from training.head import fit_head
from training.state import RunState
from training.step import check_freeze


class Start(NamedTuple):
    """tensors: {name: float32 array}; moments: the solver's, {kind: the same}; state: RunState."""

    tensors: dict
    moments: dict
    state: RunState


def check(options):
    """What the command line asks for must be there and fit together; nothing is written.

    Raises UserError or OSError.
    """
    train_list = lists.read_list(options.train_list, options.data_dir)
    val_list = lists.read_list(options.val_list, options.data_dir)
    for pictures in (train_list, val_list):
        lists.check_files_exist(pictures)
    if both := lists.count_shared(train_list, val_list):
        print(f'{both} pictures are in the train list and in the val list: val top-1 will flatter')
    if not options.resume:
        class_num, _ = _classes(options, train_list)
        if val_list.class_num > class_num:
            lists.read_list(options.val_list, options.data_dir, class_num)  # says in which line
        check_freeze(options.freeze, _version(options))


def _version(options):
    """The version of the network that the run starts from, which must be readable."""
    if options.from_scratch:
        return options.version
    return parameters.read_model(options.model or parameters.default_model())[1]['version']


def stored_options(options):
    """The options of the run in --output."""
    output.choose_output(options)
    return load_newest(output.checkpoints_of(options), _nothing)[2].options


def _nothing(_):
    pass


def shared_start(options, rank):
    """(Start, options) of rank 0's making, the same in every process."""
    head, start = None, Start({}, {}, None)
    if rank == 0:
        start = resume(options) if options.resume else begin(options)
        kinds = sorted(start.moments)
        head = {'state': start.state.to_json(), 'options': vars(options), 'moments': kinds}
    head = json.loads(processes.broadcast_text(json.dumps(head)))
    state = RunState.from_json(head['state'])
    config = state.config
    shapes = architecture.parameter_shapes(config['version'], config['bypass'], config['class_num'])
    zeros = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    tensors = processes.broadcast_arrays({**zeros, **start.tensors})  # in the order of `zeros`
    moments = {
        kind: processes.broadcast_arrays({**zeros, **start.moments.get(kind, {})})
        for kind in head['moments']
    }
    return Start(tensors, moments, state), Namespace(**head['options'])


def resume(options):
    """The Start that the newest sound checkpoint in --output holds."""
    folder = output.checkpoints_of(options)
    tensors, moments, state = load_newest(folder, report=print)
    for name in ('train_list', 'val_list'):
        _compare_list(name, options, state.lists[name])
    names = lists.class_names_beside(options.train_list)
    if names and names != state.config.get('class_names'):
        raise UserError(
            f'{Path(options.train_list).parent / "classes.txt"}: has other names than the run in '
            f'{options.output} began with; --resume needs the same'
        )
    config = check_config(state.config, folder)
    parameters.check_tensors(tensors, config, folder)
    print(f'resuming {options.output} after iteration {state.iteration}', flush=True)
    return Start(tensors, moments, state)


def describe_list(path, data_dir):
    """{'text', 'labels', 'files': sha256 of the list's text, its labels, its pictures' sizes}."""
    pictures = lists.read_list(path, data_dir)
    sizes = [Path(pictures.path(i)).stat().st_size for i in range(len(pictures))]
    parts = {
        'text': Path(path).read_bytes(),
        'labels': pictures.labels.tobytes(),
        'files': np.array(sizes, np.int64).tobytes(),
    }
    return {name: hashlib.sha256(content).hexdigest() for name, content in parts.items()}


def _compare_list(name, options, before):
    """A line may have been mended; other pictures or labels would make it another run."""
    path = getattr(options, name)
    now = describe_list(path, options.data_dir)
    if now['labels'] != before['labels']:
        raise UserError(
            f'{path}: differs from the list that the run in {options.output} began with; --resume '
            'needs the same pictures in the same order'
        )
    if now != before:
        what = 'lines' if now['text'] != before['text'] else 'pictures'
        print(f'{path}: its {what} have changed since the run began; it goes on with the new ones')


def begin(options):
    """The Start of a new run: the model's parameters, with a conv10 that fits the classes."""
    train_list = lists.read_list(options.train_list, options.data_dir)
    class_num, names = _classes(options, train_list)
    if options.from_scratch:
        tensors, config = _from_fillers(options)
    else:
        tensors, config = parameters.read_model(options.model or parameters.default_model())
    if options.resize:
        config['preprocessing']['resize'] = options.resize
    tensors, config = fit_classes(tensors, config, (class_num, names), train_list, options)
    described = {
        name: describe_list(getattr(options, name), options.data_dir)
        for name in ('train_list', 'val_list')
    }
    return Start(tensors, {}, RunState(config, vars(options), described))


def _classes(options, train_list):
    """(number of classes, their names or None) of the train list and classes.txt beside it."""
    class_num = train_list.class_num
    names = lists.class_names_beside(options.train_list)
    if names and len(names) < class_num:
        raise UserError(
            f'{options.train_list}: has labels up to {class_num - 1}, but classes.txt beside it '
            f'has {len(names)} names'
        )
    class_num = len(names) if names else class_num
    if class_num < 2:
        raise UserError(f'{options.train_list}: has one class alone; there is nothing to learn')
    return class_num, names


def _from_fillers(options):
    device = paddle.device.get_device()
    paddle.set_device('cpu')  # the same numbers, whatever the device
    paddle.seed(options.seed)
    config = parameters.make_config(options.version, options.bypass, 2, options.conv10_pad)
    network = parameters.empty_network(config)
    tensors = {name: value.numpy() for name, value in network.state_dict().items()}
    paddle.set_device(device)
    return tensors, config


def fit_classes(tensors, config, classes, train_list, options):
    """(tensors, config) with conv10 made anew where the model's is for other classes.

    classes: (number, names or None). --head says how it begins; Caffe's filler is gaussian 0.01,
    and zero for the bias.
    """
    (class_num, class_names), before = classes, config.get('class_names')
    same_names = not (before and class_names) or before == class_names
    config = {**config, 'class_num': class_num, 'class_names': class_names or before}
    if len(tensors['conv10.bias']) != class_num or not same_names:
        config = {**config, 'class_names': class_names, 'conv10_relu': options.conv10_relu}
        print(f'conv10 is made anew for {class_num} classes', flush=True)
        if options.head == 'fit':
            tensors = fit_head(tensors, config, train_list, options.seed, options.num_workers)
        else:
            shape = (class_num, *tensors['conv10.weight'].shape[1:])
            weight = np.random.default_rng(options.seed).normal(0.0, 0.01, shape)
            bias = np.zeros(class_num, np.float32)
            new = {'conv10.weight': weight.astype(np.float32), 'conv10.bias': bias}
            tensors = {**tensors, **new}
    for name in ('temperature', 'threshold'):  # of the network as it was
        config.pop(name, None)
    if config['class_names'] is None:
        del config['class_names']
    return tensors, config
