"""The network on Paddle Inference: what evaluation and frozen features run on, far faster on a CPU
than dygraph. Two habits make it so: batches of 4 (cpu_network.BATCH), and one thread a process,
since `run` keeps Python's lock and convolutions of one thread lose nothing to waiting.
"""

import functools
import os
import re
import shutil
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import inference

from common.console import UserError
from common.forking import never_free, renew_in_children
from models import model_io
from network import architecture
from network.preprocessing import preprocessing_of

BUILT_FROM = 'version', 'bypass', 'class_num', 'conv10_pad', 'conv10_relu'  # of a configuration
LONGEST_HEADER = 100  # bytes, of a tensor in Paddle's file
LEFT_BEHIND = re.compile(r'squeezenet-(\d+)-\w+')


class Program(NamedTuple):
    """A network as Paddle Inference takes it: the bytes of its two files."""

    network: bytes
    parameters: bytes


class _Frame(NamedTuple):
    """A Program without its tensors: pairs of what stands before one in the file and its name."""

    network: bytes
    headers: list
    size: int  # bytes of the parameters' file


def program_suffix():
    """'.json' (PIR), or '.pdmodel' where Paddle was started with FLAGS_enable_pir_api=0."""
    flag = 'FLAGS_enable_pir_api'
    return '.json' if paddle.get_flags(flag)[flag] else '.pdmodel'


def build_program(tensors, config, end_layer=None):
    """The Program of the network that `config` describes, with the parameters `tensors`.

    `end_layer` (a layer's name) makes a network that ends there, at features instead of logits.
    Raises UserError where Paddle cannot write it, ValueError for tensors of other sizes.
    """
    built_from = tuple(config[name] for name in BUILT_FROM)
    frame = _frame(built_from, preprocessing_of(config).crop, end_layer)
    content = b''.join(
        header + np.asarray(tensors[name], np.float32).tobytes() for header, name in frame.headers
    )
    if len(content) != frame.size:  # which Paddle would compute nonsense of
        raise ValueError('the tensors are not those of the configuration')
    return Program(frame.network, content)


@functools.lru_cache(maxsize=8)  # Paddle never frees what it builds a network of
def _frame(built_from, size, end_layer):
    """The _Frame of a network, built in static mode: paddle.jit.save takes five times as long."""
    dynamic = paddle.in_dynamic_mode()
    paddle.enable_static()
    try:
        with _files() as files:
            arrays = _save_network(dict(zip(BUILT_FROM, built_from)), size, end_layer, files[0])
            network, content = (file.read_bytes() for file in files)
    finally:
        if dynamic:
            paddle.disable_static()
    return _Frame(network, _take_out(arrays, content), len(content))


def _save_network(config, size, end_layer, path):
    """Write network and parameters as Paddle does; returns [(our name, array)] in their order."""
    program, start_up = paddle.static.Program(), paddle.static.Program()
    scope, cpu = paddle.base.core.Scope(), paddle.CPUPlace()
    with (
        paddle.static.program_guard(program, start_up),
        paddle.static.scope_guard(scope),
        paddle.utils.unique_name.guard(),
    ):
        images = paddle.static.data('images', [None, 3, size, size], 'float32')
        network = model_io.empty_network(config)
        network.eval()
        output = _forward(network, images, end_layer)
        arrays = {}
        layers = [row.name for row in network.stages]
        layers = layers[: layers.index(end_layer or 'conv10') + 1]
        for name, parameter in network.named_parameters():  # start_up, which would, never runs
            if name.split('.')[0] in layers:
                count = np.arange(1, np.prod(parameter.shape) + 1, dtype=np.float32)
                arrays[parameter.name] = name, count.reshape(parameter.shape)
                scope.var(parameter.name).get_tensor().set(arrays[parameter.name][1], cpu)
        executor = paddle.static.Executor(cpu)
        prefix = str(path.with_suffix(''))
        paddle.static.save_inference_model(prefix, [images], [output], executor, program=program)
        scope.erase(list(arrays))
    return [arrays[name] for name in sorted(arrays)]


