"""How good train.py's defaults are on one's own pictures: top-1 over several seeds.

Each list lies beside its val.txt (and classes.txt), as reader.py writes them. `head` is the network
with its fitted conv10 before any update, `last` the end of the schedule, `best` the epoch with the
highest top-1 on the val list: chosen by what it is measured on, so it flatters, the more the
smaller the list. Times are of the whole command, start and report included.
"""

import argparse
import csv
import json
import statistics
import tempfile
from pathlib import Path

import timing

HEADER = ['data', 'train', 'val', 'head', 'last', 'best', 'last, balanced', 'seconds', 'CPU s']


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('lists', nargs='+', metavar='TRAIN_LIST')
    parser.add_argument('--seeds', type=int, default=5, help='1 to so many; default 5')
    parser.add_argument('--flags', default='', help='more of train.py\'s flags, in one word: "..."')
    parser.add_argument('--save', metavar='FILE.md', help='write the table to a file, too')
    options = parser.parse_args()
    rows = []
    for train_list in map(Path, options.lists):
        found = [measure(train_list, seed, options.flags.split()) for seed in seeds(options)]
        rows.append([train_list.resolve().parent.name, *map(mean_and_spread, zip(*found))])
    text = '\n\n'.join(
        [
            '## Fine-tuning',
            f'`train.py {options.flags}`, seeds 1 to {options.seeds}: mean ± standard deviation '
            'over the seeds, of top-1 on the val list in %.',
            timing.table(HEADER, rows),
            f'Machine: {timing.machine()}',
        ]
    )
    print(text, flush=True)
    if options.save:
        Path(options.save).write_text(text + '\n', encoding='utf-8')


def seeds(options):
    return range(1, options.seeds + 1)


def measure(train_list, seed, flags):
    """The numbers of HEADER, but for the name, of one run."""
    with tempfile.TemporaryDirectory(prefix='squeezenet-bench-') as folder:
        output = Path(folder) / 'run'
        ended = timing.run(
            timing.ROOT / 'train.py', '--train_list', train_list, '--output', output,
            '--seed', seed, *flags,
        )  # fmt: skip
        with open(output / 'log.csv', encoding='utf-8', newline='') as file:
            log = list(csv.DictReader(file))
        told = json.loads((output / 'run.json').read_text(encoding='utf-8'))
    shares = [log[0]['val_top1'], log[-1]['val_top1'], told['results']['val']['top1']]
    shares = [100 * float(share) for share in (*shares, log[-1]['val_balanced'])]
    timing.progress(f'{train_list}, seed {seed}: ' + ', '.join(f'{share:.1f}' for share in shares))
    pictures = told['pictures']
    return [pictures['train'], pictures['val'], *shares, ended.seconds, ended.cpu_seconds]


def mean_and_spread(values):
    if len(set(values)) == 1:
        return f'{values[0]:g}' if isinstance(values[0], int) else f'{values[0]:.1f}'
    return f'{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}'


if __name__ == '__main__':
    main()
