"""The device that everything runs on, chosen once."""

import importlib.metadata
import os
import sys
from typing import NamedTuple

import paddle

from common.console import UserError

paddle.disable_signal_handler()  # it writes C++ traces where a signal ends the process


class Device(NamedTuple):
    """`name` is Paddle's: 'cpu' or 'gpu'; `backend` connects several processes on it."""

    name: str
    backend: str

    @property
    def is_gpu(self):
        return self.name == 'gpu'

    def __str__(self):
        return paddle.device.cuda.get_device_name() if self.is_gpu else 'CPU'


CPU, GPU = Device('cpu', 'gloo'), Device('gpu', 'nccl')


def count_gpus():
    """GPUs that this PaddlePaddle can use."""
    return paddle.device.cuda.device_count() if paddle.device.is_compiled_with_cuda() else 0


def choose_device(name='auto', tf32=False):
    """The Device that `name` ('auto', 'cpu', 'gpu') means here; Paddle is told. UserError.

    `tf32` lets a GPU round float32 to 10 bits in convolutions, which cuDNN does unless it is told
    not to; then 1e-4 is out of reach.
    """
    if name == 'gpu' and not count_gpus():
        raise UserError(
            '--device gpu: this PaddlePaddle finds no GPU; install its GPU package and a driver, '
            'or use --device cpu'
        )
    _remark_two_paddles()
    device = GPU if count_gpus() and name != 'cpu' else CPU
    if device.is_gpu:
        _allow_tf32(tf32)
        # The same bits in every run, which an exact resume needs.
        paddle.set_flags({'FLAGS_cudnn_deterministic': True})
    paddle.set_device(device.name)
    return device


def _allow_tf32(allowed):
    try:
        paddle.set_flags({'FLAGS_cudnn_allow_tf32': allowed, 'FLAGS_cublas_allow_tf32': allowed})
    except ValueError:  # Paddle before these flags: NVIDIA's libraries read this when they load
        if not allowed:
            os.environ['NVIDIA_TF32_OVERRIDE'] = '0'


def _remark_two_paddles():
    try:
        for name in ('paddlepaddle', 'paddlepaddle-gpu'):
            importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return
    print(
        'paddlepaddle and paddlepaddle-gpu are both installed, and overwrite each other: '
        'uninstall both with pip, then install the one that you want',
        file=sys.stderr,
    )
