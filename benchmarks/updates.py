"""Where an update's time goes on one thread, by kind of work: train_step and torch.

Paddle's and torch's profilers tell; the whole is measured meanwhile.
"""

import json
import statistics
import time
from collections import Counter
from pathlib import Path

import timing
from timing import ROOT, run, spread
from trainers import BATCH, KEPT_MEMORY, our_trainer, torch_trainer

UPDATES, WARM_UP = 6, 2
KINDS = 'convolutions', 'their gradients', 'biases', 'ReLU', 'max-pool', 'concatenation'
OURS, TORCH = 'train_step', 'torch, channels-last'
OPERATORS = {  # Paddle's kernels and torch's operators
    'convolutions': ('conv2d', 'aten::mkldnn_convolution'),
    'their gradients': ('conv2d_grad', 'aten::convolution_backward'),
    'biases': ('add', 'matmul', 'sum'),
    'ReLU': ('relu', 'relu_grad', 'aten::clamp_min_', 'aten::threshold_backward'),
    'max-pool': (
        'max_pool2d_with_index', 'max_pool2d_with_index_grad',
        'aten::max_pool2d_with_indices', 'aten::max_pool2d_with_indices_backward',
    ),
    'concatenation': ('concat', 'concat_grad', 'aten::cat'),
}  # fmt: skip
KIND_OF = {operator: kind for kind, operators in OPERATORS.items() for operator in operators}


def measure(options, folder):
    model = folder / 'model'
    run(ROOT / 'caffe2paddle.py', '--output', model)
    contestants = {name: lambda n=name: ask(n, folder) for name in (OURS, TORCH)}
    found = timing.in_turn(contestants, options.rounds)
    columns = [column(results) for results in found.values()]
    rows = [[kind, *cells] for kind, *cells in zip((*KINDS, 'the rest', 'the whole'), *columns)]
    return [
        '## An update',
        f'Milliseconds a picture, in batches of {BATCH}, all layers, one thread; medians of '
        f"{options.rounds} rounds. torch's biases are part of its convolutions.",
        timing.table(['', OURS, TORCH], rows),
    ]


def ask(name, folder):
    environment = {'OMP_NUM_THREADS': '1', **KEPT_MEMORY}
    return json.loads(run(__file__, '--child', name, folder, environment=environment).output)


def column(results):
    """A cell of each kind, of the rest and of the whole."""
    parts = [
        statistics.median(result['parts'].get(kind, 0) for result in results) for kind in KINDS
    ]
    whole = [result['whole'] for result in results]
    rest = statistics.median(whole) - sum(parts)
    return [*(f'{part:.1f}' for part in (*parts, rest)), spread(whole)]


def child(name, folder):
    """Print {'whole': milliseconds a picture, 'parts': the same of each kind}."""
    import numpy as np

    random = np.random.default_rng(0)
    images = random.normal(0, 50, (BATCH, 3, 227, 227)).astype(np.float32)
    batch = images, random.integers(0, 1000, BATCH)
    {OURS: ours, TORCH: torchs}[name](Path(folder), batch)


def ours(folder, batch):
    from models import model_io

    _, update = our_trainer(*model_io.read_model(folder / 'model'))
    from paddle import profiler

    warm_up(lambda: update(batch))
    keep = profiler.export_chrome_tracing(str(folder / 'trace'))
    with profiler.Profiler(targets=[profiler.ProfilerTarget.CPU], on_trace_ready=keep):
        whole = time_of(lambda: update(batch))
    (trace,) = (folder / 'trace').iterdir()
    events = json.loads(trace.read_text(encoding='utf-8'))['traceEvents']
    trace.unlink()
    tell(
        whole,
        (
            (event['name'].split(' ')[0], event['dur'])
            for event in events
            if event.get('cat') == 'DygraphKernelLaunch'
        ),
    )


def torchs(folder, batch):
    from torch import profiler

    _, update = torch_trainer(folder / 'model' / 'model.safetensors', 1)
    warm_up(lambda: update(*batch))
    with profiler.profile(activities=[profiler.ProfilerActivity.CPU]) as profile:
        whole = time_of(lambda: update(*batch))
    tell(whole, ((entry.key, entry.self_cpu_time_total) for entry in profile.key_averages()))


def tell(whole, microseconds):
    parts = Counter()
    for operator, duration in microseconds:
        if operator in KIND_OF:
            parts[KIND_OF[operator]] += duration / 1000 / BATCH / UPDATES
    print(json.dumps({'whole': whole, 'parts': parts}))


def warm_up(update):
    for _ in range(WARM_UP):
        update()


def time_of(update):
    """Milliseconds a picture."""
    start = time.perf_counter()
    for _ in range(UPDATES):
        update()
    return (time.perf_counter() - start) * 1000 / BATCH / UPDATES


if __name__ == '__main__':
    timing.main(__doc__, measure, child, count=None, rounds=5)
