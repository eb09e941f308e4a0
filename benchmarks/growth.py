"""What longer lists cost: start-up, speed and memory of reader and evaluation, up to ImageNet's.

The lists repeat the same pictures. The whole list is parsed and put in order; then a bounded number
of its pictures is taken: the first ones of a shuffled epoch by the reader, and by the evaluation
every n-th one of the list. Memory is each process's proportional share of what Linux counts.
"""

import json
import multiprocessing
import os
import time

import timing
from timing import ROOT, ratio, run, spread

LENGTHS = 1_000, 10_000, 100_000, 1_300_000  # lines; ImageNet has 1,281,167 training pictures
TAKEN = 400  # pictures of each list
PICTURES = 401  # different ones; a prime, so that every n-th line goes over all of them
WORKERS, BATCH = 2, 16
PARTS = {'reader': 'Reader, train_loader', 'evaluation': 'Evaluation'}


def measure(options, folder):
    pictures, words = timing.make_pictures(options, folder)
    run(ROOT / 'caffe2paddle.py', '--output', folder / 'model')
    lines = pictures.read_text(encoding='utf-8').splitlines(keepends=True)
    contestants = {}
    for length in LENGTHS:
        path = folder / f'{length}.txt'
        whole, rest = divmod(length, len(lines))
        path.write_text(''.join(lines) * whole + ''.join(lines[:rest]), encoding='utf-8')
        for part in PARTS:
            contestants[part, length] = lambda part=part, path=path: json.loads(
                run(__file__, '--child', part, path, folder / 'model').output
            )
    found = timing.in_turn(contestants, options.rounds)
    text = [
        '## Growth',
        f'About {TAKEN} pictures ({words}) of lists of growing length, {WORKERS} workers, '
        f'{options.rounds} rounds: median (smallest..largest). ratio: images/s / images/s of the '
        'shortest list.',
    ]
    for part, title in PARTS.items():
        text += [f'{title}:', part_table({n: found[part, n] for n in LENGTHS})]
    return text


def part_table(found):
    """A row for each list length, of what the children have printed."""
    header = ['lines', 'list read, s', 'then first batch, s', 'images/s', 'ratio', 'main, MB']
    rows = []
    for length, results in found.items():
        columns = {name: [result[name] for result in results] for name in results[0]}
        rates = columns['rate'], [result['rate'] for result in found[LENGTHS[0]]]
        rows.append(
            [
                f'{length:,}',
                spread(columns['parse'], 3),
                spread(columns['first'], 2),
                spread(columns['rate'], 0),
                '' if length == LENGTHS[0] else ratio(*rates),
                spread(columns['main'], 0),
                spread(columns['worker'], 0),
            ]
        )
    return timing.table([*header, 'each worker, MB'], rows)


def child(part, list_path, model):
    """Print one part's measures for one list as JSON."""
    import common.paddle_setup  # noqa: F401 - before Paddle

    import paddle  # noqa: F401 - before the clock starts

    from evaluation import evaluator  # noqa: F401
    from pictures import lists

    start = time.perf_counter()
    pictures = lists.read_list(list_path)
    parse = time.perf_counter() - start
    probe = Probe()
    {'reader': read, 'evaluation': evaluate}[part](pictures, model, probe)
    print(json.dumps({'parse': parse, **probe.results}))


class Probe:
    """Counts pictures: when the first batch came, how fast the rest, what memory in between."""

    def __init__(self):
        self.start, self.done, self.results = time.perf_counter(), 0, {}

    def count(self, pictures):
        now = time.perf_counter()
        if not self.done:
            self.first_time, self.first_pictures = now, pictures
            self.results['first'] = now - self.start
        self.done += pictures
        if 'main' not in self.results and self.done >= TAKEN // 2:
            workers = [megabytes(process.pid) for process in multiprocessing.active_children()]
            self.results['main'] = megabytes(os.getpid())
            self.results['worker'] = max(workers)
        if now > self.first_time:
            rate = (self.done - self.first_pictures) / (now - self.first_time)
            self.results['rate'] = rate


def megabytes(pid):
    with open(f'/proc/{pid}/smaps_rollup', encoding='ascii') as file:
        sizes = dict(line.split(':') for line in file if line.startswith('Pss:'))
    return int(sizes['Pss'].split()[0]) * 1024 / 1e6


def read(pictures, _, probe):
    import reader
    from network.preprocessing import Preprocessing

    sampling = reader.Sampling(BATCH)
    batches = reader.train_loader(pictures, Preprocessing(), sampling, 0, num_workers=WORKERS)
    while probe.done < TAKEN:
        _, labels = next(batches)
        probe.count(len(labels))
    batches.close()


def evaluate(pictures, model, probe):
    from common.device import CPU
    from evaluation.evaluator import Evaluator
    from models import model_io

    every = max(1, len(pictures) // TAKEN)
    evaluator = Evaluator(*model_io.read_model(model), CPU, WORKERS)
    part = evaluator.evaluate(pictures, 0, every, probe)
    assert abs(len(part.labels) - TAKEN) <= TAKEN // 4, len(part.labels)


if __name__ == '__main__':
    timing.main(__doc__, measure, child, count=PICTURES, rounds=3)
