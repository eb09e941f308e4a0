"""The comparison with OpenCV: what it passes, and that it fails where it must."""

import cv2
import numpy as np
import pytest
from converting import change_weight, run, write_parameters
from small_nets import OFFICIAL, VARIANTS, drop_layer, layer_called

import caffe2paddle
from caffe2paddle import DATA
from caffe_format.blobs import read_message
from caffe_format.caffemodel import recognise
from caffe_format.proto import NetParameter
from common.console import UserError
from evaluation import against_opencv
from models import model_io

CAT = DATA / 'photos' / 'cat.jpg'


def opencv_blobs(path, images):
    message = read_message(path)
    return against_opencv.opencv_blobs(message, recognise(message, path), images, path)


def test_verify_passes_on_the_official_file(tmp_path, capsys):
    assert run(OFFICIAL, '--output', tmp_path / 'out', '--verify') == 0
    text = capsys.readouterr().out
    assert 'all 40 blobs agree within 0.0001' in text
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
    row = against_opencv.Difference('conv1', (1, 64, 113, 113), float('nan'), float('nan'))
    monkeypatch.setattr(against_opencv, 'compare', lambda *_: [row])
    assert caffe2paddle.verify(tmp_path, OFFICIAL, CAT, 1e-4) == 1


@pytest.mark.parametrize(('version', 'bypass'), VARIANTS)
def test_to_caffe_is_read_by_opencv_and_agrees_with_paddle(tmp_path, capsys, version, bypass):
    """Through the file's own layers (--verify), and through the prototxt beside it."""
    model = write_parameters(tmp_path / 'model', version, bypass, conv10_pad=1)
    output = tmp_path / 'caffe' / 'tuned.caffemodel'
    assert run('--to_caffe', model, '--output', output) == 0
    rows = against_opencv.compare(model, output, CAT)
    blobs = {None: 40, 'simple': 44, 'complex': 52}
    assert len(rows) == blobs[bypass]
    assert max(row.relative for row in rows) < 1e-4

    images = np.random.default_rng(0).uniform(-120, 150, (1, 3, 227, 227)).astype(np.float32)
    network = cv2.dnn.readNetFromCaffe(str(output.with_suffix('.prototxt')), str(output))
    network.setInput(images)
    expected = opencv_blobs(output, images)['prob']
    np.testing.assert_allclose(network.forward('prob'), expected, atol=1e-5)


def test_verify_reads_doubles_weights_alone_and_nets_without_softmax(tmp_path):
    model = write_parameters(tmp_path / 'model', '1.1', 'complex')
    path = tmp_path / 'net.caffemodel'
    run('--to_caffe', model, '--output', path)
    net = read_message(path)

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
    for form, count in ((doubles, 52), (bare, 52), (headless, 51)):
        path.write_bytes(form.SerializeToString())
        rows = against_opencv.compare(model, path, CAT)
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


# --- the file's own input settings, and forms that OpenCV does not know --------------------------


def training_form(net):
    """As Caffe saves the authors' train_val.prototxt: a data layer, and its label split in two."""
    data = layer_called(net, 'data')
    data.Clear()
    data.name, data.type, data.top[:] = b'data', b'Data', [b'data', b'label']
    data.transform_param.mean_value.extend([90, 198, 121])
    data.transform_param.crop_size, data.transform_param.scale = 128, 0.5
    split = type(data)(name=b'label_data_1_split', type=b'Split', bottom=[b'label'])
    split.top[:] = [b'label_data_1_split_0', b'label_data_1_split_1']
    net.layer.insert(1, split)
    drop_layer(net, 'prob')
    for number, kind in enumerate((b'SoftmaxWithLoss', b'Accuracy')):
        net.layer.add(
            name=kind, type=kind, bottom=[b'pool10', split.top[number]], top=[kind.lower()]
        )


def odd_words(net):
    for layer in net.layer:
        if layer.HasField('pooling_param') and not layer.pooling_param.global_pooling:
            param = layer.pooling_param
            param.ClearField('kernel_size')
            param.kernel_h, param.kernel_w, param.round_mode = 3, 3, 0
    param = layer_called(net, 'fire2/expand3x3').convolution_param
    del param.kernel_size[:]
    param.kernel_h, param.kernel_w = 3, 3


