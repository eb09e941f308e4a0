"""The converter run in this process, and models for it."""

import numpy as np

import caffe2paddle
from models import model_io
from network import architecture


def run(*arguments):
    """The command in this process: its exit status."""
    return caffe2paddle.main([str(argument) for argument in arguments])


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
    config = model_io.make_config(version, bypass, class_num, conv10_pad)
    model_io.write_model(directory, he_tensors(version, bypass, class_num), config)
    return directory


def change_weight(directory, name):
    tensors, config = model_io.read_model(directory)
    value = tensors[name].copy()
    value.flat[0] += 10 * np.abs(value).max()  # enough to get through the ReLU
    model_io.write_model(directory, {**tensors, name: value}, config)
