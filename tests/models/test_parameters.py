"""Parameter files: what is written is read bit for bit, and what is wrong gets one line."""

import argparse
import errno
import json
import os
import signal
import subprocess
import sys

import numpy as np
import paddle
import pytest
import safetensors.numpy
from conftest import ROOT

from caffe_format.messages import NetParameter
from caffe_format.writing import write_caffemodel
from common import console, files
from common.console import UserError
from models import parameters
from models.configuration import Told, add_model_flags, told
from models.parameters import make_config, read_model, write_model
from network import architecture
from network.preprocessing import Preprocessing

VARIANTS = [(v, b) for v in architecture.VERSIONS for b in architecture.BYPASSES]
OFFICIAL = ROOT / 'data' / 'squeezenet_v1.1.caffemodel'


@pytest.fixture
def tensors(seeded_tensors):
    return seeded_tensors('1.1', class_num=3)


@pytest.fixture
def config():
    return make_config('1.1', None, 3, class_names=['brick', 'gräs', '砾石'])


@pytest.fixture
def model(tmp_path, tensors, config):
    """A sound parameter directory."""
    write_model(tmp_path / 'model', tensors, config)
    return tmp_path / 'model'


@pytest.fixture
def silent_model(tmp_path, tensors):
    """A directory whose model.safetensors carries no configuration, as other programs write it."""
    (tmp_path / 'silent').mkdir()
    safetensors.numpy.save_file(tensors, tmp_path / 'silent' / 'model.safetensors')
    return tmp_path / 'silent'