def _take_out(arrays, content):
    """[(what stands before it, name)] of the arrays in Paddle's parameter file.

    It is looked for rather than known, so that a file of another form, or one that Paddle did not
    write to its end, is found out. Raises UserError.
    """
    headers, start = [], 0
    for name, array in arrays:
        place = content.find(array.tobytes(), start)
        if not start <= place <= start + LONGEST_HEADER:
            break
        headers.append((content[start:place], name))
        start = place + array.nbytes
    if len(headers) < len(arrays) or start != len(content):
        raise UserError(
            f'{tempfile.gettempdir()}: PaddlePaddle {paddle.__version__} did not write the network '
            'as expected; is there memory left?'
        )
    return headers


@contextmanager
def _files(network=b'', content=b''):
    """Paths of a network's two files with these contents, in memory where the system has that.

    Paddle takes a network from files alone, and notices neither on writing that the disk is full
    nor on reading that the end is missing. So only links lie in the temporary folder.
    """
    _clear_folders_of_the_dead()
    with (
        tempfile.TemporaryDirectory(prefix=f'squeezenet-{os.getpid()}-') as folder,
        ExitStack() as memory,
    ):
        names = f'network{program_suffix()}', 'network.pdiparams'
        paths = [Path(folder) / name for name in names]
        for path, held in zip(paths, (network, content)):
            if hasattr(os, 'memfd_create'):  # Linux
                file = memory.enter_context(open(os.memfd_create(path.name), 'wb'))
                path.symlink_to(f'/proc/self/fd/{file.fileno()}')
                file.write(held)
                file.flush()
            else:
                path.write_bytes(held)
        yield paths


def _clear_folders_of_the_dead():
    """Delete what a killed process left in the temporary folder, if it was one of this user's."""
    for folder in Path(tempfile.gettempdir()).glob('squeezenet-*'):
        with suppress(OSError):
            match, found = LEFT_BEHIND.fullmatch(folder.name), folder.lstat()
            minute_old = time.time() - found.st_mtime > 60
            mine = not hasattr(os, 'getuid') or found.st_uid == os.getuid()
            if match and minute_old and mine and not _lives(int(match[1])):
                shutil.rmtree(folder, ignore_errors=True)


def _lives(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _forward(network, images, end_layer):
    """What network(images), or network.features(images, end_layer), computes, without most concats.

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
        if row.name == end_layer:
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

    Each process loads it on its first call, a forked child, too: what its parent loaded has threads
    that are not the child's. `precision` 'bfloat16' computes with fewer digits where the processor
    can.
    """

    def __init__(self, program, threads=1, precision='float32'):
        self.program, self.threads, self.precision = program, threads, precision
        self._loaded = None
        renew_in_children(self)

    def __call__(self, images):
        if self._loaded is None:
            self._loaded = self._load()
        predictor, input_, output = self._loaded
        input_.copy_from_cpu(np.ascontiguousarray(images))
        predictor.run()
        return output.copy_to_cpu()

    def __reduce__(self):
        return Predictor, (self.program, self.threads, self.precision)

    def renew(self):
        """What a forked child does: its first call loads the network once more."""
        never_free(self._loaded)
        self._loaded = None

    def _load(self):
        with _files(*self.program) as files:
            config = inference.Config(*map(str, files))
            config.disable_gpu()
            config.disable_glog_info()
            config.enable_mkldnn()
            if self.precision == 'bfloat16':
                config.enable_mkldnn_bfloat16()
            config.set_cpu_math_library_num_threads(self.threads)
            predictor = inference.create_predictor(config)
        input_ = predictor.get_input_handle(predictor.get_input_names()[0])
        return predictor, input_, predictor.get_output_handle(predictor.get_output_names()[0])
