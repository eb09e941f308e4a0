"""Workers give what is asked for in order, and neither hang nor stay, whoever is killed.

All of it holds for forked processes (Linux) and spawned ones (macOS, Windows).
"""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from common.console import UserError
from pictures import workers

ROOT = Path(__file__).resolve().parents[2]
BOTH = ['fork', 'spawn']
LARGE = 5_000_000  # bytes: far more than a pipe holds


@pytest.fixture(params=BOTH)
def start_method(request, monkeypatch):
    monkeypatch.setattr(workers, 'START_METHOD', request.param)
    return request.param


class Items:
    """Item i is i and `size` bytes, after `delays[i]` seconds; made where `folder` has file i."""

    def __init__(self, count, size=0, delays=(), folder=None):
        self.count, self.size, self.delays, self.folder = count, size, dict(delays), folder

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        time.sleep(self.delays.get(i, 0))
        if self.folder:
            (self.folder / str(i)).touch()
        return i, bytes([i]) * self.size


class Failing(Items):
    def __init__(self, count, error):
        super().__init__(count)
        self.error = error

    def __getitem__(self, i):
        if i == 3:
            raise self.error
        return i


class Unpicklable(Items):
    def __getitem__(self, i):
        return lambda: i


@pytest.mark.parametrize('num_workers', [1, 3, 50])
def test_items_come_in_order_whoever_is_slow(start_method, num_workers):
    if start_method == 'spawn':
        num_workers = min(num_workers, 3)  # each takes half a second to start
    items = Items(20, size=100_000, delays={0: 0.2, 7: 0.1, 8: 0.05})
    assert list(workers.compute(items, num_workers)) == [items[i] for i in range(20)]


def test_nobody_starts_for_nothing():
    before = children()
    made = workers.compute(Items(2), 0)
    assert next(made) == (0, b'')
    assert children() == before
    assert list(workers.compute(Items(0), 5)) == []
    made = workers.compute(Items(2), 9)
    next(made)
    assert len(children() - before) == 2