def forks(net):
    layer_called(net, 'fire5/expand1x1').type = b'ConvolutionRistretto'
    del layer_called(net, 'fire6/expand1x1').blobs[1]
    drop_layer(net, 'relu_conv10')
    for layer in net.layer:
        for blob in layer.blobs:
            blob.raw_data_type, blob.raw_data = 0, np.array(blob.data, '<f8').tobytes()
            blob.ClearField('data')


def relu_behind_the_pool(net):
    relu = layer_called(net, 'relu_conv1')
    moved = type(relu)(name=b'late', type=b'ReLU', bottom=[b'pool1'], top=[b'pool1'])
    drop_layer(net, 'relu_conv1')
    net.layer.insert(3, moved)


def batch_norm(net):
    count = len(layer_called(net, 'fire9/expand1x1').blobs[1].data)
    at = [layer.name for layer in net.layer].index(b'fire9/expand1x1') + 1
    blob = [b'fire9/expand1x1']
    norm = type(net.layer[0])(name=b'bn', type=b'BatchNorm', bottom=blob, top=blob)
    norm.batch_norm_param.use_global_stats = False
    scale = type(norm)(name=b'scale', type=b'Scale', bottom=blob, top=blob)
    scale.scale_param.bias_term = True
    rng = np.random.default_rng(0)
    for layer, kinds in ((norm, (2.0, 2.0)), (scale, (1.0, 1.0))):
        for low in kinds:
            layer.blobs.add(shape={'dim': [count]}, data=rng.uniform(low, low + 1, count))
    norm.blobs.add(shape={'dim': [1]}, data=[2.0])
    net.layer.insert(at, scale)
    net.layer.insert(at, norm)


@pytest.mark.parametrize(
    ('change', 'count'),
    [
        (training_form, 39),
        (odd_words, 40),
        (forks, 40),
        (relu_behind_the_pool, 39),
        (batch_norm, 40),
    ],
)
def test_verify_passes_on_other_forms(tmp_path, capsys, change, count):
    path = tmp_path / 'net.caffemodel'
    run('--to_caffe', write_parameters(tmp_path / 'model', '1.1', None), '--output', path)
    net = read_message(path)
    change(net)
    path.write_bytes(net.SerializeToString())
    assert run(path, '--output', tmp_path / 'out', '--verify') == 0
    assert f'all {count} blobs agree' in capsys.readouterr().out


def snapshot(tmp_path):
    path = tmp_path / 'net.caffemodel'
    run('--to_caffe', write_parameters(tmp_path / 'model', '1.1', None), '--output', path)
    net = read_message(path)
    training_form(net)
    path.write_bytes(net.SerializeToString())
    assert run(path, '--output', tmp_path / 'out') == 0
    return path


@pytest.mark.parametrize(
    'wrong', [{'mean': [104, 117, 123]}, {'scale': 1.0}, {'channel_order': 'RGB'}]
)
def test_verify_fails_where_the_input_settings_are_wrong(tmp_path, capsys, wrong):
    path = snapshot(tmp_path)
    tensors, config = model_io.read_model(tmp_path / 'out')
    config['preprocessing'].update(wrong)
    model_io.write_model(tmp_path / 'out', tensors, config)
    assert caffe2paddle.verify(tmp_path / 'out', path, CAT, 1e-4) == 1
    assert 'data first' in capsys.readouterr().err


def test_verify_fails_where_the_input_size_is_wrong(tmp_path):
    path = snapshot(tmp_path)
    tensors, config = model_io.read_model(tmp_path / 'out')
    config['preprocessing']['crop'] = 227
    model_io.write_model(tmp_path / 'out', tensors, config)
    with pytest.raises(UserError, match='1x3x227x227 in Paddle, 1x3x128x128 as the'):
        caffe2paddle.verify(tmp_path / 'out', path, CAT, 1e-4)


def test_verify_feeds_what_flags_say(tmp_path):
    path = snapshot(tmp_path)
    flags = ['--mean', '1,2,3', '--channel_order', 'RGB', '--input_size', '224', '--scale', '2']
    assert run(path, '--output', tmp_path / 'out', '--verify', *flags) == 0
    _, config = model_io.read_model(tmp_path / 'out')
    assert config['preprocessing'] == {
        'resize': 'short',
        'resize_size': 256,
        'crop': 224,
        'mean': [3.0, 2.0, 1.0],
        'scale': 2.0,
        'channel_order': 'RGB',
    }
