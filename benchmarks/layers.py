"""Where the network's time goes on one thread, by kind of layer, beside ONNX Runtime.

oneDNN itself tells what Paddle Inference spends in each layer (its ONEDNN_VERBOSE), ONNX Runtime's
profiler what that does. The whole is measured meanwhile; and once more with nothing told.
"""

import json
import re
import statistics
import time
from collections import Counter
from pathlib import Path

import timing
from timing import ROOT, ratio, run, spread

from network import architecture

BATCH, RUNS, WARM_UP = 4, 30, 3
KINDS = 'conv1', '1x1 squeeze', '1x1 expand', '3x3 expand', 'conv10', 'pooling', 'copies'
OURS, PEER = 'Paddle Inference', 'ONNX Runtime'
OF_NODES = {  # parts of ONNX Runtime's names
    'conv1_': 'conv1', 'squeeze1x1': '1x1 squeeze', 'expand1x1': '1x1 expand',
    'expand3x3': '3x3 expand', 'conv10': 'conv10', 'pool': 'pooling', 'logits': 'pooling',
}  # fmt: skip
CONVOLUTION = re.compile(r'_ic(\d+)oc(\d+)_.*kh(\d+)')  # oneDNN's word for its sizes


def measure(options, folder):
    model = folder / 'model'
    run(ROOT / 'caffe2paddle.py', '--output', model)
    run(ROOT / 'export.py', '--model', model, '--to', 'onnx', '--output', model / 'network.onnx')
    contestants = {
        (name, tell): lambda n=name, t=tell: ask(n, t, folder)
        for tell in (True, False)
        for name in (OURS, PEER)
    }
    found = timing.in_turn(contestants, options.rounds)
    columns = [column(found[name, True]) for name in (OURS, PEER)]
    silent = [[result['whole'] for result in found[name, False]] for name in (OURS, PEER)]
    rows = [list(row) for row in zip((*KINDS, 'between the layers', 'the whole'), *columns)]
    rows.append(['with nothing told', *(spread(values, 2) for values in silent)])
    share = ratio(silent[1], silent[0])
    return [
        '## Layers',
        f'Milliseconds a picture, and billions of operations a second, with batches of {BATCH} and '
        f'one thread; medians of {options.rounds} rounds. {PEER} takes {share} of our time.',
        timing.table(['', OURS, PEER], rows),
    ]


def ask(name, tell, folder):
    """{'whole': milliseconds a picture, 'parts': the same of each kind, if it is to `tell`}"""
    environment = {'OMP_NUM_THREADS': '1'}
    if tell and name == OURS:
        environment['ONEDNN_VERBOSE'] = 'profile_exec'
    output = run(__file__, '--child', name, tell or '', folder, environment=environment).output
    *words, result = output.splitlines()
    result = json.loads(result)
    return {**result, 'parts': onednns_words(words)} if tell and name == OURS else result


def column(results):
    """A cell of each kind, of what is between them and of the whole."""
    parts, work = medians([result['parts'] for result in results]), multiplications()
    whole = [result['whole'] for result in results]
    rest = statistics.median(whole) - sum(parts.values())
    return [*(cell(parts[kind], work[kind]) for kind in KINDS), f'{rest:.2f}', spread(whole, 2)]


def onednns_words(lines):
    """{kind: milliseconds a picture}, the medians of all runs but the first."""
    runs = []
    for line in lines:
        fields = line.split(',')
        if 'exec' not in fields:
            continue
        primitive, sizes, milliseconds = fields[fields.index('exec') + 2], *fields[-2:]
        kind = kind_of(primitive, sizes)
        if kind == 'conv1':
            runs.append(Counter())
        if runs:  # what precedes the first conv1 prepares the weights
            runs[-1][kind] += float(milliseconds) / BATCH
    return medians(runs[WARM_UP:-1])  # each has the next one's beginning, the last has none


def kind_of(primitive, sizes):
    if primitive != 'convolution':
        return 'pooling' if primitive == 'pooling' else 'copies'
    channels_in, channels_out, kernel = map(int, CONVOLUTION.search(sizes).groups())
    return kind_of_convolution(channels_in, channels_out, kernel)


def kind_of_convolution(channels_in, channels_out, kernel):
    if kernel == 3:
        return 'conv1' if channels_in == 3 else '3x3 expand'
    if channels_out == 1000:
        return 'conv10'
    return '1x1 squeeze' if channels_in > channels_out else '1x1 expand'


def medians(counts):
    return {kind: statistics.median(count.get(kind, 0) for count in counts) for kind in KINDS}


def multiplications():
    """{kind: for a picture}"""
    found, shapes = Counter(), architecture.output_shapes('1.1', 227)
    for name, shape in architecture.parameter_shapes('1.1', None, 1000).items():
        if name.endswith('.weight'):
            channels_out, channels_in, kernel, _ = shape
            _, height, width = shapes[name.split('.')[0]]
            kind = kind_of_convolution(channels_in, channels_out, kernel)
            found[kind] += channels_in * channels_out * kernel**2 * height * width
    return found


def cell(milliseconds, multiplied):
    speed = f' ({2e-6 * multiplied / milliseconds:.0f})' if multiplied else ''
    return f'{milliseconds:.2f}{speed}'


def child(name, tell, folder):
    """Print what `ask` returns, but for the parts that oneDNN tells."""
    import numpy as np

    images = np.random.default_rng(0).normal(0, 50, (BATCH, 3, 227, 227)).astype(np.float32)
    print(json.dumps({OURS: paddles, PEER: onnx_runtimes}[name](Path(folder), images, tell)))


def paddles(folder, images, _):
    import common.paddle_setup  # noqa: F401 - before Paddle

    from models import model_io
    from models.inference import Predictor, build_program

    predict = Predictor(build_program(*model_io.read_model(folder / 'model')))
    return {'whole': time_of(lambda: predict(images))}


def onnx_runtimes(folder, images, tell):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_profiling = bool(tell)
    options.profile_file_prefix = str(folder / 'profile')
    path, providers = str(folder / 'model' / 'network.onnx'), ['CPUExecutionProvider']
    session = onnxruntime.InferenceSession(path, options, providers)
    whole = time_of(lambda: session.run(None, {'data': images}))
    if not tell:
        return {'whole': whole}
    with open(session.end_profiling(), encoding='utf-8') as file:
        events = [event for event in json.load(file) if event['name'].endswith('kernel_time')]
    size = len(events) // (WARM_UP + RUNS)
    runs = [Counter() for _ in range(WARM_UP + RUNS)]
    for number, event in enumerate(events):
        kind = next((k for part, k in OF_NODES.items() if part in event['name']), 'copies')
        runs[number // size][kind] += event['dur'] / 1000 / BATCH
    return {'whole': whole, 'parts': medians(runs[WARM_UP:])}


def time_of(work):
    """Milliseconds a picture, the median."""
    seconds = []
    for _ in range(WARM_UP + RUNS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[WARM_UP:]) * 1000 / BATCH


if __name__ == '__main__':
    timing.main(__doc__, measure, child, count=None, rounds=5)
