"""Work done ahead by several processes: Paddle's DataLoader, kept from hanging and from leaking.

What it does by itself when something is killed, and what is done about it, stands at each function.
"""

import functools
import mmap
import multiprocessing
import os
import pickle
import signal
import threading
import time
from contextlib import contextmanager

import numpy as np

from common.console import UserError

AHEAD = 2  # items under way for each process
SPARE_BYTES = 1 << 20  # of a slot, for what is no pixel


class WorkerError(UserError):
    """The processes could not start or go on, for a reason that is not in their work."""


def compute(items, num_workers, item_bytes):
    """Yield items[0], items[1], ... in order, computed ahead by `num_workers` processes, or here.

    An item is what pickle can write, `item_bytes` the most that its arrays have. Close this
    generator, or read it to its end, before the next one starts (_stop tells why).
    Raises WorkerError.
    """
    num_workers = min(num_workers, len(items))  # more would have nothing to do
    if not num_workers:
        yield from (items[i] for i in range(len(items)))
    else:
        yield from _in_processes(_Shared(items, num_workers, item_bytes), num_workers)


class _Shared:
    """Items that travel in memory which the processes share; Paddle carries their sizes only.

    Paddle's own way costs a third of a JPEG's decoding, and needs room in /dev/shm, of which a
    container may have 64 MB. A slot is free again when its item was read: Paddle has at most
    AHEAD * num_workers items under way besides the one being read.
    """

    def __init__(self, items, num_workers, item_bytes):
        self.items = items
        count = min(len(items), AHEAD * num_workers + 1)
        self.slots = [mmap.mmap(-1, item_bytes + SPARE_BYTES) for _ in range(count)]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        """Write item i to its slot, arrays apart and thus copied once; returns the parts' sizes."""
        arrays = []
        head = pickle.dumps((i, self.items[i]), protocol=5, buffer_callback=arrays.append)
        parts = [head, *(array.raw() for array in arrays)]
        slot = self.slots[i % len(self.slots)]
        slot.seek(0)
        for part in parts:
            slot.write(part)
        return np.array([len(part) for part in parts])

    def read(self, i, sizes):
        ends = np.cumsum(sizes).tolist()
        with memoryview(self.slots[i % len(self.slots)]) as slot:
            head, *arrays = (bytearray(slot[end - size : end]) for size, end in zip(sizes, ends))
        written, item = pickle.loads(head, buffers=arrays)
        assert written == i, 'Paddle has more items under way than it had'
        return item


def _in_processes(shared, num_workers):
    import paddle

    # The slots come by inheritance; a trainer, itself spawned, would spawn its workers otherwise.
    multiprocessing.set_start_method('fork', force=True)
    # Shared memory by descriptor vanishes with its processes; by name, kill -9 would leave it.
    paddle.set_flags({'FLAGS_dataloader_use_file_descriptor': True})
    loader = paddle.io.DataLoader(
        shared,
        places=paddle.CPUPlace(),
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=num_workers,
        prefetch_factor=AHEAD,
        worker_init_fn=functools.partial(_start_worker, os.getpid()),
        use_buffer_reader=False,
        timeout=0.2,  # seconds between its looks for dead processes; slow ones may take longer
    )
    iterator = _start(loader)
    try:
        with _one_message():
            for i, sizes in enumerate(iterator):
                yield shared.read(i, sizes.tolist())
    except (SystemError, RuntimeError):  # Paddle's words for it do not help a user
        raise WorkerError(
            'a process that loads pictures has died (killed, or out of memory);'
            ' try fewer --num_workers, or 0'
        ) from None
    finally:
        _stop(iterator)


@contextmanager
def _one_message():
    """No traceback from Paddle's thread where a process dies while it hands over a batch."""
    hook = threading.excepthook

    def without_broken_pipes(args):
        if not issubclass(args.exc_type, (EOFError, OSError)):
            hook(args)

    threading.excepthook = without_broken_pipes
    try:
        yield
    finally:
        threading.excepthook = hook


def _start(loader):
    """Start the processes. A death among them is then found by `next`, never in between.

    Paddle sets a handler that raises wherever the main process happens to be: in the middle of
    saving a checkpoint, say.
    """
    handler = signal.getsignal(signal.SIGCHLD)
    iterator = iter(loader)
    if signal.getsignal(signal.SIGCHLD) is not handler:
        signal.signal(signal.SIGCHLD, handler or signal.SIG_DFL)
    return iterator


def _stop(iterator):
    """End the processes and Paddle's thread, which keeps its iterator alive until all is read.

    A thread that is still busy while the next loader forks may hold a lock of Paddle's memory
    statistics, and the new processes would wait for it for ever.
    """
    iterator.__del__()
    iterator._thread.join()


def _unchanged(item):
    return item


def _start_worker(parent, worker_id):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to answer
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # instead of the parent's handler
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()


def _die_with(parent):
    """A worker waits for its next batch for ever, even if the parent was killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
