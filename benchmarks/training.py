"""Training on a CPU: train.py and its train_step against the same network in torch.

torch runs it as one would write it there: channels_last, SGD, cross-entropy; and its malloc keeps
memory, as ours does. Both start from the same weights; before the clock starts, their losses over
the same updates are compared.
"""

import csv
import json
import math
import time

import timing
from timing import ROOT, ratio, run, spread
from trainers import BATCH, KEPT_MEMORY, our_trainer, torch_trainer

from network.preprocessing import Preprocessing

CHECKED = 4  # updates without dropout, whose losses are compared
TIMED = 8  # updates of a round
DROPOUT = 0.5
TOLERANCE = 1e-3  # of a loss

STEP, COMMAND = 'train_step, 1 process', 'train.py --trainer 2'
FROZEN, FROZEN10 = 'train_step, --freeze fire9', 'train_step, --freeze fire9, 10 classes'
FROZEN_COMMAND = f'{COMMAND} --freeze fire9'
TORCH1, TORCH2 = 'torch, 1 thread', 'torch, 2 threads, without reading'
TORCH_PIL, TORCH_CV2 = (f'torch, 2 threads, DataLoader with {name}' for name in ('PIL', 'cv2'))
INFERENCE, INFERENCE10 = 'Paddle Inference alone', 'Paddle Inference alone, 10 classes'
COMPARED = [
    (STEP, TORCH1),
    (COMMAND, TORCH2),
    (COMMAND, TORCH_PIL),
    (COMMAND, TORCH_CV2),
    (FROZEN, INFERENCE),
    (FROZEN10, INFERENCE10),
    (FROZEN_COMMAND, COMMAND),
]


def measure(options, folder):
    pictures, words = timing.make_pictures(options, folder)
    few = timing.first_lines(pictures, BATCH, folder)
    (folder / 'classes.txt').write_text(''.join(f'class {i}\n' for i in range(1000)))
    model, output = folder / 'model', folder / 'run'
    run(ROOT / 'caffe2paddle.py', '--output', model)
    contestants = {
        STEP: lambda: ask('ours', model, few),
        TORCH1: lambda: ask('torch', model, few, 1),
        TORCH2: lambda: ask('torch', model, few, 2),
        TORCH_PIL: lambda: ask('torch', model, few, 2, pictures, 'pil'),
        TORCH_CV2: lambda: ask('torch', model, few, 2, pictures, 'cv2'),
        COMMAND: lambda: train(model, pictures, few, output),
        FROZEN: lambda: ask('frozen', model, few, 1000),
        FROZEN10: lambda: ask('frozen', model, few, 10),
        FROZEN_COMMAND: lambda: train(model, pictures, few, output, '--freeze', 'fire9'),
    }
    results = timing.in_turn(contestants, options.rounds)
    check([results[name][0]['losses'] for name in (STEP, TORCH1, TORCH2)])
    rates = {name: [result['rate'] for result in found] for name, found in results.items()}
    for frozen_name, name in ((FROZEN, INFERENCE), (FROZEN10, INFERENCE10)):
        rates[name] = [result['inference'] for result in results[frozen_name]]
    rows = [
        [ours, spread(rates[ours]), peer, spread(rates[peer]), ratio(rates[ours], rates[peer])]
        for ours, peer in COMPARED
    ]
    return [
        '## Training',
        f'{options.count} pictures ({words}), batches of {BATCH} a process, {options.rounds} '
        'rounds: median (smallest..largest). ratio: ours / peer in images/s; above 1, ours is '
        'faster. 1000 classes where nothing else is said; a process of ours computes with one '
        'thread. The rates of train.py include reading, and starting what reads.',
        timing.table(['ours', 'images/s', 'peer', 'images/s', 'ratio'], rows),
        f'Losses agree within {TOLERANCE} over {CHECKED} updates.',
    ]


def ask(*arguments):
    return json.loads(run(__file__, '--child', *arguments, environment=KEPT_MEMORY).output)


def check(losses):
    for step in zip(*losses):
        assert max(step) - min(step) <= TOLERANCE, f'losses differ: {losses}'
    assert losses[0][-1] < losses[0][0], f'the loss does not fall: {losses[0]}'


