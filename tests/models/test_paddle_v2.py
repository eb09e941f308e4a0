"""PaddlePaddle v2's directories and tars: read bit for bit, written whole, damage in one line."""

import gzip
import io
import json
import os
import tarfile

import numpy as np
import pytest
from model_checks import assert_bits, assert_refused

from common.console import UserError
from models.formats import paddle_v2
from models.model_io import read_model
from network import architecture
from network.config import ModelOverrides, make_config
from network.preprocessing import Preprocessing

CONFIG = make_config('1.1', None, 3)


@pytest.fixture
def tensors(seeded_tensors):
    return seeded_tensors('1.1', class_num=3)


@pytest.fixture
def v2(tmp_path, tensors):
    """A directory of parameter files alone, as v2's caffe2paddle wrote it."""
    return write_bare(tmp_path / 'v2', tensors)


def write_bare(directory, tensors):
    version, bypass = '1.1', 'complex' if 'fire2.bypass1x1.weight' in tensors else None
    paddle_v2.write_directory(directory, tensors, make_config(version, bypass, 3))
    (directory / 'config.json').unlink()
    return directory


def pack(path, directory, names=None):
    """A tar as v2's Parameters.to_tar writes it: every parameter and a .protobuf of its name."""
    with tarfile.open(path, 'w:gz' if path.suffix == '.gz' else 'w') as tar:
        for file in sorted(directory.iterdir()):
            for name, content in (
                (f'{file.name}.protobuf', b'\n' + bytes([len(file.name)]) + file.name.encode()),
                (file.name, file.read_bytes()),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def rename_by_default(directory):
    """Give the files the names that v2 gives where nobody names a layer."""
    layers = [name[: -len('.bias')] for name in architecture.parameter_shapes() if 'bias' in name]
    for number, layer in enumerate(layers):
        for kind in ('w0', 'wbias'):
            (directory / f'_{layer}.{kind}').rename(directory / f'___conv_{number}__.{kind}')
    return directory


@pytest.mark.parametrize(('version', 'bypass'), [('1.0', None), ('1.1', 'complex')])
def test_v2_directory_comes_back_bit_for_bit(version, bypass, tmp_path, seeded_tensors):
    tensors = seeded_tensors(version, bypass, 3)
    config = make_config(version, bypass, 3)
    paddle_v2.write_directory(tmp_path / 'v2', tensors, config)
    (tmp_path / 'v2' / 'config.json').unlink()
    found, config = read_model(tmp_path / 'v2')
    assert_bits(found, tensors)
    assert config == make_config(version, bypass, 3)


def test_v2_file_is_header_and_little_endian_floats(tmp_path, tensors):
    write_bare(tmp_path, tensors)
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
    write_bare(tmp_path, tensors)
    for name, spelt in spelling.items():
        layer, kind = name.rsplit('.', 1)
        (tmp_path / f'_{layer}.{"w0" if kind == "weight" else "wbias"}').rename(tmp_path / spelt)
    (tmp_path / 'README.txt').write_text('files of other names do not count')
    (tmp_path / '_conv9.w0').mkdir()
    assert_bits(read_model(tmp_path)[0], tensors)


def test_config_json_in_a_v2_directory_is_heeded(tmp_path, tensors):
    config = make_config('1.1', 'simple', 3, preprocessing=Preprocessing('warp'))
    write_bare(tmp_path, tensors)
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
    paddle_v2.write_directory(tmp_path, tensors, config)
    assert read_model(tmp_path)[1] == config


def v2_header(form=0, value_size=4, count=3):
    return paddle_v2.HEADER.pack(form, value_size, count)


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
    write_bare(directory, tensors)
    if content is None:
        (directory / name).unlink()
    else:
        (directory / name).write_bytes(content)
    assert_refused(directory, directory, words)


def test_directory_without_a_model_says_what_it_looked_for(tmp_path):
    assert_refused(tmp_path, tmp_path, 'neither model.safetensors nor files of')


# --- tars and default names --------------------------------------------------------------------


@pytest.mark.parametrize('suffix', ['.tar', '.tar.gz'])
@pytest.mark.parametrize('default_names', [False, True])
def test_tar_comes_back_bit_for_bit(suffix, default_names, tmp_path, v2, tensors):
    if default_names:
        rename_by_default(v2)
    found, config = read_model(pack(tmp_path / f'pass_0{suffix}', v2))
    assert_bits(found, tensors)
    assert config == CONFIG


def test_default_names_are_in_the_order_of_the_network(v2, tensors):
    assert_bits(read_model(rename_by_default(v2))[0], tensors)


def test_default_names_may_start_anywhere(v2, tensors):
    for file in list(rename_by_default(v2).iterdir()):
        number = int(file.name.split('_')[4])
        file.rename(v2 / file.name.replace(f'_{number}_', f'_{number + 40}_'))
    assert_bits(read_model(v2)[0], tensors)


def test_other_numbers_of_default_names_are_refused(v2):
    rename_by_default(v2)
    for kind in ('w0', 'wbias'):
        (v2 / f'___conv_7__.{kind}').unlink()
    assert_refused(v2, v2, 'is of 25 numbered convolutions')


def test_default_names_among_others_are_refused(v2):
    (v2 / '_conv1.w0').rename(v2 / '___conv_0__.w0')
    assert_refused(v2, 'has a name of another kind')


def test_assumptions_about_a_tar_are_said_and_can_be_told(tmp_path, v2, capsys):
    path = pack(tmp_path / 'pass_0.tar', v2)
    assert read_model(path, ModelOverrides('simple', 1, 1))[1] == make_config('1.1', 'simple', 3, 1)
    assert capsys.readouterr().err == ''
    read_model(path)
    assert capsys.readouterr().err.count('\n') == 1


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (gzip.compress(bytes(10_000)), 'holds no parameters of PaddlePaddle v2'),
        (gzip.compress(b'x' * 10_000), 'damaged tar'),
        (gzip.compress(bytes(10_000))[:15], 'damaged tar'),
        (b'\x1f\x8b' + bytes(99), 'damaged tar'),
    ],
)
def test_tars_of_something_else_get_one_line(content, words, tmp_path):
    (tmp_path / 'a.tar.gz').write_bytes(content)
    assert_refused(tmp_path / 'a.tar.gz', tmp_path / 'a.tar.gz', words)


