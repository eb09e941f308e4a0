"""Reading pictures for the network: our loader against torch's, and bare decoding as the limit.

All end at float32 batches with the mean subtracted, but for the limit, which only decodes. A rate
is (pictures - few) / (seconds for all - seconds for few): starting processes is left out.
"""

import json
import multiprocessing
import os
import time

import timing
from timing import ratio, run, spread

BATCH = 16
FEW = 160
TOLERANCE = 0.5  # of the mean of all values, in grey levels
NAMES = {
    'ours': 'reader.py, eval_loader',
    'limit': 'cv2.imread alone',
    'torch': 'torch DataLoader with PIL',
}


def measure(options, folder):
    pictures, words = timing.make_pictures(options, folder)
    few = timing.first_lines(pictures, FEW, folder)
    cases = [(who, workers) for workers in (0, 2) for who in NAMES]
    contestants = {
        (who, workers): lambda who=who, workers=workers: json.loads(
            run(__file__, '--child', who, workers, few, pictures).output
        )
        for who, workers in cases
    }
    results = timing.in_turn(contestants, options.rounds)
    check({case: results[case][0]['mean'] for case in cases})
    rates = {case: [result['rate'] for result in results[case]] for case in cases}
    rows = []
    for who, name in NAMES.items():
        row = [name]
        for workers in (0, 2):
            row.append(spread(rates[who, workers], 0))
            ours = rates['ours', workers]
            row.append('' if who == 'ours' else ratio(ours, rates[who, workers]))
        rows.append([*row, ratio(rates[who, 2], rates[who, 0])])
    return [
        '## Reading',
        f'{options.count} pictures ({words}), {options.rounds} rounds: median '
        '(smallest..largest). ratio: ours / peer in images/s; above 1, our loader is faster.',
        timing.table(
            ['', 'images/s, 1 core', 'ratio', 'images/s, 2 workers', 'ratio', '2 workers / 1 core'],
            rows,
        ),
        'Batches agree: the mean of what our loader gives is the same with workers and without, '
        f"and that of PIL's pictures within {TOLERANCE} grey levels of it.",
    ]


def check(means):
    ours = means['ours', 0]
    assert means['ours', 2] == ours, f'with workers the pictures differ: {means}'
    for workers in (0, 2):
        assert abs(means['torch', workers] - ours) < TOLERANCE, f'pictures differ: {means}'


def child(who, workers, few, pictures):
    """Print the rate of one contestant as JSON; without workers on one core."""
    workers = int(workers)
    if not workers and hasattr(os, 'sched_setaffinity'):
        os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])
    from pictures import lists

    read = {'ours': read_ours, 'limit': read_bare, 'torch': read_torch}[who]
    few, pictures = lists.read_list(few), lists.read_list(pictures)
    mean = sum(float(images.mean()) * len(images) for images in read(few, workers)) / len(few)
    seconds = []
    for chosen in (few, pictures):
        start = time.perf_counter()
        for _ in read(chosen, workers):
            pass
        seconds.append(time.perf_counter() - start)
    rate = (len(pictures) - len(few)) / (seconds[1] - seconds[0])
    print(json.dumps({'rate': rate, 'mean': mean}))


def read_ours(pictures, workers):
    import reader
    from network.preprocessing import Preprocessing

    SHORT = Preprocessing()

    for _, crops, _ in reader.eval_loader(pictures, SHORT, BATCH, num_workers=workers):
        yield reader.network_input(crops, SHORT)


def read_torch(pictures, workers):
    import torch
    from peers import pil_crop
    from torch_network import loader

    torch.set_num_threads(1)
    paths = [pictures.path(i) for i in range(len(pictures))]
    for images, _ in loader(paths, pictures.labels, BATCH, workers, pil_crop):
        yield images


def read_bare(pictures, workers):
    """The limit: decode and forget. Yields batches of nothing, whose mean is not compared."""
    import reader  # sets OpenCV's threads to 1

    paths = [pictures.path(i) for i in range(len(pictures))]
    if workers:
        with multiprocessing.get_context('fork').Pool(workers) as pool:
            pool.map(decode, paths, chunksize=BATCH)
    else:
        for path in paths:
            decode(path)
    yield reader.np.zeros(1)


def decode(path):
    import cv2

    cv2.imread(path)


if __name__ == '__main__':
    timing.main(__doc__, measure, child, count=3000)
