"""infer.py where something goes wrong: one line that says what, and no file spoilt or left."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import paddle
import pytest
from conftest import CAT, COFFEE, ROOT
from inferring import one_error_line, run

import infer
from common.device import CPU
from evaluation import evaluator, precision
from models import model_io


def test_broken_picture_in_a_list_names_the_line_and_leaves_the_old_results(
    three_classes, pair, tmp_path, run_script
):
    """From another process and with workers, through whose hands the error goes."""
    (tmp_path / 'coffee.png').write_bytes(COFFEE.read_bytes()[:5000])
    (tmp_path / 'old.csv').write_text('of the last run')
    before = sorted(tmp_path.iterdir())
    arguments = ('--val_list', 'val.txt', '--num_workers', 2, '--output', 'old.csv')
    done = run_script('infer.py', '--model', three_classes, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith('infer.py: val.txt, line 2: ')
    assert 'coffee.png: cannot decode' in done.stderr
    assert done.stderr.count('\n') == 1
    assert (tmp_path / 'old.csv').read_text() == 'of the last run'
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ('a cat.png 0\ncoffee.png 3\n', 'val.txt, line 2: label 3 is too large; there are 3 class'),
        ('', 'val.txt: the list is empty'),
        ('\n\n', 'val.txt: the list is empty'),
        ('a cat.png\n', 'val.txt, line 1'),
        ('missing.png 1\n', 'missing.png: No such file'),
        ('coffee.png 0\n\na cat.png 1\nval.txt 2\n', 'val.txt, line 4: '),
    ],
)
def test_wrong_list_gets_one_line(content, words, three_classes, pair, tmp_path, capsys):
    pair.write_text(content)
    output = tmp_path / 'out.csv'
    arguments = ('--val_list', pair, '--num_workers', 0, '--output', output)
    assert run('--model', three_classes, *arguments) == 1
    assert words in one_error_line(capsys)
    assert not output.exists()


def test_missing_files_get_one_line(three_classes, tmp_path, pair, capsys):
    nowhere = tmp_path / 'nowhere'
    for arguments in (
        ('--model', nowhere, CAT),
        ('--model', three_classes, '--val_list', nowhere),
        ('--model', three_classes, '--val_list', tmp_path),
        ('--model', three_classes, nowhere),
    ):
        assert run(*arguments) == 1
        assert str(tmp_path) in one_error_line(capsys)


def test_folder_without_pictures_gets_one_line(three_classes, tmp_path, capsys):
    assert run('--model', three_classes, tmp_path) == 1
    assert f'{tmp_path}: holds no pictures' in one_error_line(capsys)


def test_output_that_cannot_be_written_gets_one_line(three_classes, tmp_path, capsys):
    (tmp_path / 'file').write_text('mine')
    assert run('--model', three_classes, CAT, '--output', tmp_path / 'file' / 'out.csv') == 1
    assert str(tmp_path / 'file') in one_error_line(capsys)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ((), 'give pictures, or --val_list LIST'),
        (('a.png', '--val_list', 'val.txt'), 'give pictures, or --val_list LIST'),
        (('a.png', '--report', 'report'), '--report needs a --val_list'),
        (('a.png', '--output', 'out.txt'), 'must end in .csv or .json'),
        (('a.png', '--num_workers', '-1'), '--num_workers must be 0 or more'),
        (('a.png', '--resize', 'long'), "invalid choice: 'long'"),
    ],
)
def test_flags_that_do_not_fit_are_refused(arguments, words, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    assert words in capsys.readouterr().err


def test_bad_pictures_of_a_list_are_passed_over_on_demand_up_to_a_share(
    three_classes, tmp_path, capsys
):
    (tmp_path / 'bad.png').write_bytes(b'no picture')
    flags = ('--model', three_classes, '--num_workers', 0, '--skip_bad', '--val_list')
    for good, status in [(10, 0), (8, 1)]:
        lines = [f'{CAT} 0\n'] * good
        lines.insert(4, 'bad.png 0\n')
        (tmp_path / 'val.txt').write_text(''.join(lines))
        assert run(*flags, tmp_path / 'val.txt') == status
        captured = capsys.readouterr()
        assert 'val.txt, line 5: ' in captured.err
        assert 'cannot decode' in captured.err
        if status:
            assert '--skip_bad passes over at most 10% of 9 pictures' in captured.err
        else:
            assert '10 images: ' in captured.out
            assert '1 more cannot be read' in captured.out


def test_outputs_are_checked_before_the_work(three_classes, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(infer.model_io, 'read_model', lambda *_: pytest.fail('it has begun'))
    (tmp_path / 'file').write_text('mine')
    below, folder = tmp_path / 'file' / 'x', tmp_path / 'folder.png'
    folder.mkdir()
    for flags, words in [
        (('--plot', tmp_path / 'sheet.bmpp'), 'must end in .png'),
        (('--cam', tmp_path / 'sheet'), 'must end in .png'),
        (('--plot', f'{below}.png'), 'Not a directory'),
        (('--cam', folder), 'Is a directory'),
        (('--output', f'{below}.csv'), 'Not a directory'),
    ]:
        assert run('--model', three_classes, CAT, *flags) == 1
        assert words in one_error_line(capsys)
    assert run('--model', three_classes, '--val_list', 'v.txt', '--report', tmp_path / 'file') == 1
    assert 'Not a directory' in one_error_line(capsys)


def test_names_that_would_steer_a_terminal_are_cleaned(model, pair, tmp_path, capsys):
    names = ['\x1b[2J\x1b]0;title\x07brick', 'grass\r\n99.99%  gold', 'gravel\u202e']
    directory, output = model(class_names=names), tmp_path / 'out.json'
    assert run('--model', directory, CAT, '--output', output) == 0
    assert run('--model', directory, '--val_list', pair, '--report', tmp_path / 'report') == 0
    printed = capsys.readouterr().out
    assert not {'\x1b', '\x07', '\r', '\u202e'} & set(printed)
    assert '\n99.99%' not in printed
    top = json.loads(output.read_text(encoding='utf-8'))['pictures'][0]['top']
    assert {guess['name'] for guess in top} == set(names)  # exact in the file


def test_a_terminal_that_knows_ascii_alone_gets_question_marks(
    three_classes, tmp_path, run_script, monkeypatch
):
    monkeypatch.setenv('PYTHONIOENCODING', 'ascii')
    shutil.copy(CAT, tmp_path / '猫.png')
    done = run_script('infer.py', '--model', three_classes, '猫.png', 'fehlt-ä.png')
    assert done.returncode == 1
    assert '?.png' in done.stdout
    assert '%  ??' in done.stdout
    assert 'Traceback' not in done.stderr


@pytest.mark.skipif(os.name != 'posix', reason='POSIX signals')
@pytest.mark.parametrize('name', ['SIGTERM', 'SIGHUP', 'SIGINT'])
def test_signals_end_an_evaluation_without_a_trace(name, three_classes, tmp_path):
    number = getattr(signal, name)
    (tmp_path / 'val.txt').write_text(f'{CAT} 0\n' * 20000)
    command = [sys.executable, ROOT / 'infer.py', '--model', three_classes, '--num_workers', '1']
    command += ['--val_list', tmp_path / 'val.txt', '--output', tmp_path / 'out.csv']
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout.readline().startswith('device: ')
    time.sleep(1)
    os.killpg(process.pid, number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert error == ('infer.py: interrupted\n' if name == 'SIGINT' else '')
    assert [path.name for path in tmp_path.iterdir()] == ['val.txt']


def test_too_little_memory_gets_one_line(three_classes, capsys, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(evaluator.reader, 'preprocess', fail)
    assert run('--model', three_classes, CAT) == 1
    assert 'out of memory; fewer --num_workers' in one_error_line(capsys)


def test_bfloat16_is_refused_where_it_would_be_slower(three_classes, tmp_path, capsys, monkeypatch):
    info = tmp_path / 'cpuinfo'
    info.write_text('processor: 0\nflags\t\t: fpu avx2 avx512_bf16\n')
    monkeypatch.setattr(precision, 'PROCESSOR', info)
    assert run('--model', three_classes, CAT, '--precision', 'bfloat16') == 1
    assert 'needs a processor with amx_bf16' in one_error_line(capsys)
    info.write_text('flags : fpu amx_bf16 amx_tile\n')
    precision.check_precision('bfloat16', CPU)
    assert 'amx_tile' in precision.processor_flags()


def test_a_batch_that_does_not_fit_a_gpu_is_halved(seeded_tensors, pixels):
    """On the CPU, with a network that takes two pictures at most."""
    config = model_io.make_config('1.1', None, 3)
    network = evaluator._OnGPU(seeded_tensors('1.1', class_num=3), config, 'float32')
    crops = np.repeat(pixels.astype(np.uint8), [3, 2], axis=0)
    expected, sizes, whole = network(crops), [], network.network

    def small(images):
        sizes.append(len(images))
        if len(images) > 2:
            raise MemoryError
        return whole(images)

    network.network = small
    assert np.allclose(network(crops), expected, atol=1e-5)
    assert sizes == [5, 2, 3, 1, 2]
    assert paddle.is_grad_enabled()  # training goes on after an evaluation