def test_truncated_tar_gets_one_line(tmp_path, v2):
    path = pack(tmp_path / 'a.tar', v2)
    content = path.read_bytes()
    for end in (1000, 100_000, len(content) // 2):
        path.write_bytes(content[:end])
        assert_refused(path, path)


def test_tar_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(paddle_v2, 'MOST_BYTES', 1 << 20)
    (tmp_path / 'a.tar.gz').write_bytes(gzip.compress(bytes(2 << 20)))
    assert_refused(tmp_path / 'a.tar.gz', 'unpacks to more than 1 MiB')


# --- writing -----------------------------------------------------------------------------------


def test_a_directory_that_holds_something_is_never_written_into(v2, tensors):
    before = {path.name: path.read_bytes() for path in v2.iterdir()}
    with pytest.raises(UserError, match='is there already; name a new directory'):
        paddle_v2.write_directory(v2, {n: -t for n, t in tensors.items()}, CONFIG)
    assert {path.name: path.read_bytes() for path in v2.iterdir()} == before


@pytest.mark.parametrize('after', [0, 1, 25, 52, 53])
def test_write_that_fails_leaves_nothing(after, tmp_path, tensors, monkeypatch):
    """A disk that fills up at the config, at a parameter, or at the last rename."""
    whole, left = os.replace, [after]

    def fail_at_last(*paths):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, 'No space left on device')
        whole(*paths)

    monkeypatch.setattr(os, 'replace', fail_at_last)
    monkeypatch.setattr(os, 'rename', fail_at_last)
    with pytest.raises(OSError, match='No space left'):
        paddle_v2.write_directory(tmp_path / 'out', tensors, CONFIG)
    assert list(tmp_path.iterdir()) == []


def test_nan_in_a_parameter_is_refused(tmp_path, tensors):
    broken = tensors['fire7.expand1x1.weight'].copy()
    broken.flat[-1] = np.nan
    directory = write_bare(tmp_path / 'v2', {**tensors, 'fire7.expand1x1.weight': broken})
    assert_refused(directory, 'fire7.expand1x1.weight holds NaN or infinite numbers')
