"""Where the network's time goes on one thread, by kind of layer, beside ONNX Runtime.

oneDNN itself tells what Paddle Inference spends in each layer (its ONEDNN_VERBOSE), ONNX Runtime's
profiler what that does. Telling takes time, too, so the whole is measured without.
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
        (name, what): lambda n=name, w=what: ask(n, w, folder)
        for name in (OURS, PEER)
        for what in ('whole', 'parts')
    }
    found = timing.in_turn(contestants, options.rounds)
    whole = {name: found[name, 'whole'] for name in (OURS, PEER)}
    parts = {name: medians(found[name, 'parts']) for name in (OURS, PEER)}
    work = multiplications()
    rows = [[kind, *(cell(parts[name][kind], work[kind]) for name in parts)] for kind in KINDS]
    rest = {name: statistics.median(whole[name]) - sum(parts[name].values()) for name in parts}
    rows.append(['between the layers', *(f'{rest[name]:.2f}' for name in rest)])
    rows.append(['the whole', *(spread(whole[name], 2) for name in whole)])
    return [
        '## Layers',
        f'Milliseconds a picture, and billions of operations a second, with batches of {BATCH} and '
        f'one thread; medians of {options.rounds} rounds. {PEER} takes '
        f'{ratio(whole[PEER], whole[OURS])} of our time.',
        timing.table(['', OURS, PEER], rows),
    ]


def ask(name, what, folder):
    """Milliseconds a picture: of the whole, or {kind: of its layers}."""
    environment = {'OMP_NUM_THREADS': '1'}
    if (name, what) == (OURS, 'parts'):
        environment['ONEDNN_VERBOSE'] = 'profile_exec'
    output = run(__file__, '--child', name, what, folder, environment=environment).output
    if (name, what) == (OURS, 'parts'):
        return onednns_words(output)
    return json.loads(output)


def onednns_words(output):
    """{kind: milliseconds a picture}, the medians of all runs but the first."""
    runs = []
    for line in output.splitlines():
        fields = line.split(',')
        if 'exec' not in fields:
            continue
        primitive, sizes, milliseconds = fields[fields.index('exec') + 2], *fields[-2:]
        kind = kind_of(primitive, sizes)
        if kind == 'conv1':
            runs.append(Counter())
        if runs:  # what precedes the first conv1 prepares the weights
            runs[-1][kind] += float(milliseconds) / BATCH
    return medians(runs[WARM_UP:-1])  # the last has another's beginning


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


def child(name, what, folder):
    import numpy as np

    images = np.random.default_rng(0).normal(0, 50, (BATCH, 3, 227, 227)).astype(np.float32)
    profile = folder if (name, what) == (PEER, 'parts') else None
    {OURS: paddles, PEER: onnx_runtimes}[name](Path(folder), images, profile)


def paddles(folder, images, _):
    import common.paddle_setup  # noqa: F401 - before Paddle

    from models import parameters
    from models.inference import Predictor, build_program

    predict = Predictor(build_program(*parameters.read_model(folder / 'model')))
    print(json.dumps(time_of(lambda: predict(images))))


def onnx_runtimes(folder, images, profile):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_profiling = bool(profile)
    options.profile_file_prefix = str(folder / 'profile')
    path, providers = str(folder / 'model' / 'network.onnx'), ['CPUExecutionProvider']
    session = onnxruntime.InferenceSession(path, options, providers)
    whole = time_of(lambda: session.run(None, {'data': images}))
    if not profile:
        print(json.dumps(whole))
        return
    with open(session.end_profiling(), encoding='utf-8') as file:
        events = [event for event in json.load(file) if event['name'].endswith('kernel_time')]
    size = len(events) // (WARM_UP + RUNS)
    runs = [Counter() for _ in range(WARM_UP + RUNS)]
    for number, event in enumerate(events):
        kind = next((k for part, k in OF_NODES.items() if part in event['name']), 'copies')
        runs[number // size][kind] += event['dur'] / 1000 / BATCH
    print(json.dumps(medians(runs[WARM_UP:])))


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
