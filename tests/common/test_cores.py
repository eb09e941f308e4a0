"""The number of workers follows the cores that a process may really use."""

import os

import pytest

from common import cores


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Function that gives this process cores and control groups: {path: text} below tmp_path."""

    def machine(count, own='', files=()):
        monkeypatch.delenv('PADDLE_LOCAL_SIZE', raising=False)
        monkeypatch.setattr(os, 'cpu_count', lambda: 64)
        monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(count)), raising=False)
        (tmp_path / 'own').write_text(own)
        for path, text in dict(files).items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        monkeypatch.setattr(cores, 'OWN_GROUPS', tmp_path / 'own')
        monkeypatch.setattr(cores, 'CONTROL_GROUPS', tmp_path)

    return machine


def test_cores_are_those_of_the_affinity(machine, monkeypatch):
    machine(6)
    assert cores.usable_cores() == 6
    monkeypatch.delattr(os, 'sched_getaffinity')  # macOS, Windows
    assert cores.usable_cores() == 64
    monkeypatch.setattr(os, 'cpu_count', lambda: None)
    assert cores.usable_cores() == 1


V1 = '5:memory:/a\n4:cpu,cpuacct:/docker/b\n3:cpuset:/\n0::/\n'


@pytest.mark.parametrize(
    ('own', 'files', 'count'),
    [
        ('0::/\n', {'cpu.max': '300000 100000\n'}, 3),  # a container
        ('0::/\n', {'cpu.max': 'max 100000\n'}, 16),
        ('0::/\n', {'cpu.max': '50000 100000\n'}, 1),
        ('0::/\n', {'cpu.max': '250000 100000\n'}, 2),
        ('0::/\n', {'cpu.max': '9900000 100000\n'}, 16),
        ('0::/s/job\n', {'s/job/cpu.max': 'max 100000\n', 's/cpu.max': '400000 100000\n'}, 4),
        ('0::/s/job\n', {'s/job/cpu.max': '200000 100000\n', 's/cpu.max': '400000 100000\n'}, 2),
        (V1, {'cpu/cpu.cfs_quota_us': '500000\n', 'cpu/cpu.cfs_period_us': '100000\n'}, 5),
        (V1, {'cpu/cpu.cfs_quota_us': '-1\n', 'cpu/cpu.cfs_period_us': '100000\n'}, 16),
        (
            V1,
            {
                'cpu/docker/b/cpu.cfs_quota_us': '140000\n',
                'cpu/docker/b/cpu.cfs_period_us': '20000\n',
            },
            7,
        ),
        (V1, {'memory/a/cpu.max': '100000 100000\n'}, 16),  # no such file counts
    ],
)
def test_control_groups_limit_the_cores(machine, own, files, count):
    machine(16, own, files)
    assert cores.usable_cores() == count


def test_each_training_process_gets_its_share(machine, monkeypatch):
    machine(6)
    assert [cores.default_workers(trainers) for trainers in (1, 2, 3, 4, 7)] == [6, 3, 2, 1, 1]
    monkeypatch.setenv('PADDLE_LOCAL_SIZE', '2')  # set by paddle.distributed.launch
    assert cores.default_workers() == 3
    machine(48)
    assert cores.default_workers() == cores.MOST_WORKERS == 8
    assert cores.default_workers(12) == 4
