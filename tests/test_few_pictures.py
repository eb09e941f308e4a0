"""infer.py on a few pictures: without Paddle, and with the same answers."""

import json
import os
import signal
import subprocess
import sys

import cv2
import numpy as np
import paddle
import pytest
from conftest import CAT, COFFEE, ROOT
from inferring import run

import infer
from evaluation.infer_options import parse_options
from models import model_io
from models.formats import paddle_v2
from network.config import make_config
from network.preprocessing import Preprocessing

OFFICIAL, PACKED = (ROOT / 'data' / f'squeezenet_v1.1.{kind}' for kind in ('caffemodel', 'sqz'))
BY_NUMPY = '(by NumPy: Paddle would take longer to start)'

# Runs infer.py once for each line of stdin, and tells the modules that are loaded then.
COMMANDS = """
import json, sys
import infer
statuses = [infer.main(json.loads(line)) for line in sys.stdin]
print(json.dumps([statuses, sorted(sys.modules)]))
"""


SIGNALLED = """
import os, signal
from common import console, signals
from common.device import load_paddle

@console.one_line_errors
def main():
    signals.end_on_signals()
    load_paddle()
    try:
        signal.raise_signal(getattr(signal, os.environ['NAME']))
    finally:
        print('tidied up', flush=True)

raise SystemExit(main())
"""


def python(code, **options):
    """The CompletedProcess of a program."""
    command = [sys.executable, '-c', code]
    options = {'cwd': ROOT, 'capture_output': True, 'text': True, 'timeout': 120, **options}
    return subprocess.run(command, **options)


def modules_after(commands):
    """(exit statuses, names of the modules loaded, lines printed) of a process that runs these."""
    lines = '\n'.join(json.dumps([str(argument) for argument in command]) for command in commands)
    done = python(COMMANDS, input=lines)
    assert done.returncode == 0, done.stderr
    *printed, last = done.stdout.splitlines()
    return (*json.loads(last), printed)


def written(folder, tensors, config):
    folder.mkdir()
    model_io.write_model(folder, tensors, config)
    return folder


def is_paddles(module):
    return module.split('.')[0] == 'paddle'


def test_few_pictures_are_answered_without_paddle(tmp_path, official_tensors):
    """Of every kind of model, with everything that is written."""
    config = make_config('1.1', None, 1000)
    directory = written(tmp_path / 'model', official_tensors, config)
    paddle.save(official_tensors, str(tmp_path / 'model.pdparams'))
    paddle_v2.write_directory(tmp_path / 'v2', official_tensors, config)
    models = [OFFICIAL, PACKED, directory, directory / 'model.safetensors']
    models += [tmp_path / 'model.pdparams', tmp_path / 'v2']
    commands = [('--model', model, CAT) for model in models]
    written_too = ('--plot', 'plot.png', '--cam', 'cam.png', '--output', 'out.csv')
    written_too = [tmp_path / name if '.' in name else name for name in written_too]
    commands += [(tmp_path / 'pictures', CAT, *written_too), ('--device', 'cpu', CAT)]
    (tmp_path / 'pictures').mkdir()
    cv2.imwrite(str(tmp_path / 'pictures' / 'a.jpg'), cv2.imread(str(COFFEE)))
    statuses, modules, printed = modules_after(commands)
    assert statuses == [0] * len(commands)
    assert not list(filter(is_paddles, modules))
    assert 'tqdm' not in modules  # takes 25 ms, and without a terminal there is no bar
    assert 'common.paddle_setup' in modules
    devices = [line for line in printed if line.startswith('device: ')]
    assert devices == [f'device: CPU, float32, workers: 0 {BY_NUMPY}'] * len(commands)
    assert all((tmp_path / name).exists() for name in ('plot.png', 'cam.png', 'out.csv'))


