"""What answers signals: the first one, once, whoever sends how many."""

import os
import signal

import pytest

from common import signals
from common.signals import FirstSignal, StopRequest, signals_blocked, signals_restored

pytestmark = pytest.mark.skipif(os.name != 'posix', reason='POSIX signals')


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(signals.time, 'monotonic', lambda: now[0])
    return now


def test_several_signals_at_a_time_are_one_request(clock):
    first, later = [], []
    answer = FirstSignal(first.append, later.append)
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP):
        answer(number, None)
    assert (first, later, answer.number) == ([signal.SIGTERM], [], signal.SIGTERM)
    clock[0] += signals.ONE_REQUEST + 0.1
    answer(signal.SIGINT, None)
    assert (first, later) == ([signal.SIGTERM], [signal.SIGINT])


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGINT', 'SIGHUP'])
def test_a_request_to_stop_is_remembered_and_a_later_one_interrupts(name, clock):
    number = getattr(signal, name)
    with signals_restored():
        stop = StopRequest()
        assert not stop and stop.signal is None
        signal.raise_signal(number)
        signal.raise_signal(number)
        assert stop and stop.signal == number
        clock[0] += signals.ONE_REQUEST + 0.1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)


def test_what_is_ignored_stays_so():
    with signals_restored():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        stop = StopRequest()
        signal.raise_signal(signal.SIGHUP)
        assert not stop


def test_blocked_signals_come_afterwards():
    with signals_restored():
        stop = StopRequest()
        with signals_blocked():
            signal.raise_signal(signal.SIGTERM)
            assert not stop
        assert stop