def assert_bits(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == np.float32, name
        assert found[name].tobytes() == value.tobytes(), name


def assert_refused(path, *words):
    """An error of one line that names `path` and holds `words`."""
    with pytest.raises((UserError, OSError)) as refusal:
        read_model(path)
    text = console.explain(refusal.value)
    assert text.count('\n') == 0
    assert len(text) < 400
    for word in words:
        assert str(word) in text


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


# --- what is written is read -----------------------------------------------------------------


@pytest.mark.parametrize(('version', 'bypass'), VARIANTS)
@pytest.mark.parametrize('pad', [0, 1])
def test_directory_comes_back_bit_for_bit(version, bypass, pad, tmp_path, seeded_tensors):
    tensors = seeded_tensors(version, bypass, 4)
    source = {'file': 'x.caffemodel', 'sha256': 'ab' * 32}
    config = make_config(
        version,
        bypass,
        4,
        pad,
        preprocessing=Preprocessing('warp'),
        class_names=['a', 'é', '猫', ''],
        source=source,
    )
    write_model(tmp_path / 'new' / 'model', tensors, config)
    found, found_config = read_model(tmp_path / 'new' / 'model')
    assert_bits(found, tensors)
    assert found_config == config
    assert sorted(contents(tmp_path / 'new' / 'model')) == ['config.json', 'model.safetensors']


def test_config_json_is_text_that_a_person_can_read(model):
    text = (model / 'config.json').read_text(encoding='utf-8')
    assert '"砾石"' in text
    assert text.endswith('}\n')
    assert json.loads(text)['preprocessing'] == {
        'resize': 'short',
        'resize_size': 256,
        'crop': 227,
        'mean': [104, 117, 123],
        'scale': 1.0,
        'channel_order': 'BGR',
    }


def test_lone_safetensors_carries_its_configuration(tmp_path, seeded_tensors):
    """Simple bypass, the padding and the resizing leave no trace in names and shapes."""
    tensors = seeded_tensors('1.0', 'simple', 3)
    config = make_config(
        '1.0', 'simple', 3, 1, preprocessing=Preprocessing('warp'), class_names=['a', 'b', 'c']
    )
    write_model(tmp_path / 'model', tensors, config)
    (tmp_path / 'model' / 'model.safetensors').rename(tmp_path / 'lone.safetensors')
    found, found_config = read_model(tmp_path / 'lone.safetensors')
    assert_bits(found, tensors)
    assert found_config == config


@pytest.mark.parametrize(('version', 'bypass'), [('1.0', None), ('1.1', 'complex')])
def test_bare_safetensors_are_recognised_by_names_and_shapes(
    version, bypass, tmp_path, seeded_tensors
):
    tensors = seeded_tensors(version, bypass, 6)
    safetensors.numpy.save_file(tensors, tmp_path / 'bare.safetensors')
    found, config = read_model(tmp_path / 'bare.safetensors')
    assert_bits(found, tensors)
    assert config == make_config(version, bypass, 6)


@pytest.mark.parametrize('kind', [np.float64, np.float16])
def test_other_floats_become_float32(kind, tmp_path, tensors):
    path = tmp_path / 'a.safetensors'
    safetensors.numpy.save_file({n: t.astype(kind) for n, t in tensors.items()}, path)
    assert_bits(read_model(path)[0], {n: t.astype(kind).astype('f4') for n, t in tensors.items()})


def test_pdparams_of_paddle_save_come_back_bit_for_bit(tmp_path, tensors):
    network = parameters.build_network(tensors, make_config('1.1', None, 3))
    paddle.save(network.state_dict(), str(tmp_path / 'a.pdparams'))
    found, config = read_model(tmp_path / 'a.pdparams')
    assert_bits(found, tensors)
    assert config == make_config('1.1', None, 3)


def test_config_json_beside_a_pdparams_file_is_heeded(tmp_path, tensors):
    config = make_config('1.1', 'simple', 3, preprocessing=Preprocessing('none'))
    (tmp_path / 'config.json').write_text(json.dumps(config))
    paddle.save({n: paddle.to_tensor(t) for n, t in tensors.items()}, str(tmp_path / 'a.pdparams'))
    assert read_model(tmp_path / 'a.pdparams')[1] == config


def test_caffemodel_is_read_with_its_source(official_tensors):
    found, config = read_model(OFFICIAL)
    assert_bits(found, official_tensors)
    digest = '33daaf1cea77eb1ee99565a4692ae2e132b2a7568fcb2c7521c75cd5a2a661bb'
    source = {'file': OFFICIAL.name, 'sha256': digest}
    assert config == make_config('1.1', None, 1000, source=source)


def test_built_network_has_the_parameters_and_the_configuration(tensors):
    config = make_config('1.1', 'simple', 3, conv10_pad=1)
    network = parameters.build_network(tensors, config, dropout=0.25)
    assert_bits({n: p.numpy() for n, p in network.named_parameters()}, tensors)
    assert network.fire3.bypass == 'simple'
    assert network.dropout.p == 0.25
    x = paddle.zeros([1, 3, 35, 35])
    assert network.conv10(network.features(x)).shape[2:] == [4, 4]  # 2x2, and the padding


# --- damaged tensors -------------------------------------------------------------------------


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_nan_and_infinite_weights_are_refused(value, tmp_path, tensors, config):
    broken = tensors['fire7.expand1x1.weight'].copy()
    broken.flat[-1] = value
    broken = {**tensors, 'fire7.expand1x1.weight': broken}
    words = 'fire7.expand1x1.weight holds NaN or infinite numbers'
    path = tmp_path / 'a.safetensors'
    safetensors.numpy.save_file(broken, path)
    assert_refused(path, path, words)
    with pytest.raises(UserError, match=words):
        write_model(tmp_path / 'out', broken, config)
    assert not (tmp_path / 'out').exists()


@pytest.mark.filterwarnings('error')
def test_doubles_that_float32_cannot_hold_are_refused(tmp_path, tensors):
    doubles = {name: value.astype(np.float64) for name, value in tensors.items()}
    doubles['conv10.bias'][1] = 1e300
    safetensors.numpy.save_file(doubles, tmp_path / 'a.safetensors')
    assert_refused(tmp_path / 'a.safetensors', 'conv10.bias holds NaN or infinite numbers')


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'fire4.squeeze1x1.bias': None}, 'parameter fire4.squeeze1x1.bias is missing'),
        ({'conv1.weight': None}, 'has no conv1.weight and conv10.bias'),
        ({'conv1.weight': np.zeros((64, 3, 5, 5), 'f4')}, 'has no conv1.weight'),
        ({'conv10.bias': np.zeros((), 'f4')}, 'has no conv1.weight and conv10.bias'),
        ({'conv10.bias': np.zeros(0, 'f4')}, 'conv10.bias is empty'),
        ({'conv10.bias': np.zeros(4, 'f4')}, 'conv10.weight has shape [3, 512, 1, 1]'),
        ({'fire3.expand1x1.weight': np.zeros((16, 64, 1, 1), 'f4')}, 'has shape [16, 64, 1, 1]'),
        ({'conv11.weight': np.zeros(3, 'f4')}, 'conv11.weight is no parameter'),
        ({'fire2.squeeze1x1.bias': np.zeros(16, 'i4')}, 'holds int32 numbers'),
    ],
)
def test_tensors_of_no_squeezenet_are_refused(change, words, tmp_path, tensors):
    wrong = {name: value for name, value in {**tensors, **change}.items() if value is not None}
    path = tmp_path / 'a.safetensors'
    safetensors.numpy.save_file(wrong, path)
    assert_refused(path, path, words)


