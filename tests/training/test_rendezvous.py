"""Processes wait for each other before they exchange numbers: for the busy, not for the dead."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from common.console import UserError
from training import rendezvous
from training.rendezvous import Rendezvous

HOME = rendezvous._home()


class DictStore:
    """A store as Paddle's, for the threads of this process."""

    def __init__(self):
        self.values, self.lock = {}, threading.Lock()

    def add(self, key, amount):
        with self.lock:
            self.values[key] = self.values.get(key, 0) + amount
            return self.values[key]

    def set(self, key, value):
        self.values[key] = value

    def get(self, key):
        return self.values[key].encode()


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(rendezvous, 'BEAT_SECONDS', 0.05)
    monkeypatch.setattr(rendezvous, 'SILENT_SECONDS', 1.0)


@pytest.fixture
def join():
    """Function (store, rank, **options) -> Rendezvous of two, which leaves in the end."""
    made = []

    def make(store, rank, **options):
        made.append(Rendezvous(store, rank, 2, **options))
        return made[-1]

    yield make
    for place in made:
        place.leave()


@pytest.fixture
def child():
    process = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
    yield process
    process.kill()
    process.wait()


def pretend(store, rank, home):
    """A process that has beaten once and does so no more."""
    store.set(f'home/{rank}', home)
    store.add(f'beats/{rank}', 1)


def test_nobody_passes_before_all_have_come(join):
    store, passed = DictStore(), []

    def come(rank, place):
        for number in range(5):
            time.sleep(0.1 * ((rank + number) % 2))
            place.meet()
            passed.append(number)

    places = [join(store, rank) for rank in (0, 1)]
    threads = [threading.Thread(target=come, args=pair) for pair in enumerate(places)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert passed == sorted([0, 1, 2, 3, 4] * 2)


def test_who_is_busy_for_longer_than_the_silence_is_waited_for(join):
    store, waited = DictStore(), []
    one, other = (join(store, rank) for rank in (0, 1))
    threading.Timer(2.5, other.meet).start()
    began = time.monotonic()
    one.meet(lambda: waited.append(1))
    assert time.monotonic() - began > 2 and waited


def test_who_is_stopped_on_this_machine_is_waited_for_and_who_is_killed_is_not(join, child):
    store = DictStore()
    place = join(store, 0)
    pretend(store, 1, f'{HOME} {child.pid}')
    os.kill(child.pid, signal.SIGSTOP)
    time.sleep(2)
    assert place.lost is None
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(UserError, match=r'training process 1 is gone .*; --resume continues'):
        place.meet()


def test_silence_on_another_machine_is_a_loss(join):
    store = DictStore()
    place = join(store, 0)
    pretend(store, 1, 'elsewhere pid:[1] 1')
    with pytest.raises(UserError, match='training process 1 is gone or out of reach'):
        place.meet()


def test_who_has_left_is_not_missed(join, child):
    store = DictStore()
    place = join(store, 0)
    pretend(store, 1, f'{HOME} {child.pid}')
    store.add('left/1', 1)
    child.kill()
    child.wait()
    time.sleep(0.5)
    assert place.lost is None


def test_a_store_that_is_gone_is_a_loss_of_its_process(join):
    class Broken(DictStore):
        def add(self, key, amount):
            if key.startswith('meetings'):
                raise RuntimeError('Connection reset by peer')
            return super().add(key, amount)

    with pytest.raises(UserError, match='training process 0; --resume continues'):
        join(Broken(), 1).meet()


def test_a_process_inside_a_call_that_does_not_return_is_ended(join, capsys):
    store, ended = DictStore(), threading.Event()
    join(store, 0, end=lambda status: ended.set() if status == 1 else None)
    pretend(store, 1, 'elsewhere pid:[1] 1')
    assert ended.wait(20)
    assert 'training process 1 is gone' in capsys.readouterr().err
