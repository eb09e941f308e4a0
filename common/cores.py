"""How many processor cores are this program's, and its worker processes."""

import math
import os
from pathlib import Path

MOST_WORKERS = 8  # by default: more than a training process needs

OWN_GROUPS, CONTROL_GROUPS = Path('/proc/self/cgroup'), Path('/sys/fs/cgroup')


def default_workers(trainers=1):
    """Workers for each of the training processes of this machine: its share of the cores.

    `trainers` are those that this program starts; paddle.distributed.launch tells its own number.
    """
    launched = int(os.environ.get('PADDLE_LOCAL_SIZE') or 1)
    return max(1, min(MOST_WORKERS, usable_cores() // max(trainers, launched)))


def usable_cores():
    """Cores that this process may use: of its affinity, and of its control groups' quota."""
    if hasattr(os, 'sched_getaffinity'):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, int(min(cores, _quota())))


def _quota():
    """Cores' worth of time that the control groups of this process and those above leave to it."""
    quota = math.inf
    for line in _read(OWN_GROUPS).splitlines():  # 'number:controllers:/path'
        _, controllers, path = line.split(':', 2)
        if not controllers:  # version 2
            folder = CONTROL_GROUPS / path.strip('/')
        elif 'cpu' in controllers.split(','):
            folder = CONTROL_GROUPS / 'cpu' / path.strip('/')
        else:
            continue
        # The topmost may be this group itself: a container sees no others.
        quota = min(quota, *map(_quota_of, (folder, *folder.parents)))
    return quota


def _quota_of(folder):
    period = _read(folder / 'cpu.cfs_quota_us') + ' ' + _read(folder / 'cpu.cfs_period_us')
    words = (_read(folder / 'cpu.max') or period).split()
    if len(words) != 2 or words[0] in ('max', '-1'):
        return math.inf
    return int(words[0]) / int(words[1])


def _read(path):
    try:
        return path.read_text(encoding='utf-8', errors='replace')
    except OSError:  # not Linux, or no such controller
        return ''
