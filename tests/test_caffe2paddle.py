"""The converter's commands: what they write, what they check, and how they fail."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

import caffe2paddle
from caffe2paddle import DATA
from caffe_format import caffemodel
from caffe_format.messages import NetParameter
from models import parameters
from network import architecture

OFFICIAL = DATA / 'squeezenet_v1.1.caffemodel'
CAT = DATA / 'photos' / 'cat.jpg'
VARIANTS = [(v, b) for v in architecture.VERSIONS for b in architecture.BYPASSES]


def run(*arguments):
    """The command in this process: its exit status."""
    return caffe2paddle.main([str(argument) for argument in arguments])


def run_alone(*arguments, cwd):
    command = [sys.executable, DATA.parent / 'caffe2paddle.py', *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def he_tensors(version, bypass, class_num, seed=97):
    """Weights that keep activations of similar size through the network."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in architecture.parameter_shapes(version, bypass, class_num).items():
        scale = np.sqrt(2 / np.prod(shape[1:])) if name.endswith('weight') else 0.1
        tensors[name] = (rng.standard_normal(shape) * scale).astype(np.float32)
    tensors['conv1.weight'] /= 64
    return tensors


def write_parameters(directory, version, bypass, class_num=10, conv10_pad=0):
    config = parameters.make_config(version, bypass, class_num, conv10_pad)
    parameters.write_model(directory, he_tensors(version, bypass, class_num), config)
    return directory


def change_weight(directory, name):
    tensors, config = parameters.read_model(directory)
    value = tensors[name].copy()
    value.flat[0] += 10 * np.abs(value).max()  # enough to get through the ReLU
    parameters.write_model(directory, {**tensors, name: value}, config)


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
    tensors, config = parameters.read_model(tmp_path / 'out')
    original = caffemodel.read_net(OFFICIAL).tensors
    assert {n: t.tobytes() for n, t in tensors.items()} == {
        n: t.tobytes() for n, t in original.items()
    }
    assert (config['version'], config['bypass'], config['class_num']) == ('1.1', None, 1000)
    assert config['preprocessing']['resize'] == 'warp'
    assert config['source'] == {
        'file': 'squeezenet_v1.1.caffemodel',
        'sha256': parameters.sha256_of(OFFICIAL),
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
    caffemodel.write_caffemodel(path, tensors, '1.0', None, 10, conv10_pad=1)
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
    names = caffe2paddle.read_class_names(file, 3)
    assert names == ['tench, Tinca tinca', 'night sky', 'Chat é']


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'a\nb\n', 'has 2 names; the network has 1000 classes'),
        (b'a\n\nb\n', 'names.txt:2: there is no name'),
        (b'\xff\xfe', 'is not UTF-8'),
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


# --- --verify --------------------------------------------------------------------------------


def test_verify_passes_on_the_official_file(tmp_path, capsys):
    assert run(OFFICIAL, '--output', tmp_path / 'out', '--verify') == 0
    text = capsys.readouterr().out
    assert 'all 39 blobs agree within 0.0001' in text
    for blob in ('conv1 ', 'fire2/squeeze1x1 ', 'fire9/concat ', 'conv10 ', 'pool10 ', 'prob '):
        assert f'\n{blob}' in text


@pytest.mark.parametrize('name', ['conv1.weight', 'fire5.expand3x3.bias', 'conv10.bias'])
def test_verify_fails_and_names_the_blob_when_one_weight_is_wrong(tmp_path, capsys, name):
    output = tmp_path / 'out'
    assert run(OFFICIAL, '--output', output) == 0
    change_weight(output, name)
    assert caffe2paddle.verify(output, OFFICIAL, CAT, 1e-4) == 1
    captured = capsys.readouterr()
    blob = name.rpartition('.')[0].replace('.', '/')
    assert f'{blob} first' in captured.err
    rows = {line.split()[0]: line for line in captured.out.splitlines() if line}
    assert rows[blob].endswith('FAIL')


def test_verify_can_fail_by_tolerance_alone(tmp_path):
    assert run(OFFICIAL, '--output', tmp_path / 'out', '--verify', '--tolerance', 0) == 1


def test_verify_fails_on_nan(tmp_path, monkeypatch):
    from results import verify

    row = verify.Difference('conv1', (1, 64, 113, 113), float('nan'), float('nan'))
    monkeypatch.setattr(verify, 'compare', lambda *_: [row])
    assert caffe2paddle.verify(tmp_path, OFFICIAL, CAT, 1e-4) == 1


