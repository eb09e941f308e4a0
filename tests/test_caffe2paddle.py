"""The converter's commands: what they write, what they check, and how they fail."""

import json
import subprocess
import sys

import numpy as np
import pytest
from converting import he_tensors, run, write_parameters

from caffe2paddle import DATA
from caffe_format import caffemodel
from caffe_format.proto import NetParameter
from caffe_format.writing import write_caffemodel
from evaluation import dead_network
from models import model_io
from models.model_io import make_config
from network.preprocessing import Preprocessing
from pictures.class_names import read_class_names

OFFICIAL = DATA / 'squeezenet_v1.1.caffemodel'


def run_alone(*arguments, cwd):
    command = [sys.executable, DATA.parent / 'caffe2paddle.py', *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


# --- converting ------------------------------------------------------------------------------


def test_converting_does_not_load_paddle_or_opencv(tmp_path):
    code = (
        'import sys, caffe2paddle; '
        f'assert caffe2paddle.main(["--output", {str(tmp_path / "out")!r}]) == 0; '
        'assert not {"paddle", "cv2"} & set(sys.modules)'
    )
    subprocess.run([sys.executable, '-c', code], cwd=DATA.parent, check=True)


def test_conversion_keeps_weights_bit_for_bit_and_records_the_source(tmp_path):
    assert run(OFFICIAL, '--output', tmp_path / 'out', '--resize', 'warp') == 0
    tensors, config = model_io.read_model(tmp_path / 'out')
    original = caffemodel.read_net(OFFICIAL).tensors
    assert {n: t.tobytes() for n, t in tensors.items()} == {
        n: t.tobytes() for n, t in original.items()
    }
    assert (config['version'], config['bypass'], config['class_num']) == ('1.1', None, 1000)
    assert config['preprocessing']['resize'] == 'warp'
    assert config['source'] == {
        'file': 'squeezenet_v1.1.caffemodel',
        'sha256': model_io.sha256_of(OFFICIAL),
    }
    assert config['class_names'][285].startswith('Egyptian cat')


def test_summary_names_network_and_output(tmp_path, capsys):
    assert run('--output', tmp_path / 'out') == 0
    text = capsys.readouterr().out
    assert 'SqueezeNet v1.1 without bypass, 1000 classes, 1,235,496 parameters' in text
    assert f'written: {tmp_path / "out"}' in text
    assert f'infer.py --model {tmp_path / "out"}' in text


def test_padding_of_conv10_is_recorded(tmp_path):
    path = tmp_path / 'v1.0.caffemodel'
    tensors = he_tensors('1.0', None, 10)
    write_caffemodel(path, tensors, make_config('1.0', None, 10, 1))
    assert run(path, '--output', tmp_path / 'out') == 0
    assert json.loads((tmp_path / 'out' / 'config.json').read_text())['conv10_pad'] == 1


def test_list_prints_layers_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(OFFICIAL, '--list') == 0
    text = capsys.readouterr().out
    assert 'conv10' in text
    assert '1000x512x1x1, 1000' in text
    assert '1,235,496 parameters' in text
    assert list(tmp_path.iterdir()) == []


def test_class_names_come_one_a_line_or_as_synset_words(tmp_path):
    file = tmp_path / 'names.txt'
    file.write_text('\ufeffn01440764 tench, Tinca tinca\nnight sky\nChat é\n\n', encoding='utf-8')
    names = read_class_names(file, 3)
    assert names == ['tench, Tinca tinca', 'night sky', 'Chat é']


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'a\nb\n', 'has 2 names; the network has 1000 classes'),
        (b'a\n\nb\n', 'names.txt, line 2: a class name is missing'),
        (b'\xff\xfe', 'not UTF-8'),
    ],
)
def test_wrong_class_names_get_one_line_and_write_nothing(tmp_path, capsys, content, words):
    file = tmp_path / 'names.txt'
    file.write_bytes(content)
    assert run(OFFICIAL, '--output', tmp_path / 'out', '--class_names', file) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.count('\n') == 1
    assert not (tmp_path / 'out').exists()


