"""Several processes that train one network: how many they are, and how they meet and agree.

`--trainer N` starts N of them here, see trainers.py; `python -m paddle.distributed.launch` starts
them on one or more machines and sets PADDLE_TRAINERS_NUM. Paddle's gloo connects CPUs, NCCL GPUs.
"""

import contextlib
import io
import os
import sys
import threading
import time

import numpy as np
import paddle
import paddle.distributed as dist

from common.console import UserError
from common.cores import usable_cores
from common.device import count_gpus

STUCK_SECONDS = 1800.0  # longer than any evaluation or reading between two meetings


def count_trainers(wanted, device):
    """How many processes --trainer `wanted` (a number, or 'auto') means on this machine.

    'auto': one a GPU, or two on a CPU of several cores. Raises UserError for more than there are
    GPUs, since each needs one of its own.
    """
    if launched():
        return 1
    gpus = count_gpus() if device.is_gpu else 0
    if wanted == 'auto':
        return gpus or min(2, usable_cores())
    if gpus and wanted > gpus:
        raise UserError(
            f'--trainer {wanted}: this machine shows {gpus} GPU{"s" * (gpus > 1)}, and each '
            f'process needs one of its own; use --trainer {gpus}, or --device cpu'
        )
    return wanted


def launched():
    """Whether paddle.distributed.launch started this process as one of several."""
    return int(os.environ.get('PADDLE_TRAINERS_NUM', '1')) > 1


def first():
    """Whether this process is the only one yet, or rank 0 of those that were launched."""
    return os.environ.get('PADDLE_TRAINER_ID', '0') == '0'


def join_group(device):
    """Meet the other processes; returns (rank, world)."""
    if launched():  # the processes of --trainer, too, find PADDLE_TRAINERS_NUM set
        # Left to itself, a GPU build of Paddle takes the GPU, whatever device was chosen.
        os.environ['PADDLE_DISTRI_BACKEND'] = device.backend
        with contextlib.redirect_stderr(io.StringIO()):  # it lists its own flags there
            dist.init_parallel_env()
        if device.is_gpu:
            _heart.watch()
    return dist.get_rank(), dist.get_world_size()


class Watchdog:
    """Ends this process when the group has not met for STUCK_SECONDS.

    gloo notices a lost peer by itself; NCCL may wait for it for ever, inside a call that no signal
    interrupts.
    """

    def __init__(self, clock=time.monotonic, end=os._exit):
        self.clock, self.end, self.last = clock, end, clock()

    def beat(self):
        self.last = self.clock()

    def watch(self):
        self.beat()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self):
        while self.clock() - self.last < STUCK_SECONDS:
            time.sleep(min(1.0, STUCK_SECONDS / 10))
        print(
            f'the training processes have not met for {STUCK_SECONDS:.0f} s; one is probably lost; '
            '--resume continues',
            file=sys.stderr,
            flush=True,
        )
        self.end(1)


_heart = Watchdog()


class LostConnection(UserError):
    """Another process of the group has ended, or does not answer."""


def mean_over_group(vector):
    """The mean of every process's float32 Tensor `vector`, the same bits in each."""
    _heart.beat()
    if dist.get_world_size() > 1:
        with _connection():
            dist.all_reduce(vector)
        vector = vector / dist.get_world_size()
    return vector


def broadcast_arrays(arrays):
    """{name: float32 array} of rank 0, in every process."""
    if dist.get_world_size() == 1:
        return arrays
    received = {}
    for name, value in arrays.items():
        tensor = paddle.to_tensor(value)
        with _connection():
            dist.broadcast(tensor, 0)
        received[name] = tensor.numpy()
    return received


def broadcast_text(text):
    """The string of rank 0, in every process."""
    if dist.get_world_size() == 1:
        return text
    content = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
    count = paddle.to_tensor([len(content)])
    with _connection():
        dist.broadcast(count, 0)
        mine = content if dist.get_rank() == 0 else np.zeros(count.item(), np.int32)
        tensor = paddle.to_tensor(mine)
        dist.broadcast(tensor, 0)
    return tensor.numpy().astype(np.uint8).tobytes().decode()


@contextlib.contextmanager
def _connection():
    try:
        yield
    except (RuntimeError, OSError) as error:  # gloo's and NCCL's
        reason = str(error).strip().splitlines()[-1]  # connection reset by peer, say
        raise LostConnection(
            f'lost the connection to another training process ({reason}); --resume continues'
        ) from None