def test_what_is_told_before_paddles_start_is_told_when_it_is_late():
    done = python(
        'import sys\n'
        'from common.device import load_paddle\n'
        'assert "paddle" not in sys.modules\n'
        'load_paddle()\n'
        'names = list(sys.modules)\n'
        'assert names.index("common.paddle_setup") < names.index("paddle")\n'
        'assert names.index("common.opencv_setup") < names.index("cv2")\n'
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


@pytest.fixture
def both_ways(tmp_path, capsys, monkeypatch):
    """Function (*arguments) -> what infer.py prints and writes by NumPy, and by Paddle."""

    def run_both(*arguments):
        found = []
        for pixels, said in ((infer.FEW_PIXELS, True), (0, False)):
            output, looked = tmp_path / f'{pixels}.json', tmp_path / f'{pixels}.png'
            monkeypatch.setattr(infer, 'FEW_PIXELS', pixels)
            assert run(*arguments, '--output', output, '--cam', looked) == 0
            device, *lines = capsys.readouterr().out.splitlines()
            assert (BY_NUMPY in device) == said
            pictures = json.loads(output.read_text(encoding='utf-8'))['pictures']
            found.append((lines, pictures, cv2.imread(str(looked)).astype(int)))
        return found

    return run_both


def assert_same_answers(by_numpy, by_paddle):
    assert by_numpy[0] == by_paddle[0]
    for ours, theirs in zip(by_numpy[1], by_paddle[1]):
        assert [guess['name'] for guess in ours['top']] == [g['name'] for g in theirs['top']]
        probabilities = [guess['probability'] for guess in theirs['top']]
        assert [g['probability'] for g in ours['top']] == pytest.approx(probabilities, abs=1e-5)
    assert np.abs(by_numpy[2] - by_paddle[2]).max() <= 2  # levels of grey


@pytest.mark.parametrize('model', [OFFICIAL, PACKED], ids=lambda path: path.suffix)
def test_photos_get_paddles_answers(model, both_ways):
    assert_same_answers(*both_ways('--model', model, ROOT / 'data' / 'photos', CAT))


@pytest.mark.parametrize(
    ('version', 'bypass', 'pad', 'relu'),
    [
        ('1.0', None, 1, True),
        ('1.0', 'simple', 0, True),
        ('1.1', 'complex', 0, True),
        ('1.1', None, 0, False),
    ],
)
def test_other_networks_get_paddles_answers(
    version, bypass, pad, relu, tmp_path, seeded_tensors, both_ways
):
    preprocessing = Preprocessing(crop=200, scale=0.9, channel_order='RGB')
    config = make_config(version, bypass, 10, pad, conv10_relu=relu, preprocessing=preprocessing)
    model = written(tmp_path / 'model', seeded_tensors(version, bypass), config)
    assert_same_answers(*both_ways('--model', model, CAT, COFFEE))


@pytest.mark.parametrize(
    ('count', 'crop', 'flags', 'expected'),
    [
        (1, 227, (), True),
        (16, 227, (), True),
        (17, 227, (), False),
        (1, 908, (), True),
        (1, 909, (), False),
        (1, 227, ('--device', 'cpu'), True),
        (1, 227, ('--device', 'gpu'), False),
        (1, 227, ('--precision', 'bfloat16'), False),
    ],
)
def test_paddle_is_taken_where_it_is_sooner_done_or_asked_for(count, crop, flags, expected):
    args = parse_options(['a.jpg', *flags], None)
    config = make_config('1.1', None, 3, preprocessing=Preprocessing(resize_size=crop, crop=crop))
    assert infer.is_done_before_paddle_starts(args, count, config) is expected


def test_lists_are_for_paddle(tmp_path, capsys):
    (tmp_path / 'val.txt').write_text(f'{CAT} 285\n')
    assert run('--model', PACKED, '--val_list', tmp_path / 'val.txt') == 0
    assert BY_NUMPY not in capsys.readouterr().out


def test_networks_that_cannot_answer_are_refused_by_both(
    tmp_path, seeded_tensors, capsys, monkeypatch
):
    tensors = seeded_tensors('1.1')
    tiny = Preprocessing(resize_size=16, crop=10)
    huge = {name: value * np.float32(1e12) for name, value in tensors.items()}
    config = make_config('1.1', None, 10, conv10_relu=False)
    models = {
        'crop is 10; the network needs': (tensors, {**config, 'preprocessing': tiny.to_json()}),
        'NaN or infinite numbers': (huge, config),
    }
    for number, (words, model) in enumerate(models.items()):
        folder = written(tmp_path / str(number), *model)
        for pixels in (infer.FEW_PIXELS, 0):
            monkeypatch.setattr(infer, 'FEW_PIXELS', pixels)
            assert run('--model', folder, CAT) == 1
            error = capsys.readouterr().err
            assert words in error
            assert error.count('\n') == 1
        monkeypatch.undo()


@pytest.mark.skipif(os.name != 'posix', reason='POSIX signals')
@pytest.mark.parametrize('name', ['SIGTERM', 'SIGINT'])
def test_signals_are_answered_as_before_once_paddle_is_loaded(name):
    """Paddle's start takes SIGTERM for itself."""
    done = python(SIGNALLED, env={**os.environ, 'NAME': name})
    assert (done.returncode, done.stdout) == (128 + getattr(signal, name), 'tidied up\n')


@pytest.mark.skipif(os.name != 'posix', reason='POSIX signals')
@pytest.mark.parametrize('name', ['SIGTERM', 'SIGINT'])
def test_signals_end_a_command_silently_while_paddle_is_loaded(name, tmp_path):
    """A Paddle in which the signal comes; of an exception the real one would make ImportError."""
    number = int(getattr(signal, name))
    text = f'import signal\nsignal.raise_signal({number})\ndisable_signal_handler = lambda: None\n'
    (tmp_path / 'paddle.py').write_text(text)
    done = python(SIGNALLED, env={**os.environ, 'PYTHONPATH': str(tmp_path), 'NAME': name})
    status = 128 + number if name == 'SIGTERM' else -number  # SIGTERM waits until it is loaded
    assert (done.returncode, done.stdout, done.stderr) == (status, '', '')