def test_damaged_safetensors_get_one_line(model):
    path = model / 'model.safetensors'
    content = path.read_bytes()
    for damaged in (b'', b'x', content[:1000], content[:-1], content + b'x', b'\xff' * 100):
        path.write_bytes(damaged)
        assert_refused(model, path, 'cannot be read as safetensors')


def test_pdparams_that_would_run_something_get_one_line(tmp_path):
    (tmp_path / 'a.pdparams').write_bytes(b'cos\nsystem\n(S"touch run"\ntR.')
    assert_refused(tmp_path / 'a.pdparams', tmp_path / 'a.pdparams', 'asks to run os.system')


def test_missing_and_giant_files_get_one_line(tmp_path):
    assert_refused(tmp_path / 'none', tmp_path / 'none', 'No such file or directory')
    giant = tmp_path / 'a.pdparams'
    with open(giant, 'wb') as file:
        file.truncate(parameters.MOST_BYTES + 1)  # sparse: takes no room
    assert_refused(giant, giant, 'at most 1,073,741,824 are read')


# --- config.json -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('', 'is not JSON'),
        ('{"version": "1.1",}', 'is not JSON'),
        ('[' * 100_000, 'is not JSON'),
        ('{"a":' * 100_000 + '1' + '}' * 100_000, 'is not JSON'),
        ('{"class_num": ' + '9' * 5000 + '}', 'is not JSON'),
        ('[]', 'is not a JSON object'),
        ('null', 'is not a JSON object'),
        (b'\xff\xfe{}', 'is not UTF-8 text'),
    ],
)
def test_config_that_is_no_json_object_is_refused(text, words, model):
    (model / 'config.json').write_bytes(text if isinstance(text, bytes) else text.encode())
    assert_refused(model, model / 'config.json', words)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'version': None}, 'version is missing'),
        ({'class_num': None}, 'class_num is missing'),
        ({'version': '1.2'}, "version is '1.2'; it must be one of 1.0, 1.1"),
        ({'version': 1.1}, 'version is 1.1'),
        ({'version': ['1.1']}, "version is ['1.1']"),
        ({'bypass': 'double'}, "bypass is 'double'"),
        ({'bypass': {}}, 'bypass is {}'),
        ({'class_num': 0}, 'class_num is 0'),
        ({'class_num': -3}, 'class_num is -3'),
        ({'class_num': '3'}, "class_num is '3'"),
        ({'class_num': True}, 'class_num is True'),
        ({'class_num': 3.0}, 'class_num is 3.0'),
        ({'conv10_pad': 2}, 'conv10_pad is 2'),
        ({'conv10_pad': [1]}, 'conv10_pad is [1]'),
        ({'preprocessing': []}, 'preprocessing is not a JSON object'),
        ({'preprocessing': {'resize': 'long'}}, "resize is 'long', not short, warp, none"),
        ({'preprocessing': {'resize': ['short']}}, "resize is ['short']"),
        ({'preprocessing': {'mean': [103.9, 116.8]}}, 'mean is (103.9, 116.8); it must be three'),
        ({'preprocessing': {'crop': 257}}, 'crop is 257, larger than resize_size 256'),
        ({'preprocessing': {'channel_order': 'GRB'}}, "channel_order is 'GRB', not BGR or RGB"),
        ({'preprocessing': {'scale': 0}}, 'scale is 0; it must be a number other than 0'),
        ({'preprocessing': {'std': 0.2}}, 'std: 0.2 is not supported'),
        ({'class_names': ['a', 'b']}, 'class_names must be 3 strings'),
        ({'class_names': ['a', 'b', 3]}, 'class_names must be 3 strings'),
        ({'class_names': 'abc'}, 'class_names must be 3 strings'),
        ({'class_names': ['a', 'b', '\ud800']}, 'surrogates not allowed'),
    ],
)
def test_config_that_cannot_be_followed_is_refused(change, words, model, config):
    changed = {key: value for key, value in {**config, **change}.items() if value is not None}
    (model / 'config.json').write_text(json.dumps(changed))
    assert_refused(model, model / 'config.json', words)