@pytest.mark.parametrize('num_workers', [0, 2])
@pytest.mark.parametrize('error', [UserError('list.txt, line 4'), FileNotFoundError(2, 'No', 'a')])
def test_an_exception_comes_in_its_turn(start_method, num_workers, error):
    made = workers.compute(Failing(20, error), num_workers)
    assert [next(made) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(type(error)) as caught:
        next(made)
    assert str(caught.value) == str(error)
    if num_workers:
        assert 'line' in str(caught.value.__cause__)
        assert '__getitem__' in str(caught.value.__cause__)
    assert not alive_children()


def test_an_item_that_cannot_travel_is_an_error():
    with pytest.raises(Exception, match='lambda'):
        next(workers.compute(Unpicklable(3), 2))
    assert not alive_children()


def test_no_more_is_made_ahead_than_was_said(tmp_path):
    made = workers.compute(Items(30, LARGE, folder=tmp_path), 2)
    for taken in range(1, 4):
        next(made)
        time.sleep(0.3)  # enough for many
        assert taken <= len(os.listdir(tmp_path)) <= taken + 2 * workers.AHEAD
    made.close()


def test_two_loaders_at_a_time(start_method):
    """Workers of the second inherit what connects the first; that must not keep these alive."""
    before = children()
    first, second = workers.compute(Items(40, 1000), 2), workers.compute(Items(40, 2000), 2)
    for _, (one, other) in zip(range(10), zip(first, second)):
        assert one[0] == other[0]
    first.close()
    assert len(children() - before) == 2
    assert [number for number, _ in second] == list(range(10, 40))
    assert children() == before


def test_many_loaders_one_after_another_do_not_hang():
    for _ in range(25):
        assert len(list(workers.compute(Items(6), 2))) == 6


# --------------------------------------------------------------------------------------------------
# Ends
# --------------------------------------------------------------------------------------------------


def children(parent=None):
    pids = (int(entry) for entry in os.listdir('/proc') if entry.isdigit())
    return {pid for pid in pids if parent_of(pid) == (parent or os.getpid()) and is_worker(pid)}


def parent_of(pid):
    return int((stat_of(pid) or [0, -1])[1])


def is_worker(pid):
    """Not the resource tracker of multiprocessing, which comes with the first spawned process."""
    try:
        return b'resource_tracker' not in Path(f'/proc/{pid}/cmdline').read_bytes()
    except OSError:
        return False


def stat_of(pid):
    """[state, parent, ...]"""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()
    except OSError:
        return None


def alive(pid):
    return (stat_of(pid) or 'Z')[0] != 'Z'


def alive_children():
    return {pid for pid in children() if alive(pid)}


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.mark.parametrize('size', [0, LARGE], ids=['idle', 'sending'])
@pytest.mark.parametrize('which', [min, max])
def test_a_killed_worker_ends_the_run_with_a_clear_error(start_method, which, size):
    before = children()
    made = workers.compute(Items(60, size), 2)
    next(made)
    time.sleep(0.2)  # to be in the middle of sending
    os.kill(which(children() - before), signal.SIGKILL)
    with pytest.raises(UserError, match='has died') as error:
        list(made)
    assert len(str(error.value).splitlines()) == 1
    assert children() == before


def test_leaving_early_ends_the_workers_at_once(start_method):
    before, opened = children(), len(os.listdir('/proc/self/fd'))
    for _ in workers.compute(Items(9, LARGE, delays={3: 60, 4: 60}), 2):
        break
    assert children() == before
    assert len(os.listdir('/proc/self/fd')) <= opened + (start_method == 'spawn')  # the tracker's


# A program for the tests below, whose items travel to spawned workers by this file's name.
PROGRAM = """
import os, resource, signal, sys, time
sys.path[:0] = {root!r}, {tests!r}
from common.console import UserError
from pictures import workers
from test_workers import Items
workers.START_METHOD = {method!r}
{top}
def main():
{main}

if __name__ == '__main__':
    main()
"""


def start_program(folder, method, main, top='', **options):
    path = folder / 'program.py'
    lines, here = textwrap.indent(main.strip(), '    '), str(Path(__file__).parent)
    path.write_text(PROGRAM.format(root=str(ROOT), tests=here, method=method, main=lines, top=top))
    pipes = dict.fromkeys(('stdout', 'stderr'), subprocess.PIPE)
    command = [sys.executable, path]
    return subprocess.Popen(command, text=True, start_new_session=True, **pipes, **options)


IN_A_CHILD = """
import multiprocessing
child = multiprocessing.get_context('spawn').Process(target=read)
child.start()
child.join(30)
print(child.exitcode)
"""
READ = """
def read():
    print(len(list(workers.compute(Items(20, 100_000), 2))), flush=True)
"""


@pytest.mark.parametrize('method', BOTH)
def test_a_spawned_process_may_have_workers(tmp_path, method):
    """As each process of `train.py --trainer 2` has."""
    with start_program(tmp_path, method, IN_A_CHILD, READ) as p:
        assert p.communicate(timeout=60) == ('20\n0\n', '')


def shared_memory():
    return set(os.listdir('/dev/shm')) if os.path.isdir('/dev/shm') else set()


TOO_MANY = """
opened = len(os.listdir('/proc/self/fd'))
resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30))
try:
    next(workers.compute(Items(60), 50))
except UserError as error:
    print(error)
sys.exit(len(os.listdir('/proc/self/fd')) - opened)
"""


def test_processes_that_cannot_start_are_a_clear_error(tmp_path):
    """Here for want of file descriptors."""
    with start_program(tmp_path, 'fork', TOO_MANY) as p:
        out, error = p.communicate(timeout=20)
    assert (p.returncode, error) == (0, '')
    assert out.startswith('cannot start 50 processes that load pictures (Too many open files)')


WAITING = """
made = workers.compute(Items(60, 5_000_000, delays={1: 60}), 3)
print(next(made)[0], flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize('method', BOTH)
def test_workers_do_not_outlive_a_killed_parent(tmp_path, method):
    """One of them in the middle of a long item, the others sending."""
    before = shared_memory()
    with start_program(tmp_path, method, WAITING, env={**os.environ, 'TMPDIR': str(tmp_path)}) as p:
        assert p.stdout.readline() == '0\n'
        pids = children(p.pid)
        p.kill()
        assert len(pids) == 3
        assert wait_until(lambda: not any(alive(pid) for pid in pids))
        assert p.stderr.read() == ''
    assert shared_memory() <= before
    assert os.listdir(tmp_path) == ['program.py']


ENDING = """
made = workers.compute(Items(60, 5_000_000), 3)
next(made)
sys.last_made = made
print('done', flush=True)
"""


@pytest.mark.parametrize('method', BOTH)
def test_a_loader_that_was_left_open_does_not_keep_the_program(tmp_path, method):
    with start_program(tmp_path, method, ENDING) as p:
        assert p.stdout.readline() == 'done\n'
        start = time.monotonic()
        assert p.wait(20) == 0
        assert time.monotonic() - start < 10
        assert p.stderr.read() == ''


GRACEFUL = """
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
made = workers.compute(Items(30, 100_000), 3)
print(next(made)[0], flush=True)
while not asked:
    time.sleep(0.01)
print(len(list(made)))
"""


@pytest.mark.parametrize('method', BOTH)
def test_a_signal_to_all_leaves_the_main_process_its_workers(tmp_path, method):
    """As `timeout` and Slurm send it: an iteration that is under way can be finished."""
    with start_program(tmp_path, method, GRACEFUL) as p:
        assert p.stdout.readline() == '0\n'
        os.killpg(p.pid, signal.SIGTERM)
        assert p.communicate(timeout=20) == ('29\n', '')


def test_a_signal_to_a_worker_alone_ends_it_after_a_while(monkeypatch):
    monkeypatch.setattr(workers, 'GRACE_SECONDS', 1)
    before = children()
    made = workers.compute(Items(60, delays={5: 60}), 2)
    next(made)
    for pid in children() - before:
        os.kill(pid, signal.SIGTERM)
    with pytest.raises(UserError, match='has died'):
        list(made)
    assert children() == before


INTERRUPTED = """
print('starting', flush=True)
try:
    for _ in workers.compute(Items(60, delays={0: 60}), 3):
        pass
except KeyboardInterrupt:
    print('interrupted')
"""
SLOW_IMPORT = """
if __name__ != '__main__':
    print('importing', flush=True)
    time.sleep(1)
"""


@pytest.mark.parametrize(('method', 'delay'), [('fork', 0.2), ('spawn', 0)])
def test_ctrl_c_is_for_the_main_process_alone(tmp_path, method, delay):
    """Even while the workers start, which takes seconds where they must import Paddle."""
    with start_program(tmp_path, method, INTERRUPTED, SLOW_IMPORT) as p:
        for _ in range(1 if method == 'fork' else 4):
            p.stdout.readline()
        time.sleep(delay)
        pids = children(p.pid)
        for pid in pids:  # first, or the main process would end them in time
            os.kill(pid, signal.SIGINT)
        time.sleep(0.2)
        assert pids == children(p.pid) == {pid for pid in pids if alive(pid)} != set()
        p.send_signal(signal.SIGINT)
        assert p.communicate(timeout=20)[1] == ''
    assert p.returncode == 0
