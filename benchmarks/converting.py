"""Converting a caffemodel: caffe2paddle.py against OpenCV's importer, and X2Paddle where it is.

Whole commands, from the file to parameters on the disk: ours checks them and writes safetensors and
class names; OpenCV's importer reads the file, and its parameters are saved as .npz; X2Paddle writes
Python code, .pdparams and a static graph. X2Paddle 1.6 needs protobuf 3.20, older than the project
and its peers take, so it is measured where the command x2paddle is in PATH, at its end:

    python -m venv x2paddle
    x2paddle/bin/pip install x2paddle paddlepaddle six requests pillow protobuf==3.20.3
    PATH="$PATH:$PWD/x2paddle/bin" python benchmarks/converting.py
"""

import shutil
from pathlib import Path

import timing
from timing import ROOT, ratio, run, spread

CAFFEMODEL = ROOT / 'data' / 'squeezenet_v1.1.caffemodel'
OURS, OPENCV, X2PADDLE = 'caffe2paddle.py', "OpenCV's importer", 'X2Paddle'


def measure(options, folder):
    prototxt, model, npz = folder / 'deploy.prototxt', folder / 'model', folder / 'opencv.npz'
    run(__file__, '--child', 'prototxt', prototxt)
    contestants = {
        OURS: lambda: run(ROOT / 'caffe2paddle.py', CAFFEMODEL, '--output', model),
        OPENCV: lambda: run(__file__, '--child', 'opencv', prototxt, npz),
    }
    written = [npz]
    command = shutil.which('x2paddle')
    if command:
        flags = '--framework', 'caffe', '--prototxt', prototxt, '--weight', CAFFEMODEL
        output = folder / 'x2paddle'
        contestants[X2PADDLE] = lambda: run(*flags, '--save_dir', output, program=command)
        written.append(output / 'model.pdparams')
    results = timing.in_turn(contestants, options.rounds)
    run(__file__, '--child', 'check', model, *written)

    seconds = {name: [result.seconds for result in runs] for name, runs in results.items()}
    megabytes = {name: [r.peak_bytes / 1e6 for r in runs] for name, runs in results.items()}
    rows = []
    for name in contestants:
        row = [name]
        for values, digits in ((seconds, 2), (megabytes, 0)):
            row.append(spread(values[name], digits))
            row.append('' if name == OURS else ratio(values[OURS], values[name]))
        rows.append(row)
    return [
        '## Converting',
        f'{CAFFEMODEL.name}, {options.rounds} rounds: median (smallest..largest). ratio: ours / '
        'peer; below 1, ours is faster or smaller.',
        timing.table(['', 'seconds', 'ratio', 'peak memory, MB', 'ratio'], rows),
        'Parameters agree: every value of each peer is ours, bit for bit.'
        + ('' if command else ' X2Paddle is not in PATH and was not measured.'),
    ]


def child(what, *arguments):
    {'prototxt': write_prototxt, 'opencv': opencv, 'check': check}[what](*arguments)


def write_prototxt(path):
    from caffe_format.writing import deploy_prototxt
    from models.model_io import make_config

    text = deploy_prototxt(make_config('1.1', None, 1000))
    with open(path, 'w', encoding='utf-8') as file:
        file.write(text.replace('SqueezeNet v1.1', 'SqueezeNet'))  # X2Paddle's name of a class


def opencv(prototxt, output):
    """What caffe2paddle.py does, by OpenCV."""
    import cv2
    import numpy as np

    network = cv2.dnn.readNetFromCaffe(prototxt, str(CAFFEMODEL))
    tensors = {}
    for name in network.getLayerNames():
        if network.getLayer(name).type == 'Convolution':
            tensors[f'{name}.weight'] = network.getParam(name, 0)
            tensors[f'{name}.bias'] = network.getParam(name, 1)
    np.savez(output, **tensors)


def check(model, *written):
    """Every value of ours is in each of the files that the peers have written."""
    import numpy as np

    from models import model_io
    from models.formats import pdparams

    tensors, _ = model_io.read_model(model)
    for path in written:
        if path.endswith('.npz'):
            theirs = dict(np.load(path))
        else:
            theirs = pdparams.load_arrays(Path(path).read_bytes())
        theirs = {value.tobytes() for value in theirs.values()}
        missing = [name for name, value in tensors.items() if value.tobytes() not in theirs]
        assert not missing, f'{path} lacks or changes {missing}'


if __name__ == '__main__':
    timing.main(__doc__, measure, child, count=None, rounds=7)
