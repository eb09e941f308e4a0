"""Work done ahead by several processes of the standard library, whose results come through pipes.

Measured against them: shared memory saves 0.05 ms of the 1.7 ms that a picture takes, and needs its
size beforehand. Threads read as fast, but Paddle Inference, which runs in the workers of an
evaluation, keeps Python's lock while it computes.
"""

import atexit
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
from collections import deque
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.connection import wait

from common.console import UserError
from common.signals import ENDING_SIGNALS, signals_blocked, unblock_signals

# A forked process starts in milliseconds and shares the items; elsewhere forking is not safe.
START_METHOD = 'fork' if sys.platform.startswith('linux') else 'spawn'
AHEAD = 2  # items under way for each process
GRACE_SECONDS = 60  # for the main process to end well, where a signal goes to all processes

# --------------------------------------------------------------------------------------------------
# The main process
# --------------------------------------------------------------------------------------------------


def compute(items, num_workers):
    """Yield items[0], items[1], ... in order, computed ahead by `num_workers` processes, or here.

    An item is anything that pickle can write; where processes cannot be forked, so are `items`.
    What items[i] raises is raised here in its turn. Closing this generator, or its last reference
    going, ends the processes. Raises UserError.
    """
    num_workers = min(num_workers, len(items))  # more would have nothing to do
    if not num_workers:
        yield from (items[i] for i in range(len(items)))
        return
    processes, connections = [], []
    try:
        _start(items, num_workers, processes, connections)
        yield from _in_order(connections, len(items))
    finally:
        with signals_blocked():
            _end(processes, connections)


def _start(items, num_workers, processes, connections):
    """Start the processes, and add them and what connects to them to the lists."""
    context = multiprocessing.get_context(START_METHOD)
    if START_METHOD == 'spawn' and os.name == 'posix':
        resource_tracker.ensure_running()  # or else spawn does, and lets waiting signals through
    inherited = (items, connections) if START_METHOD == 'fork' else (None, [])
    try:
        for _ in range(num_workers):
            ours, theirs = context.Pipe()
            connections.append(ours)
            process = context.Process(target=_work, args=(theirs, *inherited), daemon=True)
            with theirs, signals_blocked():  # held here, too, it would hide the process's death
                process.start()
                processes.append(process)
                atexit.register(process.kill)  # before multiprocessing waits for its children
    except OSError as error:
        raise UserError(
            f'cannot start {num_workers} processes that load pictures ({error.strerror});'
            ' try fewer --num_workers, or 0'
        ) from None
    if START_METHOD != 'fork':  # now that all of them are importing modules, at the same time
        pickled = pickle.dumps(items, protocol=5)
        with _deaths_told():
            for connection in connections:
                connection.send_bytes(pickled)


def _in_order(connections, count):
    """Hand out the items' numbers, to who is free, and yield the results in order."""
    numbers, done = iter(range(count)), {}
    free = deque(connections * AHEAD)
    with _deaths_told():
        for number in islice(numbers, len(free)):
            free.popleft().send_bytes(b'%d' % number)
    for number in range(count):
        with _deaths_told():
            while number not in done:
                for connection in wait(connections):
                    which, *result = pickle.loads(connection.recv_bytes())
                    done[which] = result
                    free.append(connection)
            for following in islice(numbers, 1):
                free.popleft().send_bytes(b'%d' % following)
        item, error, trace = done.pop(number)
        if error is not None:
            raise error from RuntimeError(f'in a worker process:\n{trace}')
        yield item


def _end(processes, connections):
    """End the processes; in the middle of an item they have a second to clear up behind them."""
    for connection in connections:
        connection.close()
    deadline = time.monotonic() + 1
    for process in processes:
        process.join(max(0, deadline - time.monotonic()))
        process.kill()
        process.join()
        process.close()
        atexit.unregister(process.kill)


@contextmanager
def _deaths_told():
    try:
        yield
    except (EOFError, OSError):
        raise UserError(
            'a process that loads pictures has died (killed, or out of memory);'
            ' try fewer --num_workers, or 0'
        ) from None


# --------------------------------------------------------------------------------------------------
# A worker
# --------------------------------------------------------------------------------------------------


def _work(connection, items, inherited):
    """Compute what is asked for until the main process closes the connection, or is no more."""
    _answer_signals()
    for end in inherited:  # the main process's: held here, they would hide its death
        end.close()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    results = queue.SimpleQueue()  # as short as the main process asks for
    threading.Thread(target=_send, args=(results, connection), daemon=True).start()
    with suppress(EOFError, OSError):
        if items is None:
            items = pickle.loads(connection.recv_bytes())
        while True:
            results.put(_result(items, int(connection.recv_bytes())))


def _answer_signals():
    """Ctrl-C and what ends a whole group (timeout, Slurm) are for the main process to answer.

    Its last iteration may want batches still. SIGTERM alone, after a while, ends a worker, too.
    """
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE_SECONDS))
    unblock_signals()


def _end_with_parent():
    """Even in the middle of a long item."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _send(results, connection):
    """A pipe holds less than a batch: sending waits until the main process reads."""
    with suppress(OSError):
        while True:
            connection.send_bytes(results.get())


def _result(items, number):
    try:
        return pickle.dumps((number, items[number], None, None), protocol=5)
    except Exception as error:
        return pickle.dumps((number, None, error, traceback.format_exc()), protocol=5)