@pytest.mark.parametrize('class_num', [2, 4, 10**30])
def test_config_for_other_classes_than_the_tensors_is_refused(class_num, silent_model):
    (silent_model / 'config.json').write_text(json.dumps(make_config('1.1', None, class_num)))
    words = 'conv10.weight has shape [3, 512, 1, 1]'
    assert_refused(silent_model, silent_model / 'model.safetensors', words)


def test_config_of_another_version_than_the_tensors_is_refused(silent_model):
    (silent_model / 'config.json').write_text(json.dumps(make_config('1.0', None, 3)))
    words = 'conv1.weight has shape [64, 3, 3, 3]; it should be [96, 3, 7, 7]'
    assert_refused(silent_model, words)


def test_short_config_gets_the_defaults_aloud(silent_model, capsys):
    (silent_model / 'config.json').write_text('{"version": "1.1", "class_num": 3}')
    assert read_model(silent_model)[1] == make_config('1.1', None, 3)
    assert 'assuming --bypass none --conv10_pad 0 --conv10_relu 1\n' in capsys.readouterr().err


def test_config_with_padding_as_true_builds(silent_model, config):
    (silent_model / 'config.json').write_text(json.dumps({**config, 'conv10_pad': True}))
    network = parameters.build_network(*read_model(silent_model))
    assert network(paddle.zeros([1, 3, 35, 35])).shape == [1, 3]


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'bypass': 'simple'}, "bypass is 'simple', but model.safetensors says None"),
        ({'conv10_pad': 1}, 'conv10_pad is 1, but model.safetensors says 0'),
        ({'conv10_relu': False}, 'conv10_relu is False, but model.safetensors says True'),
        ({'class_names': list('abc')}, "class_names is ['a', 'b', 'c'], but"),
        ({'class_names': None, 'class_num': 4}, 'class_num is 4, but model.safetensors says 3'),
        ({'preprocessing': {'crop': 128}}, 'crop is 128, but model.safetensors says 227'),
        ({'source': {'file': 'other'}}, "source is {'file': 'other'}, but model.safetensors says"),
    ],
)
def test_config_json_that_contradicts_its_model_is_refused(change, words, model, config):
    (model / 'config.json').write_text(json.dumps({**config, **change}))
    assert_refused(model, model / 'config.json', words, 'delete config.json')


