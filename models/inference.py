"""The network on Paddle Inference: what evaluation and frozen features run on, far faster on a CPU
than dygraph. Two habits make it so: batches of 4, whose results stay in the cache, and one thread a
process, since `run` keeps Python's lock and convolutions of one thread lose nothing to waiting.
"""

import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import inference

from common.console import UserError
from models import parameters
from network import architecture
from network.preprocessing import preprocessing_of

BATCH = 4  # pictures


class Program(NamedTuple):
    """A network as Paddle Inference takes it: the bytes of its two files."""

    network: bytes
    parameters: bytes


def build_program(tensors, config, upto=None):
    """The Program of the network that `config` describes, with the parameters `tensors`.

    `upto` (a layer's name) makes a network that ends there, at features instead of logits. The
    program is built in static mode, which takes 0.05 s; paddle.jit.save takes five times that.
    Raises UserError where the temporary folder has no room for it.
    """
    dynamic = paddle.in_dynamic_mode()
    paddle.enable_static()
    try:
        with tempfile.TemporaryDirectory(prefix='squeezenet-') as folder:
            prefix = Path(folder) / 'network'
            last = _save_program(tensors, config, upto, str(prefix))
            network = prefix.with_suffix('.json').read_bytes()
            content = prefix.with_suffix('.pdiparams').read_bytes()
    finally:
        if dynamic:
            paddle.disable_static()
    # Paddle neither tells when the disk is full nor notices, on reading, that the end is missing.
    if not (network.endswith(b'}') and content.endswith(last.tobytes())):
        raise UserError(f'{tempfile.gettempdir()}: has no room for a network of 5 MB')
    return Program(network, content)


def _save_program(tensors, config, upto, prefix):
    """Returns the array that ends the parameters' file: they are sorted by Paddle's names."""
    program, start_up = paddle.static.Program(), paddle.static.Program()
    scope, cpu = paddle.base.core.Scope(), paddle.CPUPlace()
    size = preprocessing_of(config).crop
    with (
        paddle.static.program_guard(program, start_up),
        paddle.static.scope_guard(scope),
        paddle.utils.unique_name.guard(),
    ):
        images = paddle.static.data('images', [None, 3, size, size], 'float32')
        network = parameters.empty_network(config)
        network.eval()
        output = _forward(network, images, upto)
        arrays = {}
        layers = [row.name for row in network.stages]
        layers = layers[: layers.index(upto or 'conv10') + 1]
        for name, parameter in network.named_parameters():  # start_up, which would, never runs
            if name.split('.')[0] in layers:
                scope.var(parameter.name).get_tensor().set(tensors[name], cpu)
                arrays[parameter.name] = tensors[name]
        executor = paddle.static.Executor(cpu)
        paddle.static.save_inference_model(prefix, [images], [output], executor, program=program)
    return arrays[max(arrays)]


def _forward(network, images, upto):
    """What network(images), or network.features(images, upto), computes, without most concats.

    A squeeze layer takes the two expands of the module before it apart, since
    squeeze(concat(a, b)) = squeeze_a(a) + squeeze_b(b). The concats are 12 % of the time.
    """
    parts = [images]  # their concat is the current blob
    for row in network.stages:
        layer = getattr(network, row.name)
        if isinstance(row, architecture.MaxPool):
            parts = [layer(part) for part in parts]
        elif isinstance(row, architecture.Fire) and row.bypass is None:
            squeezed = _squeeze(layer.squeeze1x1, parts)
            parts = [layer.expand1x1(squeezed), layer.expand3x3(squeezed)]
        else:
            parts = [layer(_whole(parts))]
        if row.name == upto:
            return _whole(parts)
    return network.average(parts[0])


def _whole(parts):
    return parts[0] if len(parts) == 1 else paddle.concat(parts, axis=1)


def _squeeze(layer, parts):
    if len(parts) == 1:
        return layer(parts[0])
    first, second = parts
    channels = first.shape[1]
    x = F.conv2d(first, layer.weight[:, :channels])  # Paddle Inference slices once, when it loads
    return F.relu(x + F.conv2d(second, layer.weight[:, channels:], layer.bias))


class Predictor:
    """float32 pictures [N, 3, crop, crop] -> float32 logits [N, class_num], or features.

    Each process makes its own on its first call: what one process loaded, its forked children could
    not use.
    """

    def __init__(self, program, threads=1):
        self.program, self.threads, self.process = program, threads, None

    def __call__(self, images):
        if self.process != os.getpid():
            self._load()
        self._input.copy_from_cpu(np.ascontiguousarray(images))
        self._predictor.run()
        return self._output.copy_to_cpu()

    def __getstate__(self):
        return {'program': self.program, 'threads': self.threads, 'process': None}

    def _load(self):
        with tempfile.TemporaryDirectory(prefix='squeezenet-') as folder:
            files = Path(folder) / 'network.json', Path(folder) / 'network.pdiparams'
            for file, content in zip(files, self.program):
                file.write_bytes(content)
            config = inference.Config(*map(str, files))
            config.disable_gpu()
            config.disable_glog_info()
            config.enable_mkldnn()
            config.set_cpu_math_library_num_threads(self.threads)
            self._predictor = inference.create_predictor(config)
        self._input = self._predictor.get_input_handle(self._predictor.get_input_names()[0])
        self._output = self._predictor.get_output_handle(self._predictor.get_output_names()[0])
        self.process = os.getpid()
