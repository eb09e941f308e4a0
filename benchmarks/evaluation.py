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
LEAST_AGREEMENT = 0.7  # of top-1 with ours, where PIL's other resize or fewer digits are between
FEWER_DIGITS = 'onnxruntime_int8', 'openvino_default'
CALIBRATION = 100  # pictures, of int8
OURS, OURS16, OURS8 = 'infer.py', 'infer.py --precision bfloat16', 'infer.py --precision int8'
PEERS = {
    'ONNX Runtime, cv2 in a thread per core, 1 picture each': ('onnxruntime', 'threads1'),
    'the same, 4 pictures each': ('onnxruntime', 'threads4'),
    'ONNX Runtime int8, the same': ('onnxruntime_int8', 'threads4'),
    'ONNX Runtime, cv2 loop': ('onnxruntime', 'cv2'),
    'ONNX Runtime, PIL loop': ('onnxruntime', 'pil'),
    'OpenVINO, cv2 in a thread per core, 4 pictures each': ('openvino', 'threads4'),
    'the same in the precision it chooses': ('openvino_default', 'threads4'),
    'OpenVINO, cv2 loop': ('openvino', 'cv2'),
    'torch, cv2 in a thread per core, 4 pictures each': ('torch', 'threads4'),
    'torch, its DataLoader with PIL': ('torch', 'dataloader'),
}


def measure(options, folder):
    pictures, words = timing.make_pictures(options, folder)
    lists = {'all': pictures, 'few': timing.first_lines(pictures, FEW, folder)}
    lists['one'] = timing.first_lines(pictures, 1, folder)
    picture = lists['one'].read_text(encoding='utf-8').rsplit(None, 1)[0]
    run(ROOT / 'caffe2paddle.py', '--output', folder / 'model')
    calibration = timing.first_lines(pictures, CALIBRATION, folder)
    export_onnx(folder / 'model', calibration)

    contest = Contest(folder, lists)
    contest.ours('few')
    for network in ('onnxruntime', 'openvino', 'torch'):  # also those that PIL feeds below
        contest.peer('few', network, 'cv2')
    contest.ours('all')  # what the others are compared with
    contest.ours('one')
    contestants = {OURS: lambda: (contest.ours('all'), contest.ours('few'))}
    fewer_digits = {OURS8: ('int8', '--calibrate', calibration)}
    if 'amx_bf16' in timing.instructions():
        fewer_digits[OURS16] = ('bfloat16',)
    for name, precision in fewer_digits.items():
        contestants[name] = lambda n=name, p=precision: (
            contest.ours('all', n, *p),
            contest.ours('few', n, *p),
        )
    for name, (network, feed) in PEERS.items():
        contestants[name] = lambda n=network, f=feed: (
            contest.peer('all', n, f),
            contest.peer('few', n, f),
        )
    first = {'infer.py PICTURE': lambda: contest.first(picture)}
    for network in ('onnxruntime', 'openvino', 'torch'):
        first[f'{network}, cv2'] = lambda n=network: contest.peer('one', n, 'cv2')
    rows = speed_rows(timing.in_turn(contestants, options.rounds), options.count)
    for row in rows:
        row.append(f'{contest.agreement[PEERS.get(row[0], row[0])]:.1%}')
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
            [
                '',
                'images/s once started',
                'ratio',
                'images/s, whole command',
                'CPU ms/image',
                'top-1 is ours',
            ],
            rows,
        ),
        f'Where cv2 feeds a float32 network, every probability of a top-1 is ours within '
        f"{TOLERANCE}; PIL's resize smooths.",
        'From the command to the first prediction. ratio: ours / peer; below 1, ours is earlier.',
        timing.table(
            ['', 'seconds', 'ratio'],
            [
                [name, spread(values, 2), '' if values is ours else ratio(ours, values)]
                for name, values in seconds.items()
            ],
        ),
    ]


def export_onnx(model, calibration):
    """network.onnx and int8.onnx, into the model's directory."""
    command = [ROOT / 'export.py', '--model', model, '--to']
    run(*command, 'onnx', '--output', model / 'network.onnx')
    flags = '--calibrate', calibration, '--val_list', calibration
    run(*command, 'onnx_int8', *flags, '--output', model / 'int8.onnx')


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
        self.folder, self.lists, self.agreement = folder, lists, {OURS: 1.0}

    def ours(self, which, name=OURS, *precision):
        """infer.py on a list; in another precision, compared with itself in float32."""
        output = self.folder / ('peer.csv' if precision else f'ours-{which}.csv')
        flags = ('--precision', *precision) if precision else ()
        result = run(
            ROOT / 'infer.py', '--model', self.folder / 'model', '--val_list', self.lists[which],
            '--output', output, *flags,
        )  # fmt: skip
        if precision:
            self._compare(which, name, output, exact=False)
        return result

    def first(self, picture):
        result = run(ROOT / 'infer.py', '--model', self.folder / 'model', picture)
        assert '%' in result.output, result.output
        return result

    def peer(self, which, network, feed):
        output = self.folder / 'peer.csv'
        result = run(
            HERE / 'peers.py', network, feed, self.folder / 'model', self.lists[which], output
        )
        exact = feed not in ('pil', 'dataloader') and network not in FEWER_DIGITS
        self._compare(which, (network, feed), output, exact)
        return result

    def _compare(self, which, name, output, exact):
        """Keep on how many pictures the top-1 is ours, and fail where it should be on more."""
        ours, theirs = read(self.folder / f'ours-{which}.csv'), read(output)
        assert len(ours) == len(theirs)
        same = sum(a[0] == b[0] for a, b in zip(ours, theirs)) / len(ours)
        if which == 'all':
            self.agreement[name] = same
        worst = max(abs(a[1] - b[1]) for a, b in zip(ours, theirs))
        assert not exact or worst <= TOLERANCE, f'{name}: probabilities differ by {worst}'
        if exact or which == 'all':  # few pictures say little
            least = 1.0 if exact else LEAST_AGREEMENT
            assert same >= least, f'{name}: top-1 is ours on {same:.1%} of the pictures'


def read(path):
    """[(top-1, its probability)] of a results file."""
    with open(path, encoding='utf-8', newline='') as file:
        return [(int(row['class0']), float(row['prob0'])) for row in csv.DictReader(file)]


if __name__ == '__main__':
    timing.main(__doc__, measure, count=1000, rounds=4)
