"""The processes of `--trainer N` on this machine: how they start, stop and fail together.

They are children of the command, which passes its signals on, and end with it. Nothing that has a
name on the system is shared, so that a kill leaves nothing behind.
"""

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import common.paddle_start  # noqa: F401 - before Paddle, which `function` imports

from common.console import UserError, explain, printable
from common.signals import StopRequest, end_on_signals, signals_blocked, unblock_signals
from training.distributed import LostConnection

GRACE_SECONDS = 3  # between asking a process to end and ending it
ORPHAN_SECONDS = 30  # the same, where the command was killed: its trainers save first
# What a trainer exits with when all is well, or while it runs, or when it was asked to stop.
FINE = (0, None, 128 + signal.SIGTERM)


def run_trainers(function: Callable, arguments: tuple, count: int, backend: str) -> int:
    """Run `function(*arguments)` in `count` processes; returns the exit status of the group.

    Ctrl-C, SIGTERM and SIGHUP are passed on once; later ones end the processes. When a process
    fails, the others are ended within GRACE_SECONDS and UserError says why.
    """
    if backend == 'gloo' and sys.platform != 'linux':
        raise UserError('--trainer: several processes on a CPU need Linux; use --trainer 1')
    messages, sender = multiprocessing.Pipe(duplex=False)
    insisted = []
    stop = StopRequest(again=insisted.append)
    processes = []
    try:
        _start((function, arguments, sender), count, backend, processes)
        return _watch(processes, messages, stop, insisted)
    finally:
        _end(processes)


def _start(arguments: tuple, count: int, backend: str, processes: list[BaseProcess]) -> None:
    """Start the processes and add them to the list."""
    context = multiprocessing.get_context('spawn')
    resource_tracker.ensure_running()  # or else start() does, and lets waiting signals through
    addresses = _free_addresses(count)
    for rank in range(count):
        process = context.Process(target=_trainer, args=arguments)
        with _environment(_place(rank, addresses, backend)), signals_blocked():
            process.start()
            processes.append(process)


def _free_addresses(count: int) -> list[str]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(('127.0.0.1', 0))
        return [f'127.0.0.1:{listener.getsockname()[1]}' for listener in sockets]


def _place(rank: int, addresses: list[str], backend: str) -> dict[str, str]:
    """What paddle.distributed.launch tells its processes, too."""
    place = {
        'PADDLE_TRAINER_ID': str(rank),
        'PADDLE_TRAINERS_NUM': str(len(addresses)),
        'PADDLE_CURRENT_ENDPOINT': addresses[rank],
        'PADDLE_TRAINER_ENDPOINTS': ','.join(addresses),
    }
    return {**place, 'FLAGS_selected_gpus': str(rank)} if backend == 'nccl' else place


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables, for processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _trainer(function: Callable, arguments: tuple, sender: Connection) -> None:
    for name in ('SIGINT', 'SIGHUP'):  # the terminal's come through the parent
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    end_on_signals()  # until `function` answers them
    unblock_signals()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        status = function(*arguments)
    except (UserError, OSError, MemoryError) as error:  # short enough to be one write
        sender.send((isinstance(error, LostConnection), printable(explain(error))))
        status = 1
    except KeyboardInterrupt:  # StopRequest's answer to a second signal
        status = 128 + signal.SIGTERM
    except Exception:
        traceback.print_exc()
        status = 1
    raise SystemExit(status)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_SECONDS)
    os._exit(1)


def _watch(
    processes: list[BaseProcess], messages: Connection, stop: StopRequest, insisted: list[int]
) -> int:
    asked = False
    while running := [process for process in processes if process.is_alive()]:
        wait([process.sentinel for process in running], timeout=0.2)
        if stop and not asked:
            _signal_all(running, signal.SIGTERM)
            asked = True
        if insisted:
            _signal_all(running, signal.SIGKILL)
            break
        failed = [rank for rank, process in enumerate(processes) if process.exitcode not in FINE]
        if failed:
            lost, reason = _reason(processes, failed, messages)
            if stop and lost:  # the others had ended, as they were asked to
                break
            raise UserError(reason)
    return 128 + stop.signal if stop else max(process.exitcode for process in processes)


def _reason(
    processes: list[BaseProcess], failed: list[int], messages: Connection
) -> tuple[bool, str]:
    """(whether it was a lost connection alone, the words) of why the group has failed."""
    codes = {rank: processes[rank].exitcode for rank in failed}
    for rank, code in codes.items():
        if code < 0:  # the others then complain of a lost connection, which is no news
            name = signal.Signals(-code).name
            return False, f'training process {rank} was killed ({name}); --resume continues the run'
    words = []
    while messages.poll():
        words.append(messages.recv())
    if words:
        return min(words, key=lambda word: word[0])
    return False, f'training process {failed[0]} failed with exit status {codes[failed[0]]}'


def _signal_all(processes: list[BaseProcess], number: int) -> None:
    for process in processes:
        if process.is_alive():
            os.kill(process.pid, number)


def _end(processes: list[BaseProcess]) -> None:
    _signal_all(processes, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while any(process.is_alive() for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    _signal_all(processes, signal.SIGKILL)
    for process in processes:
        process.join()
