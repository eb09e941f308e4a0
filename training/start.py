"""How a training run begins: from a model, from Caffe's fillers, or from a checkpoint."""

import hashlib
import json
import shutil
from argparse import Namespace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import paddle

from common.console import UserError
from models import parameters
from network import architecture
from pictures import lists
from training import processes
from training.checkpoint import checkpoint_files, load_newest
from training.step import check_freeze


class StartError(UserError):
    """The run cannot start as it is asked to."""


class Start(NamedTuple):
    """tensors and velocity: {name: float32 array}; config as in `parameters`; progress: dict."""

    tensors: dict
    velocity: dict
    config: dict
    progress: dict


def checkpoints_of(options):
    """The folder of a run's checkpoints."""
    return Path(options.output) / 'checkpoints'


def prepare(options):
    """Before the processes start: what the command line asks for must be there and fit together.

    An earlier run is deleted (--overwrite) last, when nothing can be wrong with the new one.
    Raises StartError, ListError, ModelError, FreezeError or OSError.
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
    _prepare_output(options)


def _version(options):
    """The version of the network that the run starts from, which must be readable."""
    if options.from_scratch:
        return options.version
    return parameters.read_model(options.model or parameters.default_model())[1]['version']


def _prepare_output(options):
    if options.output is None:
        options.output = _free_output()
    output = Path(options.output)
    if options.overwrite:
        _delete_run(output, options.model)
    elif not options.resume and checkpoint_files(checkpoints_of(options)):
        raise StartError(
            f'{output} holds a run already: --resume continues it, --overwrite starts anew, '
            '--output names another directory'
        )
    output.mkdir(parents=True, exist_ok=True)


def _delete_run(output, model):
    folders = [output / name for name in ('checkpoints', 'best', 'last', 'report', 'events')]
    if model is not None:
        model = Path(model).resolve()
        if {folder.resolve() for folder in folders} & {model, *model.parents}:
            raise StartError(
                f'--overwrite would delete the model {model} that the run starts from; '
                'choose another --output'
            )
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    for name in ('log.csv', 'curves.png'):
        (output / name).unlink(missing_ok=True)


def _free_output():
    """output, or output-2 and so on: a command without --output mixes with no earlier run."""
    number, name = 1, 'output'
    while checkpoint_files(Path(name) / 'checkpoints'):
        number += 1
        name = f'output-{number}'
    if number > 1:
        print(f'output holds a run already; this one goes to {name}', flush=True)
    return name


def stored_options(options):
    """The options of the run in --output, or None where it has saved nothing yet."""
    if not checkpoint_files(checkpoints_of(options)):
        return None
    return _newest(options, report=_nothing)[2]['options']


def _newest(options, report):
    tensors, velocity, progress = load_newest(checkpoints_of(options), report)
    missing = {'rows', 'epoch_sums', 'precision', 'lists', 'config', 'options'} - progress.keys()
    if missing:
        raise StartError(f'{checkpoints_of(options)}: the newest checkpoint lacks {min(missing)}')
    return tensors, velocity, progress


def _nothing(_):
    pass


def shared_start(options, rank):
    """(Start, options) of rank 0's making, the same in every process."""
    head, start = None, Start({}, {}, {}, {})
    if rank == 0:
        saved = options.resume and checkpoint_files(checkpoints_of(options))
        start = resume(options) if saved else begin(options)
        head = {'config': start.config, 'progress': start.progress, 'options': vars(options)}
    head = json.loads(processes.broadcast_text(json.dumps(head)))
    config = head['config']
    shapes = architecture.parameter_shapes(config['version'], config['bypass'], config['class_num'])
    zeros = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    tensors = processes.broadcast_arrays({**zeros, **start.tensors})  # in the order of `zeros`
    velocity = processes.broadcast_arrays({**zeros, **start.velocity})
    return Start(tensors, velocity, config, head['progress']), Namespace(**head['options'])


def resume(options):
    """The Start that the newest sound checkpoint in --output holds."""
    tensors, velocity, progress = _newest(options, report=print)
    for name in ('train_list', 'val_list'):
        if fingerprint(getattr(options, name)) != progress['lists'][name]:
            raise StartError(
                f'{getattr(options, name)}: differs from the list that the run in '
                f'{options.output} began with; --resume needs the same'
            )
    config = parameters.check_config(progress['config'], checkpoints_of(options))
    parameters.check_tensors(tensors, config, checkpoints_of(options))
    print(f'resuming {options.output} after iteration {progress["iteration"]}', flush=True)
    return Start(tensors, velocity, config, progress)


def fingerprint(path):
    """sha256 of a list file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def begin(options):
    """The Start of a new run: the model's parameters, with a conv10 that fits the classes."""
    if options.resume:
        print(f'{options.output} holds no checkpoint yet; starting at the beginning', flush=True)
    train_list = lists.read_list(options.train_list, options.data_dir)
    class_num, names = _classes(options, train_list)
    if options.from_scratch:
        tensors, config = _from_fillers(options)
    else:
        tensors, config = parameters.read_model(options.model or parameters.default_model())
    tensors, config = fit_classes(tensors, config, class_num, names, options.seed)
    if options.resize:
        config['preprocessing']['resize'] = options.resize
    progress = {
        'iteration': 0,
        'rows': [],
        'epoch_sums': [0.0, 0.0, 0],  # of loss and top-1, and their number
        'precision': None,
        'lists': {name: fingerprint(getattr(options, name)) for name in ('train_list', 'val_list')},
        'config': config,
        'options': vars(options),
    }
    return Start(tensors, {}, config, progress)


def _classes(options, train_list):
    """(number of classes, their names or None) of the train list and classes.txt beside it."""
    class_num = train_list.class_num
    names = lists.read_class_names(options.train_list)
    if names and len(names) < class_num:
        raise StartError(
            f'{options.train_list}: has labels up to {class_num - 1}, but classes.txt beside it '
            f'has {len(names)} names'
        )
    class_num = len(names) if names else class_num
    if class_num < 2:
        raise StartError(f'{options.train_list}: has one class alone; there is nothing to learn')
    return class_num, names


def _from_fillers(options):
    paddle.seed(options.seed)
    config = parameters.make_config(options.version, options.bypass, 2)
    network = parameters.empty_network(config)
    return {name: value.numpy() for name, value in network.state_dict().items()}, config


def fit_classes(tensors, config, class_num, class_names, seed):
    """(tensors, config) with conv10 made anew where the model's is for other classes.

    Caffe's filler for it is gaussian 0.01, and zero for the bias.
    """
    before = config.get('class_names')
    same_names = not (before and class_names) or before == class_names
    config = {**config, 'class_num': class_num, 'class_names': class_names}
    if len(tensors['conv10.bias']) == class_num and same_names:
        config['class_names'] = class_names or before
    else:
        print(f'conv10 is made anew for {class_num} classes', flush=True)
        shape = (class_num, *tensors['conv10.weight'].shape[1:])
        weight = np.random.default_rng(seed).normal(0.0, 0.01, shape).astype(np.float32)
        bias = np.zeros(class_num, np.float32)
        tensors = {**tensors, 'conv10.weight': weight, 'conv10.bias': bias}
    if config['class_names'] is None:
        del config['class_names']
    return tensors, config