def test_model_is_whole_without_config_json_or_with_a_short_one(model, tensors, config, capsys):
    for text in ('{"version": "1.1", "class_num": 3, "preprocessing": {"crop": 227}}', None):
        (model / 'config.json').unlink()
        if text:
            (model / 'config.json').write_text(text)
            found, found_config = read_model(model)
            assert_bits(found, tensors)
            assert found_config == config
    assert read_model(model)[1] == config
    assert capsys.readouterr().err == ''


# --- what a file leaves open -----------------------------------------------------------------


@pytest.fixture
def bare(tmp_path, tensors):
    """A .pdparams file, which says nothing of its configuration."""
    values = {name: paddle.to_tensor(value) for name, value in tensors.items()}
    paddle.save(values, str(tmp_path / 'bare.pdparams'))
    return tmp_path / 'bare.pdparams'


def test_what_the_user_says_is_obeyed_without_a_word(bare, capsys):
    found = read_model(bare, Told('simple', 1, 0))[1]
    assert found == {**make_config('1.1', 'simple', 3, 1), 'conv10_relu': False}
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize(
    ('told', 'line'),
    [
        (Told(), 'bypass, conv10_pad, conv10_relu; assuming --bypass none --conv10_pad 0'),
        (Told('simple'), 'does not tell conv10_pad, conv10_relu; assuming --conv10_pad 0'),
        (Told('none', 1), 'does not tell conv10_relu; assuming --conv10_relu 1'),
    ],
)
def test_what_nobody_says_is_assumed_aloud_in_one_line(told, line, bare):
    lines = []
    read_model(bare, told, lines.append)
    assert len(lines) == 1
    assert str(bare) in lines[0]
    assert line in lines[0]


def test_complex_bypass_needs_no_word(tmp_path, seeded_tensors):
    lines, path = [], tmp_path / 'a.safetensors'
    safetensors.numpy.save_file(seeded_tensors('1.1', 'complex', 3), path)
    assert read_model(path, Told(None, 0, 1), lines.append)[1]['bypass'] == 'complex'
    assert lines == []
    with pytest.raises(UserError, match='its bypass is complex; leave out --bypass none'):
        read_model(path, Told('none'))


@pytest.mark.parametrize(
    ('told', 'words'),
    [
        (Told('simple'), 'its bypass is none; leave out --bypass simple'),
        (Told('none', 1), 'its conv10_pad is 0; leave out --conv10_pad 1'),
        (Told(None, 0, 0), 'its conv10_relu is 1; leave out --conv10_relu 0'),
    ],
)
def test_user_who_contradicts_the_file_is_refused(told, words, model):
    with pytest.raises(UserError, match=words):
        read_model(model, told)


def test_flags_become_what_is_told():
    parser = argparse.ArgumentParser()
    add_model_flags(parser)
    assert told(parser.parse_args([])).said() == {}
    args = parser.parse_args(['--bypass', 'none', '--conv10_pad', '1', '--conv10_relu', '0'])
    assert told(args).said() == {'bypass': None, 'conv10_pad': 1, 'conv10_relu': False}


def test_damaged_configuration_inside_a_lone_file_names_the_file(tmp_path, tensors):
    path = tmp_path / 'a.safetensors'
    safetensors.numpy.save_file(tensors, path, metadata={'config': '{"version": '})
    assert_refused(path, path, 'its configuration: is not JSON')


# --- writing that fails ----------------------------------------------------------------------


def disk_is_full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize('call', ['fsync', 'replace'])
def test_interrupted_write_leaves_the_old_model_and_no_litter(call, model, monkeypatch):
    """Even where the new model is of another kind than the old one."""
    before = contents(model)
    other = make_config('1.1', None, 5)
    zeros = {n: np.zeros(s, 'f4') for n, s in architecture.parameter_shapes('1.1', None, 5).items()}
    monkeypatch.setattr(os, call, disk_is_full)
    with pytest.raises(OSError, match='No space left'):
        write_model(model, zeros, other)
    assert contents(model) == before


