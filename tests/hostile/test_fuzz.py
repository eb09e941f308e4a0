"""Hostile files: a short run of fuzz.py, what it found once, and what the commands say to them."""

import functools
import json
import os
import pickle
import resource
import subprocess
import sys
import time
from pathlib import Path

import fuzz_worker
import hostile_caffe
import hostile_models
import hostile_pickles
import hostile_pictures
import numpy as np
import pytest

import reader
from caffe_format import caffemodel
from common.console import UserError
from models import model_io
from models.formats import pdparams
from pictures import decoding, lists
from runs import checkpoint

HOSTILE = Path(__file__).parent
ROOT = HOSTILE.parents[1]
DATA = ROOT / 'data'


@pytest.mark.parametrize(
    'kinds', ['caffemodel,safetensors,config', 'pdparams,v2,tar,checkpoint,list']
)
def test_mutated_files_end_in_the_readers_own_error_or_in_a_checked_result(kinds):
    arguments = ['--only', kinds, '--first', '0', '--examples', '80', '--seed', '7']
    done = run([sys.executable, HOSTILE / 'fuzz.py', *arguments])
    assert done.returncode == 0, done.stdout + done.stderr


def test_mutated_pictures_end_in_picture_errors_or_in_pictures():
    arguments = ['--only', 'picture', '--first', '0', '--examples', '500', '--seed', '7']
    done = run([sys.executable, HOSTILE / 'fuzz.py', *arguments])
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_mutation_can_be_repeated():
    for kind in fuzz_worker.MUTATED:
        first, second = (list(fuzz_worker.make_inputs(kind, 3, 5, 8)) for _ in range(2))
        assert first == second and [number for number, _ in first] == [5, 6, 7]


@pytest.mark.parametrize(
    'crime',
    [
        'open(sys.argv[1] + "/../outside", "w")',
        'open("/etc/hostname").read()',
        'os.system("true")',
        'subprocess.run(["true"])',
        'os.remove(sys.argv[1] + "/../outside")',
        'eval("1 + 1")',
        'pickle.loads(pickle.dumps(subprocess.run))',
    ],
)
def test_the_fuzzers_guard_notices(crime, tmp_path):
    """Otherwise its silence would mean nothing."""
    code = (
        'import os, pickle, subprocess, sys, fuzz_worker\n'
        'fuzz_worker.forbid_all_but(os.path.realpath(sys.argv[1]))\n'
        f'open(sys.argv[1] + "/inside", "w").close()\n{crime}\n'
    )
    (tmp_path / 'in').mkdir()
    done = run([sys.executable, '-c', code, tmp_path / 'in'], cwd=HOSTILE)
    assert done.stderr.splitlines()[-1].startswith('fuzz_worker.Forbidden: ')
    assert (tmp_path / 'in' / 'inside').exists() and not (tmp_path / 'outside').exists()


# --- what the fuzzer found ------------------------------------------------------------------------


def test_a_jpeg_of_endless_scans_is_refused_at_once():
    start = time.process_time()
    with pytest.raises(reader.PictureError, match=r'a JPEG file of \d+ scans'):
        decoding.decode_picture(hostile_pictures.many_scans(4000, 100_000))
    assert time.process_time() - start < 5


def test_tables_that_end_behind_the_file_are_an_error():
    picture = (DATA / 'photos' / 'cat.jpg').read_bytes() + bytes(99)
    for marker in (b'\xff\xc4', b'\xff\xda'):
        with pytest.raises(reader.PictureError, match='cannot decode'):
            decoding.decode_picture(
                picture[: picture.find(marker)] + bytes(99) + marker + b'\0\x40'
            )


def test_a_film_behind_a_jpeg_is_no_scan():
    picture = (DATA / 'photos' / 'cat.jpg').read_bytes()
    film = b'\xff\xda' * 300 + b'x'
    assert np.array_equal(decoding.decode_picture(picture + film), decoding.decode_picture(picture))


