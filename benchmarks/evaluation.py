"""Evaluation from the list to the top-5 file: infer.py against what people would use instead.

Every contestant is a whole command with the same weights, list and kind of result. Once started, it
makes (pictures - few) / (seconds for all - seconds for few) pictures a second, so that start-up and
warm-up are left out; the second table is about them alone.
"""

import csv

import timing
from timing import HERE, ROOT, ratio, run, spread

FEW = 16
TOLERANCE = 1e-3  # of probabilities
SMOOTHED_AGREEMENT = 0.7  # least share of equal top-1 where PIL's other resize feeds the network
OURS = 'infer.py'
PEERS = {
    'ONNX Runtime, cv2, a thread per core': ('onnxruntime', 'threads'),
    'ONNX Runtime, cv2 loop': ('onnxruntime', 'cv2'),
    'ONNX Runtime, PIL loop': ('onnxruntime', 'pil'),
    'OpenVINO, cv2 loop': ('openvino', 'cv2'),
    'OpenVINO, PIL loop': ('openvino', 'pil'),
    'torch, its DataLoader with PIL': ('torch', 'dataloader'),
}


def measure(options, folder):
    pictures, words = timing.make_pictures(options, folder)
    lists = {'all': pictures, 'few': timing.first_lines(pictures, FEW, folder)}
    lists['one'] = timing.first_lines(pictures, 1, folder)
    picture = lists['one'].read_text(encoding='utf-8').rsplit(None, 1)[0]
    run(ROOT / 'caffe2paddle.py', '--output', folder / 'model')
    onnx = folder / 'model' / 'network.onnx'
    run(ROOT / 'export.py', '--model', folder / 'model', '--to', 'onnx', '--output', onnx)

    contest = Contest(folder, lists)
    contest.ours('few')
    for network in ('onnxruntime', 'openvino', 'torch'):  # also those that PIL feeds below
        contest.peer('few', network, 'cv2')
    contestants = {OURS: lambda: (contest.ours('all'), contest.ours('few'))}
    for name, (network, feed) in PEERS.items():
        contestants[name] = lambda n=network, f=feed: (
            contest.peer('all', n, f),
            contest.peer('few', n, f),
        )
    first = {'infer.py PICTURE': lambda: contest.first(picture)}
    for network in ('onnxruntime', 'openvino', 'torch'):
        first[f'{network}, cv2'] = lambda n=network: contest.peer('one', n, 'cv2')
    contest.ours('all')  # what the others are compared with
    contest.ours('one')
    rows = speed_rows(timing.in_turn(contestants, options.rounds), options.count)
    seconds = {
        name: [result.seconds for result in results]
        for name, results in timing.in_turn(first, options.rounds).items()
    }
    ours = next(iter(seconds.values()))
    return [
        '## Evaluation, end to end',
        f'{options.count} pictures ({words}), {options.rounds} rounds: median (smallest..largest). '
        'ratio: ours / peer in images/s once started; above 1, infer.py is faster.',
        timing.table(
            ['', 'images/s once started', 'ratio', 'images/s, whole command', 'CPU ms/image'], rows
        ),
        f'Answers agree: cv2-fed peers have our top-1 on every picture and its probability within '
        f'{TOLERANCE}; fed by PIL, whose resize smooths, top-1 is ours on '
        f'{min(contest.agreement):.1%} or more.',
        'From the command to the first prediction. ratio: ours / peer; below 1, ours is earlier.',
        timing.table(
            ['', 'seconds', 'ratio'],
            [
                [name, spread(values, 2), '' if values is ours else ratio(ours, values)]
                for name, values in seconds.items()
            ],
        ),
    ]


def speed_rows(results, count):
    speeds = {
        name: [(count - FEW) / (all_.seconds - few.seconds) for all_, few in pairs]
        for name, pairs in results.items()
    }
    rows = []
    for name, pairs in results.items():
        cpu = [1000 * (a.cpu_seconds - few.cpu_seconds) / (count - FEW) for a, few in pairs]
        whole = [count / all_.seconds for all_, _ in pairs]
        quotient = '' if name == OURS else ratio(speeds[OURS], speeds[name])
        rows.append([name, spread(speeds[name]), quotient, spread(whole), spread(cpu, 2)])
    return rows


class Contest:
    """Runs the commands, and compares what they answer."""

    def __init__(self, folder, lists):
        self.folder, self.lists, self.agreement = folder, lists, []

    def ours(self, which):
        model, output = self.folder / 'model', self.folder / f'ours-{which}.csv'
        return run(
            ROOT / 'infer.py', '--model', model, '--val_list', self.lists[which], '--output', output
        )

    def first(self, picture):
        result = run(ROOT / 'infer.py', '--model', self.folder / 'model', picture)
        assert '%' in result.output, result.output
        return result

    def peer(self, which, network, feed):
        output = self.folder / 'peer.csv'
        result = run(
            HERE / 'peers.py', network, feed, self.folder / 'model', self.lists[which], output
        )
        ours, theirs = read(self.folder / f'ours-{which}.csv'), read(output)
        assert len(ours) == len(theirs)
        same = sum(a[0] == b[0] for a, b in zip(ours, theirs)) / len(ours)
        least = 1.0
        if feed in ('pil', 'dataloader'):
            least = SMOOTHED_AGREEMENT if which == 'all' else 0.0  # few say little
            self.agreement += [same] if which == 'all' else []
        else:
            worst = max(abs(a[1] - b[1]) for a, b in zip(ours, theirs))
            assert worst <= TOLERANCE, f'{network}, {feed}: probabilities differ by {worst}'
        assert same >= least, f'{network}, {feed}: top-1 is ours on {same:.1%} of the pictures'
        return result


def read(path):
    """[(top-1, its probability)] of a results file."""
    with open(path, encoding='utf-8', newline='') as file:
        return [(int(row['class0']), float(row['prob0'])) for row in csv.DictReader(file)]


if __name__ == '__main__':
    timing.main(__doc__, measure, count=1000, rounds=4)
