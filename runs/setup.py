"""How a training run begins: from a model, from Caffe's fillers, or from a checkpoint."""

import json
from argparse import Namespace
from typing import NamedTuple, Optional

import numpy as np
import paddle

from common.console import UserError, printable
from evaluation.evaluator import class_names, known_names
from models import model_io
from network import architecture
from network.config import check_config, told
from pictures import lists
from pictures.class_names import NAMES_FILES, map_labels, names_file
from pictures.decoding import load_picture
from runs import run_directory, run_lists, tensorboard
from runs.caching import kept
from runs.checkpoint import load_newest
from runs.list_identity import compare_list, describe_list, other_names
from runs.run_directory import LIST_OPTIONS
from runs.run_lists import print_line
from runs.state import RunState
from training import distributed, head, mirroring
from training.step import check_freeze

MANY = 5000  # pictures, from which on half as many epochs will do


class Start(NamedTuple):
    """tensors: {name: float32 array}; moments: the solver's, {kind: the same}; state: RunState."""

    tensors: dict
    moments: dict
    state: RunState


def check(options):
    """What the command line asks for must be there and fit together; nothing is written.

    Raises UserError or OSError.
    """
    if options.tensorboard:
        tensorboard.check_available()
    train_list = lists.read_list(options.train_list, options.data_dir)
    class_num, names = _classes(options, train_list)
    for name in LIST_OPTIONS:
        if path := getattr(options, name):
            pictures = _read_checked(path, options, class_num, names)
            for remark in pictures.remarks:
                print_line(remark)
            if not options.skip_bad:
                lists.check_files_exist(pictures)
            if name != 'train_list' and (both := lists.count_shared(train_list, pictures)):
                print(
                    f'{both} pictures are in the train list and in the {name[:-5]} list: '
                    f'{name[:-5]} top-1 will flatter'
                )
    _remark_classes(train_list, names)
    if not options.resume:
        check_freeze(options.freeze, _version(options))


def _read_checked(path, options, class_num, names):
    """A list whose labels fit the train list's classes, by names or by numbers."""
    own = lists.class_names_of(path)
    if own and names:
        map_labels(own, names)  # says which class does not fit
        return lists.read_list(path, options.data_dir, len(own))
    return lists.read_list(path, options.data_dir, class_num)


def _remark_classes(train_list, names):
    counts = train_list.class_counts()
    if gaps := lists.label_gaps(train_list, names):
        print(printable(gaps))
    few, many = counts[counts > 0].min(), counts.max()
    if many > 3 * few:
        print(f'the classes have {few} to {many} pictures; --balance makes each count alike')


def _version(options):
    """The version of the network that the run starts from, which must be readable."""
    if options.from_scratch:
        return options.version
    return _read_model(options, say=_nothing)[1]['version']


def _read_model(options, say=print):
    path = options.model or model_io.default_model()
    return model_io.read_model(path, told(options), say)


def last_iteration(options, epoch_iterations, pictures):
    """The number of updates of a whole run: --max_iter, or --epochs of them."""
    epochs = options.epochs
    if epochs is None:
        epochs = 10 if pictures < MANY else 5
    return options.max_iter or epochs * epoch_iterations


def stored_options(options):
    """The options of the run in --output."""
    run_directory.check_output(options)
    return load_newest(run_directory.checkpoints_of(options), _nothing)[2].options


def _nothing(_):
    pass


def shared_start(options, rank):
    """(Start, options) of rank 0's making, the same in every process."""
    head, start = None, Start({}, {}, None)
    if rank == 0:
        start = resume(options) if options.resume else begin(options)
        if not options.resume:
            run_directory.claim(options)
        kinds = sorted(start.moments)
        head = {'state': start.state.to_json(), 'options': vars(options), 'moments': kinds}
    head = json.loads(distributed.broadcast_text(json.dumps(head)))
    state = RunState.from_json(head['state'])
    config = state.config
    shapes = architecture.parameter_shapes(config['version'], config['bypass'], config['class_num'])
    zeros = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    tensors = distributed.broadcast_arrays({**zeros, **start.tensors})  # in the order of `zeros`
    moments = {
        kind: distributed.broadcast_arrays({**zeros, **start.moments.get(kind, {})})
        for kind in head['moments']
    }
    return Start(tensors, moments, state), Namespace(**head['options'])


def resume(options):
    """The Start that the newest sound checkpoint in --output holds."""
    folder = run_directory.checkpoints_of(options)
    tensors, moments, state = load_newest(folder, report=print)
    for name, before in state.lists.items():
        compare_list(getattr(options, name), options, before)
    names = lists.class_names_of(options.train_list)
    if names and not _knows(state.config, len(names), names):
        raise other_names(options.train_list, options)
    config = check_config(state.config, folder)
    model_io.check_tensors(tensors, config, folder)
    _lengthen(options, state)
    print(f'resuming {options.output} after iteration {state.iteration}', flush=True)
    return Start(tensors, moments, state)