@pytest.mark.parametrize(('version', 'bypass'), VARIANTS)
def test_to_caffe_is_read_by_opencv_and_agrees_with_paddle(tmp_path, capsys, version, bypass):
    """Through the file's own layers (--verify), and through the deploy.prototxt beside it."""
    from results import verify

    model = write_parameters(tmp_path / 'model', version, bypass, conv10_pad=1)
    output = tmp_path / 'caffe' / 'tuned.caffemodel'
    assert run('--to_caffe', model, '--output', output) == 0
    rows = verify.compare(model, output, CAT)
    blobs = {None: 39, 'simple': 43, 'complex': 51}
    assert len(rows) == blobs[bypass]
    assert max(row.relative for row in rows) < 1e-4

    images = np.random.default_rng(0).uniform(-120, 150, (1, 3, 227, 227)).astype(np.float32)
    network = cv2.dnn.readNetFromCaffe(str(output.with_name('deploy.prototxt')), str(output))
    network.setInput(images)
    expected = verify.opencv_blobs(output, images)['prob']
    np.testing.assert_allclose(network.forward('prob'), expected, atol=1e-5)


@pytest.mark.parametrize('pad', [0, 1])
def test_to_caffe_and_back_is_bit_for_bit(tmp_path, pad):
    model = write_parameters(tmp_path / 'model', '1.0', 'complex', 7, pad)
    output = tmp_path / 'out.caffemodel'
    assert run('--to_caffe', model, '--output', output) == 0
    net = caffemodel.read_net(output)
    tensors, _ = parameters.read_model(model)
    assert (net.version, net.bypass, net.class_num, net.conv10_pad) == ('1.0', 'complex', 7, pad)
    assert all(net.tensors[name].tobytes() == tensors[name].tobytes() for name in tensors)


def test_verify_reads_doubles_weights_alone_and_nets_without_softmax(tmp_path):
    from results import verify

    model = write_parameters(tmp_path / 'model', '1.1', 'complex')
    path = tmp_path / 'net.caffemodel'
    run('--to_caffe', model, '--output', path)
    net = caffemodel.read_message(path)

    doubles, bare, headless = NetParameter(), NetParameter(), NetParameter()
    doubles.CopyFrom(net)
    headless.CopyFrom(net)
    del headless.layer[-1]
    for layer in doubles.layer:
        for blob in layer.blobs:
            blob.double_data.extend(blob.data)
            blob.ClearField('data')
        if layer.blobs:
            bare.layer.add(name=b'renamed ' + layer.name, blobs=layer.blobs)
    for layer in headless.layer:
        layer.name = b'layer ' + layer.name  # names that differ from their tops
    for form, count in ((doubles, 51), (bare, 51), (headless, 50)):
        path.write_bytes(form.SerializeToString())
        rows = verify.compare(model, path, CAT)
        assert len(rows) == count
        assert max(row.relative for row in rows) < 1e-4


def test_verify_says_which_opencv_it_needs(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cv2, '__version__', '5.0.0')
    assert run(OFFICIAL, '--output', tmp_path / 'out', '--verify') == 1
    assert 'needs OpenCV 4, and this is 5.0.0' in capsys.readouterr().err


def test_verify_takes_a_picture_of_the_users(tmp_path, capsys):
    photo = tmp_path / 'my photo.png'
    cv2.imwrite(str(photo), np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8))
    assert run(OFFICIAL, '--output', tmp_path / 'out', '--verify', '--image', photo) == 0
    assert str(photo) in capsys.readouterr().out
    missing = tmp_path / 'none.png'
    assert run(OFFICIAL, '--output', tmp_path / 'out', '--verify', '--image', missing) == 1
    assert str(missing) in capsys.readouterr().err


# --- the other directions --------------------------------------------------------------------


def test_to_caffe_wants_a_caffemodel_as_output(tmp_path, capsys):
    model = write_parameters(tmp_path / 'model', '1.1', None)
    assert run('--to_caffe', model, '--output', tmp_path / 'out') == 1
    assert 'must end in .caffemodel' in capsys.readouterr().err


def test_to_v2_writes_what_model_flags_read(tmp_path):
    model = write_parameters(tmp_path / 'model', '1.1', 'complex')
    assert run('--to_v2', model, '--output', tmp_path / 'v2') == 0
    header = (tmp_path / 'v2' / '_conv1.w0').read_bytes()[:16]
    assert header == np.array([0, 4, 64 * 27, 0], '<i4').tobytes()
    written, _ = parameters.read_model(tmp_path / 'v2')
    tensors, _ = parameters.read_model(model)
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
    ],
)
def test_contradicting_flags_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
