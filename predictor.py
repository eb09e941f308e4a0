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
from paddle import inference

import parameters

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
        output = network(images) if upto is None else network.features(images, upto)
        for name, parameter in network.named_parameters():  # start_up, which would, never runs
            scope.var(parameter.name).get_tensor().set(tensors[name], cpu)
        executor = paddle.static.Executor(cpu)
        paddle.static.save_inference_model(prefix, [images], [output], executor, program=program)


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
