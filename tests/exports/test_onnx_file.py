"""ONNX files: Paddle's numbers on ONNX Runtime, Caffe's names, and what else can read them."""

import importlib.util
import json
import subprocess
from pathlib import Path

import numpy as np
import onnx
import paddle
import pytest
from conftest import GOLDEN

import export
import reader
from caffe_format.writing import deploy_prototxt
from exports import onnx_file
from models import model_io
from network.preprocessing import Preprocessing, preprocessing_of

CAT = GOLDEN / 'cat_227.png'
OTHER_INPUT = Preprocessing(crop=131, mean=(120.5, 110, 100), scale=0.5, channel_order='RGB')


def model_of(seeded_tensors, version='1.1', bypass=None, class_num=10, **others):
    config = model_io.make_config(version, bypass, class_num, **others)
    return seeded_tensors(version, bypass, class_num), config


def paddle_logits(tensors, config, images):
    network = model_io.build_network(tensors, config)
    network.eval()
    return network(paddle.to_tensor(images)).numpy()


def crops_for(config, pixels, count=2):
    """The golden pictures' centres, uint8 [count, crop, crop, 3] BGR."""
    size = preprocessing_of(config).crop
    return np.stack([reader.centre_crop(p, size) for p in pixels[:count].astype(np.uint8)])


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def run(content, feed):
    return onnx_file.session(content)(feed)


MODELS = [
    {},
    {'version': '1.0', 'bypass': 'simple', 'conv10_pad': 1},
    {'version': '1.0', 'bypass': 'complex', 'preprocessing': OTHER_INPUT},
    {'bypass': 'simple', 'conv10_relu': False, 'class_num': 3},
    {'bypass': 'complex', 'preprocessing': Preprocessing(channel_order='RGB'), 'class_num': 1},
]


@pytest.mark.parametrize('options', MODELS, ids=str)
def test_logits_are_paddles(options, seeded_tensors, pixels):
    tensors, config = model_of(seeded_tensors, **options)
    images = reader.network_input(crops_for(config, pixels), preprocessing_of(config))
    wanted = paddle_logits(tensors, config, images)
    found = run(onnx_file.build(tensors, config).SerializeToString(), images)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * max(1, np.abs(wanted).max()))


@pytest.mark.parametrize('options', MODELS, ids=str)
def test_with_preprocessing_rgb_bytes_become_paddles_probabilities(options, seeded_tensors, pixels):
    tensors, config = model_of(seeded_tensors, **options)
    crops = crops_for(config, pixels)
    images = reader.network_input(crops, preprocessing_of(config))
    content = onnx_file.build(tensors, config, preprocessing=True).SerializeToString()
    found = run(content, np.ascontiguousarray(crops[..., ::-1]))
    np.testing.assert_allclose(found, softmax(paddle_logits(tensors, config, images)), atol=1e-5)


def test_batches_of_any_size_give_the_same(seeded_tensors, images):
    tensors, config = model_of(seeded_tensors)
    session = onnx_file.session(onnx_file.build(tensors, config).SerializeToString())
    five = session(np.concatenate([images, images, images[:1]]))
    np.testing.assert_allclose(five[4], session(images[:1])[0], rtol=1e-4, atol=1e-4)
    assert five.shape == (5, 10)


def test_names_are_caffes(seeded_tensors):
    from google.protobuf import text_format

    from caffe_format.proto import NetParameter

    tensors, config = model_of(seeded_tensors, '1.1', 'complex')
    nodes = {node.name for node in onnx_file.build(tensors, config).graph.node}
    net = text_format.Parse(
        deploy_prototxt(model_io.make_config('1.1', 'complex', 10)), NetParameter()
    )
    layers = {layer.name.decode() for layer in net.layer}
    assert len(layers) > 60
    assert layers - nodes == {'data', 'drop9', 'prob'}


def test_metadata_tell_classes_and_preprocessing(seeded_tensors):
    names = ['red brick', 'gräs', '砾石']
    tensors, config = model_of(seeded_tensors, class_num=3, class_names=names)
    model = onnx_file.build(tensors, config)
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(found['class_names']) == names
    assert json.loads(found['preprocessing']) == config['preprocessing']
    assert found['version'] == '1.1'


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path, seeded_tensors):
    tensors, config = model_of(seeded_tensors, class_num=3, class_names=['a', 'b', 'c'])
    model_io.write_model(tmp_path / 'model', tensors, config)
    return tmp_path / 'model'


def command(*arguments):
    return export.main([str(argument) for argument in arguments])


@pytest.mark.parametrize('option', [[], ['--preprocessing']])
def test_command_writes_and_compares(option, directory, tmp_path, capsys):
    output = tmp_path / 'deep' / 'my.onnx'
    assert command('--model', directory, '--to', 'onnx', '--output', output, *option) == 0
    printed = capsys.readouterr().out
    assert 'ONNX Runtime and Paddle agree' in printed
    assert f'{output.stat().st_size:,} bytes' in printed
    onnx.checker.check_model(onnx.load(output))


