"""Paddle Inference's directory: read back by Paddle alone, in both of its forms."""

import json

import numpy as np
import paddle
import pytest
from conftest import GOLDEN, ROOT
from paddle import inference

import export
from models import model_io
from network.preprocessing import Preprocessing

CAT = GOLDEN / 'cat_227.png'


@pytest.fixture
def model(tmp_path, seeded_tensors):
    """(parameter directory, tensors, config) of a network with bypasses and an input of 131."""
    wanted = Preprocessing(crop=131, scale=0.5, channel_order='RGB')
    config = model_io.make_config('1.0', 'complex', 10, conv10_pad=1, preprocessing=wanted)
    config['class_names'] = [f'class {number}' for number in range(10)]
    tensors = seeded_tensors('1.0', 'complex', 10)
    model_io.write_model(tmp_path / 'model', tensors, config)
    return tmp_path / 'model', tensors, config


def test_directory_gives_paddles_logits(model, tmp_path, images, capsys):
    directory, tensors, config = model
    output = tmp_path / 'inference'
    arguments = ['--model', directory, '--to', 'paddle', '--output', output]
    assert export.main([str(argument) for argument in arguments]) == 0
    assert 'Paddle Inference and Paddle agree' in capsys.readouterr().out
    names = {path.name for path in output.iterdir()}
    assert names == {'inference.json', 'inference.pdiparams', 'config.json'}
    assert json.loads((output / 'config.json').read_text())['class_names'][9] == 'class 9'

    predictor = inference.create_predictor(
        inference.Config(str(output / 'inference.json'), str(output / 'inference.pdiparams'))
    )
    crops = np.ascontiguousarray(images[..., :131, :131])
    predictor.get_input_handle('images').copy_from_cpu(crops)
    predictor.run()
    found = predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()
    network = model_io.build_network(tensors, config)
    network.eval()
    wanted = network(paddle.to_tensor(crops)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize('by_flag', [True, False])
def test_the_older_form(by_flag, model, tmp_path, run_script, monkeypatch):
    directory, _, _ = model
    if not by_flag:
        monkeypatch.setenv('FLAGS_enable_pir_api', '0')
    option = ['--pdmodel'] if by_flag else []
    output = tmp_path / 'inference'
    done = run_script(
        'export.py', '--model', directory, '--to', 'paddle', '--output', output, *option
    )
    assert done.returncode == 0, done.stderr
    assert 'Paddle Inference and Paddle agree' in done.stdout
    names = {path.name for path in output.iterdir()}
    assert names == {'inference.pdmodel', 'inference.pdiparams', 'config.json'}


def test_infer_follows_paddles_flag(run_script, monkeypatch):
    monkeypatch.setenv('FLAGS_enable_pir_api', '0')
    weights = ROOT / 'data' / 'squeezenet_v1.1.caffemodel'
    done = run_script('infer.py', '--model', weights, ROOT / 'data' / 'photos' / 'cat.jpg')
    assert done.returncode == 0, done.stderr
    assert '52.50%  Egyptian cat' in done.stdout
