"""The network on Paddle Inference: what evaluation and frozen features run on, far faster on a CPU
than dygraph. Two habits make it so: batches of 4, whose results stay in the cache, and one thread a
process, since `run` keeps Python's lock and convolutions of one thread lose nothing to waiting.
"""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import inference

from models import parameters
from network import architecture

BATCH = 4  # pictures


@contextmanager
def exported(tensors, config, upto=None):
    """A temporary file prefix for `Predictor`, of the network with these parameters.

    `upto` (a layer's name) makes a network that ends there, at features instead of logits. The
    program is built in static mode, which takes 0.05 s; paddle.jit.save takes five times that.
    """
    with tempfile.TemporaryDirectory(prefix='squeezenet-') as folder:
        prefix = str(Path(folder) / 'network')
        dynamic = paddle.in_dynamic_mode()
        paddle.enable_static()
        try:
            _save_program(tensors, config, upto, prefix)
        finally:
            if dynamic:
                paddle.disable_static()
        yield prefix


def _save_program(tensors, config, upto, prefix):
    program, start_up = paddle.static.Program(), paddle.static.Program()
    scope, cpu = paddle.base.core.Scope(), paddle.CPUPlace()
    with (
        paddle.static.program_guard(program, start_up),
        paddle.static.scope_guard(scope),
        paddle.utils.unique_name.guard(),
    ):
        images = paddle.static.data('images', [None, 3, 227, 227], 'float32')
        network = parameters.empty_network(config)
        network.eval()
        output = _forward(network, images, upto)
        for name, parameter in network.named_parameters():  # start_up, which would, never runs
            scope.var(parameter.name).get_tensor().set(tensors[name], cpu)
        executor = paddle.static.Executor(cpu)
        paddle.static.save_inference_model(prefix, [images], [output], executor, program=program)


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
    """float32 pictures [N, 3, 227, 227] -> float32 logits [N, class_num], or features.

    `prefix` is what `exported` gave. Each process makes its own on its first call: what one process
    loaded, its forked children could not use.
    """

    def __init__(self, prefix, threads=1):
        self.prefix, self.threads, self.process = prefix, threads, None

    def __call__(self, images):
        if self.process != os.getpid():
            self._load()
        self._input.copy_from_cpu(np.ascontiguousarray(images))
        self._predictor.run()
        return self._output.copy_to_cpu()

    def _load(self):
        config = inference.Config(f'{self.prefix}.json', f'{self.prefix}.pdiparams')
        config.disable_gpu()
        config.disable_glog_info()
        config.enable_mkldnn()
        config.set_cpu_math_library_num_threads(self.threads)
        self._predictor = inference.create_predictor(config)
        self._input = self._predictor.get_input_handle(self._predictor.get_input_names()[0])
        self._output = self._predictor.get_output_handle(self._predictor.get_output_names()[0])
        self.process = os.getpid()