def test_bad_file_ends_in_one_line_and_status_1(tmp_path):
    (tmp_path / 'bad.caffemodel').write_bytes(OFFICIAL.read_bytes()[:2_000_000])
    done = run_alone('bad.caffemodel', '--output', 'out', cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count('\n') == 1
    assert 'bad.caffemodel: ' in done.stderr
    assert 'truncated' in done.stderr
    assert not (tmp_path / 'out').exists()


def test_missing_file_ends_in_one_line_and_status_1(tmp_path):
    done = run_alone('nowhere.caffemodel', cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == 'caffe2paddle.py: nowhere.caffemodel: No such file or directory\n'


# --- the other directions --------------------------------------------------------------------


def test_to_caffe_wants_a_caffemodel_as_output(tmp_path, capsys):
    model = write_parameters(tmp_path / 'model', '1.1', None)
    assert run('--to_caffe', model, '--output', tmp_path / 'out') == 1
    assert 'must end in .caffemodel' in capsys.readouterr().err


@pytest.mark.parametrize('pad', [0, 1])
def test_to_caffe_and_back_is_bit_for_bit(tmp_path, pad):
    model = write_parameters(tmp_path / 'model', '1.0', 'complex', 7, pad)
    output = tmp_path / 'out.caffemodel'
    assert run('--to_caffe', model, '--output', output) == 0
    net = caffemodel.read_net(output)
    tensors, _ = model_io.read_model(model)
    assert (net.version, net.bypass, net.class_num, net.conv10_pad) == ('1.0', 'complex', 7, pad)
    assert all(net.tensors[name].tobytes() == tensors[name].tobytes() for name in tensors)


def test_to_v2_writes_what_model_flags_read(tmp_path):
    model = write_parameters(tmp_path / 'model', '1.1', 'complex')
    assert run('--to_v2', model, '--output', tmp_path / 'v2') == 0
    header = (tmp_path / 'v2' / '_conv1.w0').read_bytes()[:16]
    assert header == np.array([0, 4, 64 * 27, 0], '<i4').tobytes()
    written, _ = model_io.read_model(tmp_path / 'v2')
    tensors, _ = model_io.read_model(model)
    assert all(written[name].tobytes() == tensors[name].tobytes() for name in tensors)


@pytest.mark.parametrize(
    'arguments',
    [
        ['--to_caffe', 'model'],
        ['--list', '--verify'],
        ['--list', '--to_caffe', 'model'],
        ['--verify', '--tolerance', '-1'],
        ['--verify', '--tolerance', 'nan'],
        ['--resize', 'stretch'],
        ['--mean', '1,2'],
        ['--mean', 'a,b,c'],
        ['--list', '--mean', '1,2,3'],
        ['--to_v2', 'model', '--output', 'x', '--scale', '2'],
        ['--list', '--bypass', 'simple'],
    ],
)
def test_contradicting_flags_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2


# --- what goes to Caffe beside the weights -------------------------------------------------------


def a_model(tmp_path, **changes):
    """A small model with settings of its own; `changes` are of its Preprocessing."""
    pictures = Preprocessing(crop=128, mean=(1, 2, 3.5), scale=0.5, **changes)
    config = make_config('1.1', None, 3, conv10_relu=False, preprocessing=pictures)
    config['class_names'] = ['night\nsky', 'Chat é', 'ant']
    tensors = he_tensors('1.1', None, 3)
    model_io.write_model(tmp_path / 'model', tensors, config)
    return tmp_path / 'model', tensors, config


def test_to_caffe_and_back_keeps_what_the_network_is_and_wants(tmp_path, capsys):
    model, tensors, config = a_model(tmp_path)
    path = tmp_path / 'caffe' / 'tuned.caffemodel'
    assert run('--to_caffe', model, '--output', path) == 0
    feed = 'feed it BGR float32 of 128x128 minus (1, 2, 3.5), times 0.5'
    assert feed in capsys.readouterr().out
    prototxt = path.with_suffix('.prototxt').read_text()
    assert f'# {feed}' in prototxt
    assert 'relu_conv10' not in prototxt
    labels = path.with_suffix('.labels.txt')
    assert labels.read_text(encoding='utf-8') == 'night sky\nChat é\nant\n'

    assert (
        run(path, '--output', tmp_path / 'back', '--class_names', labels, '--resize', 'short') == 0
    )
    captured = capsys.readouterr()
    assert captured.err == ''  # nothing is left to assume
    found, back = model_io.read_model(tmp_path / 'back')
    assert {n: t.tobytes() for n, t in found.items()} == {
        n: t.tobytes() for n, t in tensors.items()
    }
    assert (back['conv10_relu'], back['preprocessing']) == (False, config['preprocessing'])
    assert back['class_names'] == ['night sky', 'Chat é', 'ant']


def test_a_network_fed_rgb_becomes_one_fed_bgr(tmp_path):
    model, tensors, _ = a_model(tmp_path, channel_order='RGB')
    path = tmp_path / 'tuned.caffemodel'
    assert run('--to_caffe', model, '--output', path) == 0
    net = caffemodel.read_net(path)
    assert net.preprocessing == Preprocessing(crop=128, mean=(3.5, 2, 1), scale=0.5)
    turned = tensors['conv1.weight'][:, ::-1]
    np.testing.assert_array_equal(net.tensors['conv1.weight'], turned)


@pytest.mark.parametrize('name', ['squeezenet.prototxt', 'squeezenet.labels.txt'])
def test_to_caffe_never_overwrites_what_it_did_not_write(tmp_path, capsys, name):
    model, _, _ = a_model(tmp_path)
    other = tmp_path / 'out' / name
    other.parent.mkdir()
    other.write_text('name: "another"\n')
    (other.parent / 'deploy.prototxt').write_text('name: "third"\n')
    path = other.parent / 'squeezenet.caffemodel'
    assert run('--to_caffe', model, '--output', path) == 1
    assert f'{other}: is there already' in capsys.readouterr().err
    assert other.read_text() == 'name: "another"\n'
    assert not path.exists()
    other.unlink()
    for _ in range(2):  # what it wrote itself is replaced
        assert run('--to_caffe', model, '--output', path) == 0
    assert (other.parent / 'deploy.prototxt').read_text() == 'name: "third"\n'


# --- said aloud ----------------------------------------------------------------------------------


def written(tmp_path, tensors):
    path = tmp_path / 'net.caffemodel'
    write_caffemodel(path, tensors, make_config('1.1', None, 3))
    return path


def kill_by_relu(tensors):
    tensors['fire6.squeeze1x1.bias'][:] = -1e9


def zero_one(tensors):
    tensors['fire3.expand1x1.weight'][:] = 0


def zero_all(tensors):
    for value in tensors.values():
        value[:] = 0


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (zero_all, 'dead, all classes score the same: conv1.weight is all zeros'),
        (kill_by_relu, 'dead, all pictures score the same\n'),
        (zero_one, 'damaged: fire3.expand1x1.weight is all zeros'),
    ],
)
def test_a_dead_network_is_said_loudly(tmp_path, capsys, change, words):
    tensors = he_tensors('1.1', None, 3)
    change(tensors)
    assert run(written(tmp_path, tensors), '--output', tmp_path / 'out') == 0
    assert f'this network is {words}' in capsys.readouterr().err