def test_a_truncated_jpeg_is_noticed_in_little_memory():
    """Pillow's whole picture beside OpenCV's took 4 GB for the largest."""
    content = (DATA / 'photos' / 'cat.jpg').read_bytes()
    for end in (-100, len(content) // 2):
        with pytest.raises(reader.PictureError, match='truncated'):
            decoding.decode_picture(content[:end])


def test_texts_in_a_png_are_not_unfolded():
    start = time.process_time()
    assert decoding.decode_picture(hostile_pictures.text_png(990)).shape == (1, 1, 3)
    assert time.process_time() - start < 2  # 50 s once


@pytest.mark.parametrize(
    ('content', 'says'),
    [
        (hostile_pictures.webp_canvas(16_777_216, 10), '16777216x10 pixels are too many'),
        (hostile_pictures.jpeg2000(13_000), '13000x13000: 169000000 pixels; at most 36000000'),
        (hostile_pictures.jpeg2000(2_000, block=0, precinct=0x11), 'too many small parts'),
        (hostile_pictures.jpeg2000(6_000, tile=30), 'too many small parts'),
    ],
)
def test_a_header_that_claims_too_much_is_refused_at_once(content, says):
    start = time.process_time()
    with pytest.raises(reader.PictureError, match=says):
        decoding.decode_picture(content)
    assert time.process_time() - start < 2


def test_millions_of_empty_blobs_are_refused_before_they_are_listed(tmp_path):
    path = tmp_path / 'net.caffemodel'
    path.write_bytes(hostile_caffe._field(100, b'\x3a\x00' * 300_000))
    with pytest.raises(UserError, match='more than 200000 layers, blobs'):
        caffemodel.describe_layers(path)


def test_a_type_that_is_a_tuple_of_2_to_the_60_is_not_spelled_out():
    doubled = b'N' + b'2\x86' * 60
    with pytest.raises(pdparams.PickleRefused, match="array of 'tuple'; floats"):
        pdparams.load_arrays(hostile_pickles._array(code=doubled))


def test_a_pickle_of_endless_steps_is_refused():
    with pytest.raises(pdparams.PickleRefused, match='more than 200000 steps'):
        pdparams.load_arrays(b'\x80\x02' + b'(' * 3_000_000 + b'.')


def test_tensors_in_a_dictionary_are_read_by_protocol_2():
    """paddle.save writes them as a call of tuple, which protocol 2 calls __builtin__.tuple."""
    value = np.ones(2, np.float32)
    content = pickle.dumps({'a': hostile_pickles.Command(tuple, ('name', value))}, 2)
    assert b'__builtin__' in content
    assert pdparams.load_arrays(content)['a'].tolist() == [1.0, 1.0]


def test_error_messages_do_not_quote_megabytes(tmp_path):
    text = 'x' * 1_000_000
    config = {**hostile_models.config(), 'conv10_pad': text}
    for name, content in hostile_models._with_config(config).items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / 'list.txt').write_text(f'{text} 0')
    with pytest.raises(UserError) as first:
        model_io.read_model(tmp_path)
    pictures = lists.read_list(tmp_path / 'list.txt')
    with pytest.raises(UserError) as second:
        lists.check_files_exist(pictures)
    with pytest.raises(reader.PictureError) as third:
        reader.load_picture(pictures.path(0))
    assert all(len(str(error.value)) < 1000 for error in (first, second, third))


@pytest.mark.parametrize('state', ['[' * 100_000, '[]', 'null', '{"iteration": "1"}'])
def test_a_checkpoint_with_odd_state_is_damaged(state, tmp_path):
    path = tmp_path / 'iteration_00000008.safetensors'
    path.write_bytes(hostile_models.checkpoint_file(state))
    said = []
    with pytest.raises(UserError, match='holds no checkpoint'):
        checkpoint.load_newest(tmp_path, said.append)
    assert 'is damaged' in said[0]


# --- what the commands say ------------------------------------------------------------------------


def run(command, **options):
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=200, **options
    )


def assert_one_line(done, *words):
    """Exit status 1 and one line that holds `words`."""
    assert done.returncode == 1, done
    (line,) = done.stderr.splitlines()
    assert all(word in line for word in words), line