def train(model, pictures, few, output, *flags):
    """The rate of one epoch, as train.py writes it to its log; all layers learn, as torch's do."""
    run(
        ROOT / 'train.py', '--recipe', 'caffe', '--model', model, '--train_list', pictures,
        '--val_list', few, '--batch_size', BATCH, '--epochs', 1, '--trainer', 2,
        '--output', output, '--overwrite', *flags,
    )  # fmt: skip
    with open(output / 'log.csv', encoding='utf-8', newline='') as file:
        return {'rate': float(list(csv.DictReader(file))[-1]['images_per_second'])}


def child(who, *arguments):
    """Print a contestant's rate and losses as JSON."""
    print(json.dumps({'ours': ours, 'torch': torch_, 'frozen': frozen}[who](*arguments)))


def rate_of(update, count=TIMED):
    """Pictures per second of `count` updates."""
    start = time.perf_counter()
    for _ in range(count):
        update()
    return BATCH * count / (time.perf_counter() - start)


def one_batch(few):
    """The pictures of a list: uint8 [N, 227, 227, 3], and their labels."""
    import reader
    from pictures import lists

    _, crops, labels = next(reader.eval_loader(lists.read_list(few), Preprocessing(), BATCH))
    return crops, labels


def ours(model, few):
    import reader
    from models import model_io

    network, update = our_trainer(*model_io.read_model(model))
    crops, labels = one_batch(few)
    batch = reader.network_input(crops, Preprocessing()), labels
    losses = [update(batch) for _ in range(CHECKED)]
    from training.step import SharedDropout

    network.dropout = SharedDropout(DROPOUT)
    return {'rate': rate_of(lambda: update(batch)), 'losses': losses}


def frozen(model, few, classes):
    """Updates of conv10 alone, and the whole network on Paddle Inference, in one process."""
    import reader
    from models import model_io

    tensors, config = first_classes(*model_io.read_model(model), int(classes))
    network, update = our_trainer(tensors, config, 'fire9')
    from models.inference import Predictor, build_program
    from training.step import FrozenFeatures, SharedDropout

    crops, labels = one_batch(few)
    predictor = Predictor(build_program(tensors, config))
    features = FrozenFeatures(tensors, config, 'fire9')
    works = {
        'rate': lambda: update(features(None, crops, labels)),
        'inference': lambda: predictor(reader.network_input(crops, Preprocessing())),
    }
    loss, logits = works['rate'](), works['inference']()
    exponents = [[math.exp(value - max(row)) for value in row] for row in logits.tolist()]
    chosen = [row[label] / sum(row) for row, label in zip(exponents, labels)]
    expected = -sum(map(math.log, chosen)) / len(chosen)
    assert abs(loss - expected) < TOLERANCE, f'frozen features: loss {loss}, not {expected}'
    network.dropout = SharedDropout(DROPOUT)
    return {name: rate_of(work, 4 * TIMED) for name, work in works.items()}


def first_classes(tensors, config, count):
    """The same network for the first `count` classes."""
    conv10 = {name: tensors[name][:count] for name in ('conv10.weight', 'conv10.bias')}
    return {**tensors, **conv10}, {**config, 'class_num': count, 'class_names': None}


def torch_(model, few, threads, pictures=None, feed=None):
    """From one batch in memory, or reading `pictures` by `feed` with torch's DataLoader."""
    from peers import cv2_crop, pil_crop
    from torch_network import loader

    import reader

    crops, labels = one_batch(few)
    batch = reader.network_input(crops, Preprocessing()), labels
    network, update = torch_trainer(f'{model}/model.safetensors', int(threads))
    losses = [update(*batch) for _ in range(CHECKED)]
    network.dropout = DROPOUT
    if pictures is None:
        return {'rate': rate_of(lambda: update(*batch)), 'losses': losses}
    with open(pictures, encoding='utf-8') as file:
        paths, labels = zip(*(line.rsplit(None, 1) for line in file))
    start = time.perf_counter()
    crop = {'pil': pil_crop, 'cv2': cv2_crop}[feed]
    for images, targets in loader(paths, labels, 2 * BATCH, 1, crop):
        update(images, targets)
    return {'rate': len(paths) / (time.perf_counter() - start), 'losses': losses}


if __name__ == '__main__':
    timing.main(__doc__, measure, child, count=640, rounds=3)