def test_a_sound_network_is_not_called_dead(official_tensors):
    assert (
        dead_network.dead_network_warning(official_tensors, make_config('1.1', None, 1000)) is None
    )


def test_what_is_assumed_is_said_in_one_line_of_stderr(tmp_path, capsys):
    net = caffemodel.read_message(written(tmp_path, he_tensors('1.1', None, 3)))
    net.layer[0].ClearField('transform_param')
    path = tmp_path / 'net\x1b[2J.caffemodel'
    path.write_bytes(net.SerializeToString())
    assert run(path, '--output', tmp_path / 'out') == 0
    captured = capsys.readouterr()
    assert captured.err.count('\n') == 1
    assert 'a mean of (104, 117, 123) in BGR (--mean)' in captured.err
    assert '\x1b' not in captured.out + captured.err
    flags = ['--mean', '104,117,123']
    assert run(path, '--output', tmp_path / 'out', *flags) == 0
    assert capsys.readouterr().err == ''


def test_flags_are_recorded(tmp_path, capsys):
    net = caffemodel.read_message(OFFICIAL)
    bare = NetParameter(layer=[layer for layer in net.layer if layer.blobs])
    for layer in bare.layer:
        for field in ('bottom', 'top', 'convolution_param'):
            layer.ClearField(field)
    path = tmp_path / 'bare.caffemodel'
    path.write_bytes(bare.SerializeToString())
    flags = ['--bypass', 'simple', '--conv10_pad', '1', '--conv10_relu', '0', '--mean', '9']
    flags += ['--resize', 'warp', '--resize_size', '240', '--input_size', '224', '--scale', '2']
    assert run(path, '--output', tmp_path / 'out', *flags, '--verify') == 0
    assert capsys.readouterr().err == ''
    _, config = model_io.read_model(tmp_path / 'out')
    assert (config['bypass'], config['conv10_pad'], config['conv10_relu']) == ('simple', 1, False)
    expected = Preprocessing('warp', 240, 224, (9.0, 9.0, 9.0), 2.0)
    assert config['preprocessing'] == expected.to_json()
    assert run(path, '--output', tmp_path / 'out') == 0
    assert 'assuming --conv10_pad 0 --bypass none --conv10_relu 1' in capsys.readouterr().err
    assert run(OFFICIAL, '--output', tmp_path / 'no', '--bypass', 'simple') == 1
    assert 'its bypass is none; leave out --bypass simple' in capsys.readouterr().err