FILL_THE_DISK = """
import resource, sys
import numpy
from caffe_format import caffemodel
from caffe_format.messages import NetParameter
from common import console, files
from common.console import UserError
from models import parameters
from network import architecture

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # bytes a file: room for config.json
shapes = architecture.parameter_shapes('1.1', None, 5)
tensors = {name: numpy.zeros(shape, 'f4') for name, shape in shapes.items()}
config = parameters.make_config('1.1', None, 5)
write = console.one_line_errors(parameters.write_model)
sys.exit(write(sys.argv[1], tensors, config))
"""


def test_disk_that_fills_up_leaves_the_old_model_and_no_litter(model, tensors, config):
    """The real fault: write(2) fails in the middle of model.safetensors."""
    pytest.importorskip('resource')
    before = contents(model)
    command = [sys.executable, '-c', FILL_THE_DISK, model]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, '')
    assert done.stderr.endswith('File too large\n')
    assert done.stderr.count('\n') == 1
    assert contents(model) == before
    found, found_config = read_model(model)
    assert_bits(found, tensors)
    assert found_config == config


def one_line(capsys, directory, tensors, config):
    """What a command would print where write_model fails."""
    assert console.one_line_errors(write_model)(directory, tensors, config) == 1
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    return error


def test_place_that_cannot_be_written_gets_one_line(tmp_path, capsys, tensors, config):
    place = tmp_path / 'place'
    place.mkdir()
    place.chmod(0o555)
    root = os.geteuid() == 0  # root may write anywhere, so be somebody else for a moment
    try:
        if root:
            os.seteuid(65534)
        error = one_line(capsys, place / 'model', tensors, config)
    finally:
        if root:
            os.seteuid(0)
    assert 'Permission denied' in error
    assert str(place) in error
    assert list(place.iterdir()) == []


def test_file_where_the_directory_should_be_gets_one_line(tmp_path, capsys, tensors, config):
    (tmp_path / 'file').write_text('mine')
    assert str(tmp_path / 'file') in one_line(capsys, tmp_path / 'file', tensors, config)
    assert str(tmp_path / 'file') in one_line(capsys, tmp_path / 'file' / 'x', tensors, config)
    assert (tmp_path / 'file').read_text() == 'mine'


def write_until(calls, directory, tensors, config):
    """A child process writes a model and is killed before its `calls`-th call to the system.

    Returns whether it was.
    """
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == signal.SIGKILL
    left = [calls]

    def killing(function):
        def call(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    for name in ('replace', 'rename', 'fsync', 'unlink', 'open', 'fstat'):
        setattr(os, name, killing(getattr(os, name)))
    write_model(directory, tensors, config)
    os._exit(0)


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
def test_kill_at_any_moment_leaves_the_old_model_or_the_new_one(model, tensors, config):
    """A model of another kind is written over an old one, and killed before each call."""
    other = make_config('1.1', None, 5)
    zeros = {n: np.zeros(s, 'f4') for n, s in architecture.parameter_shapes('1.1', None, 5).items()}
    found, calls, killed = [], 0, True
    while killed:
        write_model(model, tensors, config)
        killed = write_until(calls, model, zeros, other)
        found.append((read_model(model, say=pytest.fail)[1]['class_num'], killed))
        calls += 1
        for left in model.glob('.*.partial'):
            left.unlink()
    assert len(found) > 10
    assert (3, True) in found
    assert (5, True) in found
    assert found[-1] == (5, False)


def test_leftovers_of_killed_writers_are_cleared_by_the_next(model, tensors, config):
    left = model / '.model.safetensors.0123456789ab.partial'
    left.write_bytes(b'half a model')
    os.utime(left, (0, 0))
    write_model(model, tensors, config)
    assert sorted(contents(model)) == ['config.json', 'model.safetensors']


def test_two_writers_at_once_leave_one_whole_file(tmp_path):
    """A writer that began earlier and is still at it loses nothing to the other."""
    with files.atomic_write(tmp_path / 'file') as first:
        first.write(b'first')
        first.flush()
        os.utime(first.fileno(), (0, 0))  # a slow one
        with files.atomic_write(tmp_path / 'file') as second:
            second.write(b'second')
        assert (tmp_path / 'file').read_bytes() == b'second'
    assert (tmp_path / 'file').read_bytes() == b'first'
    assert list(tmp_path.iterdir()) == [tmp_path / 'file']


# --- what is no file, or no model of ours --------------------------------------------------------


@pytest.mark.parametrize('name', ['a.safetensors', 'a.pdparams', 'a.tar', 'a.caffemodel', 'a'])
def test_pipes_and_devices_are_refused_at_once(name, tmp_path):
    os.mkfifo(tmp_path / name)
    assert_refused(tmp_path / name, tmp_path / name, 'is not a regular file')
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to('/dev/zero')
    assert_refused(tmp_path / name, tmp_path / name, 'is not a regular file')


@pytest.mark.parametrize('name', ['config.json', 'model.safetensors'])
def test_pipe_in_a_directory_is_refused_at_once(name, model):
    (model / name).unlink()
    os.mkfifo(model / name)
    assert_refused(model, model / name, 'is not a regular file')


def test_pipe_among_v2_files_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / '_conv1.w0')
    assert_refused(tmp_path, tmp_path / '_conv1.w0', 'is not a regular file')


