"""Several processes that train one network, and how they start, agree, stop and fail together.

`--trainer N` starts N of them here; `python -m paddle.distributed.launch` starts them on one or
more machines and sets PADDLE_TRAINERS_NUM. Paddle's gloo connects CPUs, its NCCL GPUs.
"""

import contextlib
import io
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from multiprocessing.connection import wait

import numpy as np
import paddle
import paddle.distributed as dist

from common.console import UserError, answer_signal, explain, printable
from common.cores import usable_cores
from common.device import count_gpus

STUCK_SECONDS = 1800.0  # longer than any evaluation or reading between two meetings
GRACE_SECONDS = 3  # between asking a process to end and ending it


class StopRequest:
    """Remembers Ctrl-C and SIGTERM, so that the loop can save before it ends.

    The second signal interrupts at once; the checkpoints that are on the disk stay good. A trainer
    whose parent has died stops, too.
    """

    def __init__(self):
        self.signal = None
        self.parent = multiprocessing.parent_process()
        for number in (signal.SIGINT, signal.SIGTERM):
            answer_signal(number, self._remember)

    def _remember(self, number, _frame):
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number

    def __bool__(self):
        orphaned = self.parent is not None and not self.parent.is_alive()
        return self.signal is not None or orphaned


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
        raise UserError(
            f'lost the connection to another training process ({reason}); --resume continues'
        ) from None


def run_trainers(function, arguments, count, backend):
    """Run `function(*arguments)` in `count` processes; returns the exit status of the group.

    Ctrl-C and SIGTERM are passed on once. When a process fails, the others are ended within
    GRACE_SECONDS and UserError says why.
    """
    messages, sender = multiprocessing.Pipe(duplex=False)  # nothing named that a kill would leave
    with warnings.catch_warnings():  # that gloo means CPU is what was asked for
        warnings.simplefilter('ignore')
        logging.disable(logging.INFO)
        context = dist.spawn(
            _trainer, (function, arguments, sender), nprocs=count, join=False, backend=backend
        )
        logging.disable(logging.NOTSET)
    return _watch(context.processes, messages)


def _trainer(function, arguments, sender):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C comes through the parent
    paddle.disable_signal_handler()  # it would write C++ traces where SIGTERM ends a process
    try:
        status = function(*arguments)
    except (UserError, OSError, MemoryError) as error:
        sender.send(printable(explain(error)))  # short enough to be one write
        status = 1
    except Exception:
        traceback.print_exc()  # Paddle's spawn would swallow it
        status = 1
    raise SystemExit(status)


def _watch(processes, messages):
    received = []
    for number in (signal.SIGINT, signal.SIGTERM):
        answer_signal(number, lambda signum, _: received.append(signum))
    passed_on = 0
    while running := [process for process in processes if process.is_alive()]:
        wait([process.sentinel for process in running], timeout=0.2)
        for _ in received[passed_on:]:
            _signal_all(running, signal.SIGTERM)
        passed_on = len(received)
        failed = [rank for rank, process in enumerate(processes) if process.exitcode not in _FINE]
        if failed:
            reason = _reason(processes, failed, messages)
            _end(processes)
            if received and any(processes[rank].exitcode == -signal.SIGTERM for rank in failed):
                # the signal came while they were meeting: before there was anything to save
                print('stopped before the first iteration of this start; nothing is lost')
                break
            raise UserError(reason)
    return 128 + received[0] if received else max(process.exitcode for process in processes)


# What a trainer exits with when all is well, or while it runs, or when it was asked to stop.
_FINE = (0, None, 128 + signal.SIGINT, 128 + signal.SIGTERM)


def _reason(processes, failed, messages):
    codes = {rank: processes[rank].exitcode for rank in failed}
    for rank, code in codes.items():
        if code < 0:  # the others then complain of a lost connection, which is no news
            name = signal.Signals(-code).name
            return f'training process {rank} was killed ({name}); --resume continues the run'
    if messages.poll():
        return messages.recv()
    return f'training process {failed[0]} failed with exit status {codes[failed[0]]}'


def _signal_all(processes, number):
    for process in processes:
        if process.is_alive():
            os.kill(process.pid, number)


def _end(processes):
    _signal_all(processes, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while any(process.is_alive() for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    _signal_all(processes, signal.SIGKILL)
    for process in processes:
        process.join()
