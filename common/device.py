"""The device that everything runs on, chosen once."""

from typing import NamedTuple

import paddle

from common.console import UserError


class Device(NamedTuple):
    """`name` is Paddle's: 'cpu' or 'gpu'; `backend` connects several processes on it."""

    name: str
    backend: str

    @property
    def is_gpu(self):
        return self.name == 'gpu'


CPU, GPU = Device('cpu', 'gloo'), Device('gpu', 'nccl')


def choose_device(name='auto'):
    """The Device that `name` ('auto', 'cpu', 'gpu') means here; Paddle is told. UserError."""
    has_gpu = paddle.device.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
    if name == 'gpu' and not has_gpu:
        raise UserError(
            '--device gpu: this PaddlePaddle finds no GPU; install its GPU package and a driver, '
            'or use --device cpu'
        )
    device = GPU if has_gpu and name != 'cpu' else CPU
    paddle.set_device(device.name)
    if device.is_gpu:  # the same bits in every run, which an exact resume needs
        paddle.set_flags({'FLAGS_cudnn_deterministic': True})
    return device