def _lengthen(options, state):
    """Take the new --epochs (or --max_iter): after a run's end, the rate begins again."""
    count = state.pictures
    each = -(-count // (state.group_batch * options.iter_size))
    before = last_iteration(Namespace(**state.options), each, count)
    now = last_iteration(options, each, count)
    if now < state.iteration:
        raise UserError(
            f'--epochs or --max_iter end the run at iteration {now}, and it has made '
            f'{state.iteration} already; give more'
        )
    if now > before == state.iteration:
        state.cycle_start = state.iteration
        print(f'going on to iteration {now}: the learning rate begins again at {options.lr:g}')
    state.options = vars(options)


def begin(options):
    """The Start of a new run: the model's parameters, with a conv10 that fits the classes."""
    train_list = lists.read_list(options.train_list, options.data_dir)
    class_num, names = _classes(options, train_list)
    left_out = run_lists.bad_pictures(options) if options.skip_bad else {}
    tensors, config = starting_model(options)
    for name in ('temperature', 'threshold'):  # of the network as it was
        config.pop(name, None)
    knows = _knows(config, class_num, names)
    if not knows:
        config = {**config, 'class_num': class_num, 'class_names': names}
        if names is None:
            del config['class_names']
        print(f'conv10 is made anew for {class_num} classes', flush=True)
    train_list, _, _ = run_lists.read_lists(options, config, left_out)
    fits, centres = not knows and options.head == 'fit', None
    if fits:
        load = kept(options, load_picture)
        centres = head.centre_features(tensors, config, train_list, options, load)
    options.mirror = may_mirror(options, tensors, config, train_list, centres)
    if not knows:
        tensors, config = new_conv10(tensors, config, options, train_list, centres)
    described = {
        name: describe_list(getattr(options, name), options.data_dir)
        for name in LIST_OPTIONS
        if getattr(options, name)
    }
    state = RunState(config, vars(options), described, len(train_list), left_out)
    return Start(tensors, {}, state)


def starting_model(options: Namespace) -> tuple[dict, dict]:
    """(tensors, config) of Caffe's fillers or of --model, fed as the command line says."""
    tensors, config = _from_fillers(options) if options.from_scratch else _read_model(options)
    if options.resize:
        config['preprocessing']['resize'] = options.resize
    return tensors, config


def _knows(config, class_num, names):
    """Whether a model tells the very classes of the list, perhaps in another order."""
    known = known_names(config)
    if class_num != config['class_num']:
        return False
    if names is None and known is not None:
        print(
            f'no {NAMES_FILES[0]} lies beside the train list: its {class_num} labels are taken as '
            f"the model's, {printable(', '.join(known[:3]))}{', ...' * (class_num > 3)}"
        )
    if names is None or known is None:
        return True
    try:
        map_labels(names, known)
    except UserError:
        return False
    return True


def may_mirror(
    options: Namespace,
    tensors: dict,
    config: dict,
    train_list: lists.PictureList,
    centres: Optional[head.Centres] = None,
) -> bool:
    """What --mirror says or, without it, whether the classes are seen to allow it.

    `config` has the classes of `train_list`; `centres` are what the network sees of its pictures,
    where that is known. Random weights see nothing, and get the default.
    """
    if options.mirror is not None or options.from_scratch:
        return options.mirror is not False
    most = mirroring.MOST_PICTURES
    if centres is None:
        load = kept(options, load_picture)
        centres = head.centre_features(tensors, config, train_list, options, load, most)
    centres = centres.only(head.chosen_indices(len(train_list), most, options.seed))
    old_weight = tensors['conv10.weight'][:, :, 0, 0]
    pair = mirroring.find_mirror_pair(centres, config['class_num'], old_weight)
    if pair is None:
        return True
    one, other = (class_names(config)[number] for number in pair.classes)
    print(
        f'mirrored, {pair.swapped} of {pair.recognised} pictures of {printable(one)!r} and '
        f'{printable(other)!r} are classified as the other one: sides matter here, so training '
        'does not mirror (--no-mirror; --mirror would)',
        flush=True,
    )
    return False


def new_conv10(
    tensors: dict,
    config: dict,
    options: Namespace,
    train_list: lists.PictureList,
    centres: Optional[head.Centres],
) -> tuple[dict, dict]:
    """(tensors, config) with a conv10 for config['class_num'] classes; --head says how it begins.

    `centres`: for --head fit. Caffe's filler is gaussian 0.01, and zero for the bias.
    """
    class_num, fitted = config['class_num'], options.head == 'fit'
    relu = not fitted if options.conv10_relu is None else bool(options.conv10_relu)
    config = {**config, 'conv10_relu': relu}
    if fitted:
        load = kept(options, load_picture)
        return head.fit_head(tensors, config, train_list, options, load, centres), config
    shape = (class_num, *tensors['conv10.weight'].shape[1:])
    weight = np.random.default_rng(options.seed).normal(0.0, 0.01, shape).astype(np.float32)
    bias = np.zeros(class_num, np.float32)
    return {**tensors, 'conv10.weight': weight, 'conv10.bias': bias}, config


def _classes(options, train_list):
    """(number of classes, their names or None) of the train list and classes.txt beside it."""
    class_num = train_list.class_num
    names = lists.class_names_of(options.train_list)
    if names and len(names) < class_num:
        raise UserError(
            f'{options.train_list}: has labels up to {class_num - 1}, but '
            f'{names_file(options.train_list).name} beside it has {len(names)} names'
        )
    class_num = len(names) if names else class_num
    if class_num < 2:
        raise UserError(f'{options.train_list}: has one class alone; there is nothing to learn')
    return class_num, names


def _from_fillers(options):
    device = paddle.device.get_device()
    paddle.set_device('cpu')  # the same numbers, whatever the device
    paddle.seed(options.seed)
    config = model_io.make_config(options.version, None, 2)
    config.update(told(options).said())
    network = model_io.empty_network(config)
    tensors = {name: value.numpy() for name, value in network.state_dict().items()}
    paddle.set_device(device)
    return tensors, config