@pytest.fixture
def hostile(tmp_path):
    """A folder of files that the commands are given."""
    bomb = hostile_pickles._array(code=b'N' + b'2\x86' * 60)
    contents = {
        'net.caffemodel': hostile_caffe._crafted_caffemodel()[6]['net.caffemodel'],
        'runs.pdparams': pickle.dumps({'a': hostile_pickles.Command(os.system, 'touch ran')}, 2),
        'bomb.pdparams': bomb,
        'net.safetensors': hostile_models.join_safetensors(b'[' * 100_000, b''),
        'huge.png': hostile_pictures.png(50_000, 50_000),
        'list.txt': b'huge.png 0\nhuge.png 1\n',
        'long.txt': b'x' * 1_000_000,
        'zero.txt': b'a.jpg\0 0',
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


MODELS = {
    'net.caffemodel': 'holds 1200000 numbers',
    'runs.pdparams': 'asks to run posix.system',
    'bomb.pdparams': "array of 'tuple'",
    'net.safetensors': 'cannot be read as safetensors',
}


def test_caffe2paddle_refuses_hostile_files_in_one_line(hostile, run_script):
    script = 'caffe2paddle.py'
    done = run_script(script, 'net.caffemodel', '--output', 'new')
    assert_one_line(done, 'net.caffemodel', MODELS['net.caffemodel'])
    for name, words in MODELS.items():
        done = run_script(script, '--to_caffe', name, '--output', 'new.caffemodel')
        assert_one_line(done, name, words)
    assert not {'new', 'new.caffemodel', 'ran'} & set(os.listdir(hostile))


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--model', 'runs.pdparams', 'huge.png'], ['runs.pdparams', 'asks to run']),
        (['huge.png'], ['huge.png', '2500000000 pixels']),
        (['--val_list', 'list.txt', '--num_workers', 0], ['list.txt, line 1', 'huge.png']),
        (['--val_list', 'zero.txt'], ['zero.txt, line 1', 'zero byte']),
    ],
)
def test_infer_refuses_hostile_files_in_one_line(hostile, run_script, arguments, words):
    done = run_script('infer.py', *arguments)  # which says what it assumes, too
    assert done.returncode == 1 and 'Traceback' not in done.stderr, done.stderr
    lines = [line for line in done.stderr.splitlines() if all(word in line for word in words)]
    assert len(lines) == 1, done.stderr
    assert 'ran' not in os.listdir(hostile)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--model', 'bomb.pdparams', '--train_list', 'list.txt'], ['bomb.pdparams', 'tuple']),
        (['--train_list', 'list.txt', '--num_workers', 0], ['list.txt, line', 'huge.png']),
        (['--train_list', 'long.txt'], ['long.txt, line 1', 'stands alone']),
    ],
)
def test_train_refuses_hostile_files_in_one_line(hostile, run_script, arguments, words):
    arguments = ['--val_list', 'list.txt', '--output', 'new', *arguments]
    assert_one_line(run_script('train.py', *arguments), *words)


# --- faults of disks ------------------------------------------------------------------------------


def test_a_full_disk_is_named_and_leaves_no_half_file(tmp_path):
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    command = [sys.executable, ROOT / 'caffe2paddle.py', '--output', tmp_path / 'new']
    done = run(command, preexec_fn=limit)
    assert_one_line(done, 'File too large')
    assert [path for path in tmp_path.rglob('*') if path.is_file()] == []


def test_an_output_that_cannot_be_written_is_named(tmp_path, run_script):
    (tmp_path / 'file').write_text('')
    assert_one_line(run_script('caffe2paddle.py', '--output', 'file/new'), 'file/new')
    done = run_script('caffe2paddle.py', '--output', '/proc/new')
    assert_one_line(done, '/proc/new')


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read and write everything')
def test_files_without_permission_are_named(tmp_path, run_script):
    (tmp_path / 'folder').mkdir(0o500)
    assert_one_line(run_script('caffe2paddle.py', '--output', 'folder/new'), 'folder', 'denied')
    (tmp_path / 'secret.caffemodel').touch(0o000)
    assert_one_line(run_script('caffe2paddle.py', 'secret.caffemodel'), 'secret', 'denied')


def test_a_config_cannot_point_outside_of_its_folder(tmp_path):
    """A name in config.json that looks like a path is a name."""
    names = ['../../outside', '/etc/passwd']
    config = {**hostile_models.config(), 'class_names': names, 'source': {'file': '../x'}}
    for name, content in hostile_models._with_config(config).items():
        (tmp_path / name).write_bytes(content)
    tensors, found = model_io.read_model(tmp_path)
    model_io.write_model(tmp_path / 'out', tensors, found)
    assert json.loads((tmp_path / 'out' / 'config.json').read_text())['class_names'] == names
    assert sorted(os.listdir(tmp_path / 'out')) == ['config.json', 'model.safetensors']
