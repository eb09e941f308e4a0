"""caffe2paddle.py --mean: numbers with commas, and mean images as .binaryproto and .npy."""

import io

import numpy as np
import pytest
from converting import run

from caffe2paddle import DATA
from caffe_format.proto import BlobProto
from models import model_io

OFFICIAL = DATA / 'squeezenet_v1.1.caffemodel'


def test_a_mean_image_gives_the_mean_of_its_channels(tmp_path, capsys):
    image = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    file = tmp_path / 'mean.binaryproto'
    blob = BlobProto(num=1, channels=3, height=2, width=2, data=image.ravel())
    file.write_bytes(blob.SerializeToString())
    assert run(OFFICIAL, '--output', tmp_path / 'out', '--mean', file) == 0
    _, config = model_io.read_model(tmp_path / 'out')
    assert config['preprocessing']['mean'] == [1.5, 5.5, 9.5]
    assert 'Caffe subtracts the image' in capsys.readouterr().err
    blob.channels, blob.height = 1, 6
    file.write_bytes(blob.SerializeToString())
    assert run(OFFICIAL, '--output', tmp_path / 'no', '--mean', file) == 1
    assert 'no mean image of three channels: 1x1x6x2' in capsys.readouterr().err
    assert run(OFFICIAL, '--output', tmp_path / 'no', '--mean', 'none.binaryproto') == 1
    assert capsys.readouterr().err.count('\n') == 1


@pytest.mark.parametrize('shape', [(3,), (3, 2, 2), (1, 3, 2, 2)])
@pytest.mark.parametrize('dtype', ['<f8', '>f4', 'u1'])
def test_a_mean_as_npy_is_read_as_binaryproto_is(shape, dtype, tmp_path, capsys):
    mean = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    np.save(tmp_path / 'mean.npy', np.asfortranarray(mean))
    flags = ['--mean', tmp_path / 'mean.npy']
    assert run(OFFICIAL, '--output', tmp_path / 'out', *flags) == 0
    _, config = model_io.read_model(tmp_path / 'out')
    assert config['preprocessing']['mean'] == list(mean.reshape(3, -1).mean(axis=1))
    assert 'mean.npy: its average of each channel is taken' in capsys.readouterr().err


def npy(array, **changes):
    """The bytes of np.save, with other words in its header."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    content = file.getvalue()
    for old, new in changes.items():
        content = content.replace(old.encode(), new.encode())
    return content


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (npy(np.zeros((227, 227, 3))), 'no mean image of three channels: 227x227x3'),
        (npy(np.zeros((3, 0, 2))), 'no mean image of three channels'),
        (npy(np.full(3, np.nan)), 'NaN or infinite numbers'),
        (npy(np.zeros(3, complex)), 'holds complex128 numbers'),
        (npy(np.array([print, 1, 2])), 'holds object numbers'),
        (npy(np.zeros(3))[:-1], 'its shape and its bytes do not agree'),
        (npy(np.zeros(30), **{'(30,)': f'({10**15},)'}), 'damaged .npy file'),
        (npy(np.zeros(3))[:20], 'damaged .npy file'),
        (b'\x93NUMPY\x09\x09', 'damaged .npy file'),
    ],
)
def test_npy_files_that_are_no_mean_get_one_line(content, words, tmp_path, capsys):
    (tmp_path / 'mean.npy').write_bytes(content)
    assert run(OFFICIAL, '--output', tmp_path / 'no', '--mean', tmp_path / 'mean.npy') == 1
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and words in error


@pytest.mark.parametrize(
    ('words', 'complaint'),
    [
        (['--mean', '104', '117', '123'], '--mean takes B,G,R with commas'),
        (['--mean=104,', '117,', '123'], 'without spaces: --mean 104,117,123'),
        (['--mean', '104,117'], "'104,117': give B,G,R with commas, as in 104,117,123"),
        (['--mean', 'mean.mat'], "'mean.mat': give B,G,R with commas"),
    ],
)
def test_a_mean_that_is_written_otherwise_gets_a_hint(words, complaint, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(OFFICIAL, '--output', tmp_path / 'no', *words)
    assert complaint in capsys.readouterr().err
