"""Parameter files: what is written is read bit for bit, and what is wrong gets one line."""

import errno
import json
import os
import subprocess
import sys

import numpy as np
import paddle
import pytest
import safetensors.numpy
from conftest import ROOT

from common import console
from models import parameters
from models.parameters import ModelError, make_config, read_model, write_model, write_v2_directory
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


def assert_bits(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == np.float32, name
        assert found[name].tobytes() == value.tobytes(), name


def assert_refused(path, *words):
    """ModelError of one line that names `path` and holds `words`."""
    with pytest.raises(ModelError) as refusal:
        read_model(path)
    text = str(refusal.value)
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


# --- PaddlePaddle v2's directories -----------------------------------------------------------


@pytest.mark.parametrize(('version', 'bypass'), [('1.0', None), ('1.1', 'complex')])
def test_v2_directory_comes_back_bit_for_bit(version, bypass, tmp_path, seeded_tensors):
    tensors = seeded_tensors(version, bypass, 3)
    write_v2_directory(tmp_path / 'v2', tensors)
    found, config = read_model(tmp_path / 'v2')
    assert_bits(found, tensors)
    assert config == make_config(version, bypass, 3)


def test_v2_file_is_header_and_little_endian_floats(tmp_path, tensors):
    write_v2_directory(tmp_path, tensors)
    header = bytes([0, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0])  # 0, 4 bytes each, 3 of them
    values = tensors['conv10.bias'].astype('<f4').tobytes()
    assert (tmp_path / '_conv10.wbias').read_bytes() == header + values
    assert len(list(tmp_path.iterdir())) == 52


@pytest.mark.parametrize(
    'spelling',
    [
        {'fire2.squeeze1x1.weight': '_fire2_squeeze1x1.w0', 'conv1.bias': '_conv1.wbias'},
        {'fire2.squeeze1x1.weight': 'fire2.squeeze1x1.weight', 'conv1.bias': 'conv1.bias'},
        {'fire9.expand3x3.bias': '___fire9_expand3x3__.wbias', 'conv10.weight': 'conv10_weights'},
        {'fire9.expand3x3.bias': 'fire9-expand3x3.w1', 'conv10.weight': '_CONV10.W0'},
    ],
)
def test_v2_file_names_may_be_spelt_in_many_ways(spelling, tmp_path, tensors):
    write_v2_directory(tmp_path, tensors)
    for name, spelt in spelling.items():
        layer, kind = name.rsplit('.', 1)
        (tmp_path / f'_{layer}.{"w0" if kind == "weight" else "wbias"}').rename(tmp_path / spelt)
    (tmp_path / 'README.txt').write_text('files of other names do not count')
    (tmp_path / '_conv9.w0').mkdir()
    assert_bits(read_model(tmp_path)[0], tensors)


def test_config_json_in_a_v2_directory_is_heeded(tmp_path, tensors):
    config = make_config('1.1', 'simple', 3, preprocessing=Preprocessing('warp'))
    write_v2_directory(tmp_path, tensors)
    (tmp_path / 'config.json').write_text(json.dumps(config))
    assert read_model(tmp_path)[1] == config


def test_v2_directory_with_its_config_keeps_what_the_files_cannot_tell(tmp_path, tensors):
    config = make_config(
        '1.1',
        'simple',
        3,
        conv10_pad=1,
        preprocessing=Preprocessing('warp'),
        class_names=list('abc'),
    )
    write_v2_directory(tmp_path, tensors, config)
    assert read_model(tmp_path)[1] == config


def v2_header(form=0, value_size=4, count=3):
    return parameters.V2_HEADER.pack(form, value_size, count)


@pytest.mark.parametrize(
    ('name', 'content', 'words'),
    [
        ('_conv10.wbias', b'', 'shorter than the 16-byte header'),
        ('_conv10.wbias', v2_header()[:15], 'shorter than the 16-byte header'),
        ('_conv10.wbias', v2_header(form=1) + bytes(12), 'format 1, 4 bytes'),
        ('_conv10.wbias', v2_header(value_size=8) + bytes(24), 'format 0, 8 bytes'),
        ('_conv10.wbias', v2_header() + bytes(11), 'promises 3 values, the file holds 2.75'),
        ('_conv10.wbias', v2_header() + bytes(16), 'promises 3 values, the file holds 4'),
        ('_conv10.wbias', v2_header(count=1 << 62), 'the file holds 0'),
        ('_conv10.wbias', v2_header(count=0), 'promises no values'),
        ('_conv1.wbias', v2_header() + bytes(12), 'conv1.bias has 3 values; [64] needs 64'),
        ('conv1.bias', v2_header() + bytes(12), 'is a second file for conv1.bias'),
        ('_fire2.bypass1x1.wbias', v2_header() + bytes(12), 'fire2.bypass1x1.bias is no parameter'),
        ('_conv10.wbias', None, 'there is no file for conv10.bias'),
        ('_fire5.expand3x3.w0', None, 'parameter fire5.expand3x3.weight is missing'),
    ],
)
def test_damaged_v2_directory_gets_one_line(name, content, words, tmp_path, tensors):
    directory = tmp_path / 'v2'
    write_v2_directory(directory, tensors)
    if content is None:
        (directory / name).unlink()
    else:
        (directory / name).write_bytes(content)
    assert_refused(directory, directory, words)


def test_directory_without_a_model_says_what_it_looked_for(tmp_path):
    assert_refused(tmp_path, tmp_path, 'neither model.safetensors nor files of')


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
    write_v2_directory(tmp_path / 'v2', broken)
    assert_refused(tmp_path / 'v2', words)
    with pytest.raises(ModelError, match=words):
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
    assert_refused(tmp_path / 'none', tmp_path / 'none', 'no such file or directory')
    giant = tmp_path / 'a.pdparams'
    with open(giant, 'wb') as file:
        file.truncate(parameters.MOST_BYTES + 1)  # sparse: takes no room
    assert_refused(giant, giant, 'larger than 1024 MiB')


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
def test_config_for_other_classes_than_the_tensors_is_refused(class_num, model):
    (model / 'config.json').write_text(json.dumps(make_config('1.1', None, class_num)))
    assert_refused(model, model / 'model.safetensors', 'conv10.weight has shape [3, 512, 1, 1]')


def test_config_of_another_version_than_the_tensors_is_refused(model):
    (model / 'config.json').write_text(json.dumps(make_config('1.0', None, 3)))
    assert_refused(model, 'conv1.weight has shape [64, 3, 3, 3]; it should be [96, 3, 7, 7]')


def test_short_config_gets_the_defaults(model):
    (model / 'config.json').write_text('{"version": "1.1", "class_num": 3}')
    assert read_model(model)[1] == make_config('1.1', None, 3)


def test_config_with_padding_as_true_builds(model, config, tensors):
    (model / 'config.json').write_text(json.dumps({**config, 'conv10_pad': True}))
    network = parameters.build_network(*read_model(model))
    assert network(paddle.zeros([1, 3, 35, 35])).shape == [1, 3]


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
from common import console
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