def dimensions(model):
    """The sizes of input and output; None where one is open."""
    return [
        [size.dim_value or None for size in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('option', [[], ['--preprocessing']])
def test_batch_fixes_the_number_of_pictures(batch, option, directory, tmp_path, capsys):
    output = tmp_path / 'my.onnx'
    arguments = ['--model', directory, '--to', 'onnx', '--output', output, *option]
    assert command(*arguments, '--batch', batch) == 0
    assert 'ONNX Runtime and Paddle agree' in capsys.readouterr().out
    picture = [batch, 227, 227, 3] if option else [batch, 3, 227, 227]
    assert dimensions(onnx.load(output)) == [picture, [batch, 3]]
    feed = np.zeros(picture, np.uint8 if option else np.float32)
    assert run(output.read_bytes(), feed).shape == (batch, 3)
    with pytest.raises(Exception, match='invalid dimensions'):
        run(output.read_bytes(), np.concatenate([feed, feed]))
    command(*arguments)
    assert dimensions(onnx.load(output)) == [[None, *picture[1:]], [None, 3]]


def test_resize_is_recorded(directory, tmp_path):
    output = tmp_path / 'my.onnx'
    command('--model', directory, '--to', 'onnx', '--output', output, '--resize', 'warp')
    found = {entry.key: entry.value for entry in onnx.load(output).metadata_props}
    assert json.loads(found['preprocessing'])['resize'] == 'warp'


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        (['--model', 'nowhere', '--to', 'onnx'], 'nowhere: No such file'),
        (['--to', 'onnx', '--image', 'nothing.jpg'], 'nothing.jpg'),
        (['--to', 'onnx_int8', '--calibrate', 'no.txt'], 'no.txt: No such file'),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(arguments, complaint, tmp_path, capsys):
    output = tmp_path / 'my.onnx'
    assert command('--output', output, *arguments) == 1
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count('\n') == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        (['--to', 'onnx_int8'], 'needs --calibrate'),
        (['--to', 'paddle', '--preprocessing'], '--preprocessing does not go with --to paddle'),
        (['--to', 'onnx', '--val_list', 'x'], '--val_list does not go with --to onnx'),
        (['--to', 'paddle', '--batch', '1'], '--batch does not go with --to paddle'),
        (['--to', 'onnx', '--batch', '0'], '--batch 0: must be 1 to 1024'),
        (['--to', 'page', '--pdmodel'], '--pdmodel does not go with --to page'),
    ],
)
def test_options_that_do_not_fit_are_refused(arguments, complaint, capsys):
    with pytest.raises(SystemExit):
        command('--output', 'x', *arguments)
    assert complaint in capsys.readouterr().err


def test_a_wrong_result_is_refused_and_not_written(directory, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(export, '_logits', lambda *_: np.full((1, 3), 7.0))
    output = tmp_path / 'my.onnx'
    assert command('--model', directory, '--to', 'onnx', '--output', output) == 1
    assert 'ONNX Runtime differs from Paddle by' in capsys.readouterr().err
    assert not output.exists()


# --- other programs, where they are installed -----------------------------------------------------


def test_openvino_reads_it(seeded_tensors, images, tmp_path):
    openvino = pytest.importorskip('openvino')
    tensors, config = model_of(seeded_tensors, bypass='simple')
    path = tmp_path / 'my.onnx'
    onnx.save(onnx_file.build(tensors, config), path)
    model = openvino.Core().compile_model(path, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    wanted = paddle_logits(tensors, config, images)
    np.testing.assert_allclose(model(images)[0], wanted, atol=1e-4 * np.abs(wanted).max())


def test_opencv_reads_it(seeded_tensors, images, tmp_path):
    import cv2

    tensors, config = model_of(seeded_tensors, bypass='complex', conv10_pad=1)
    onnx.save(onnx_file.build(tensors, config), tmp_path / 'my.onnx')
    network = cv2.dnn.readNetFromONNX(str(tmp_path / 'my.onnx'))
    network.setInput(images[:1])
    wanted = paddle_logits(tensors, config, images[:1])
    np.testing.assert_allclose(network.forward(), wanted, atol=1e-4 * np.abs(wanted).max())


def test_the_three_line_example_of_readme(directory, tmp_path):
    """RGB bytes to probabilities with ONNX Runtime alone, as README shows it."""
    import onnxruntime

    output = tmp_path / 'my.onnx'
    command('--model', directory, '--to', 'onnx', '--output', output, '--preprocessing')
    session = onnxruntime.InferenceSession(output, providers=['CPUExecutionProvider'])
    pixels = reader.preprocess(CAT, Preprocessing())[None, ..., ::-1]
    (probabilities,) = session.run(['prob'], {'picture': pixels})
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    names = json.loads(session.get_modelmeta().custom_metadata_map['class_names'])
    assert names == ['a', 'b', 'c']


PNNX = importlib.util.find_spec('pnnx')  # not imported, since it would import torch


@pytest.mark.skipif(PNNX is None, reason='pnnx is not installed')
def test_ncnn_reads_it_by_its_converter(seeded_tensors, images, tmp_path):
    ncnn = pytest.importorskip('ncnn')
    tensors, config = model_of(seeded_tensors, '1.0', 'complex', conv10_pad=1)
    onnx.save(onnx_file.build(tensors, config), tmp_path / 'my.onnx')
    program = Path(PNNX.submodule_search_locations[0]) / 'pnnx'
    command = [program, 'my.onnx', 'inputshape=[1,3,227,227]', 'fp16=0']
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    network = ncnn.Net()
    network.opt.use_fp16_packed = network.opt.use_fp16_storage = False
    network.load_param(str(tmp_path / 'my.ncnn.param'))
    network.load_model(str(tmp_path / 'my.ncnn.bin'))
    extractor = network.create_extractor()
    extractor.input('in0', ncnn.Mat(images[0]).clone())
    wanted = paddle_logits(tensors, config, images[:1])[0]
    found = np.array(extractor.extract('out0')[1])
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())