@pytest.mark.parametrize(
    ('files', 'words'),
    [
        (['inference.json', 'inference.pdiparams'], "Paddle's inference form"),
        (['__model__', 'conv1_weights'], 'holds a fluid model (Paddle 1.x)'),
        (['squeezenet.caffemodel', 'deploy.prototxt'], 'name squeezenet.caffemodel in it'),
        (['model.pdparams'], 'is no model itself; name model.pdparams in it'),
        (['photo.jpg'], 'is no model; it holds neither model.safetensors nor files of'),
    ],
)
def test_directories_of_other_kinds_are_named(files, words, tmp_path):
    for name in files:
        (tmp_path / name).write_bytes(b'x')
    assert_refused(tmp_path, tmp_path, words)


def test_fluid_directory_is_known_by_its_files_too(tmp_path):
    (tmp_path / 'conv1_weights').write_bytes(bytes(16) + b'\x04\x00\x00\x00\x08\x05')
    assert_refused(tmp_path, tmp_path, 'holds a fluid model')


def test_folder_of_a_run_names_its_models(tmp_path, tensors, config):
    write_model(tmp_path / 'best', tensors, config)
    assert_refused(tmp_path, 'is a run of train.py; name', tmp_path / 'best')


def test_weights_alone_of_caffe_leave_open_what_the_user_may_say(tmp_path, seeded_tensors):
    """A caffemodel without wiring: neither the sums of simple bypass nor conv10's padding show."""
    path, lines = tmp_path / 'a.caffemodel', []
    write_caffemodel(path, seeded_tensors('1.0', class_num=3), make_config('1.0', None, 3))
    net = NetParameter.FromString(path.read_bytes())
    for layer in net.layer:
        for field in ('type', 'bottom', 'top', 'convolution_param'):
            layer.ClearField(field)
    path.write_bytes(net.SerializeToString())
    assert read_model(path, say=lines.append)[1]['conv10_pad'] == 0
    assert 'assuming' in '\n'.join(lines)
    assert '--bypass none' in '\n'.join(lines)
    assert '--conv10_pad 0' in '\n'.join(lines)
    lines.clear()
    config = read_model(path, Told('simple', 1, 0), lines.append)[1]
    assert '--conv10_pad' not in '\n'.join(lines)  # of the pictures there is still a line
    assert [config[name] for name in ('bypass', 'conv10_pad', 'conv10_relu')] == [
        'simple',
        1,
        False,
    ]
