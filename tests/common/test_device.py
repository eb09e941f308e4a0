"""The device that is chosen, with and without a GPU; GPUs are played by patching Paddle."""

import importlib.metadata
import os
import threading

import paddle
import pytest

from common.console import UserError
from common.device import CPU, GPU, choose_device
from training import distributed
from training.precision import Precision, check_precision


class Machine:
    """What Paddle is told while a test plays a machine with GPUs."""

    def __init__(self):
        self.flags, self.device = {}, None


@pytest.fixture
def gpus(monkeypatch):
    """Function (count, capability, knows_tf32) -> Machine; Paddle believes in these GPUs."""

    def play(count, capability=(9, 0), knows_tf32=True):
        machine = Machine()

        def set_flags(flags):
            if not knows_tf32 and any('tf32' in name for name in flags):
                raise ValueError(f'Flag {min(flags)} cannot set its value through this function.')
            machine.flags.update(flags)

        monkeypatch.setattr(paddle.device, 'is_compiled_with_cuda', lambda: True)
        monkeypatch.setattr(paddle.device.cuda, 'device_count', lambda: count)
        monkeypatch.setattr(paddle.device.cuda, 'get_device_name', lambda: 'NVIDIA Toy')
        monkeypatch.setattr(paddle.device.cuda, 'get_device_capability', lambda: capability)
        monkeypatch.setattr(paddle, 'set_flags', set_flags)
        monkeypatch.setattr(paddle, 'set_device', lambda name: setattr(machine, 'device', name))
        monkeypatch.delenv('NVIDIA_TF32_OVERRIDE', raising=False)
        return machine

    return play


def test_auto_takes_the_gpu_where_there_is_one(gpus):
    machine = gpus(1)
    assert choose_device() == GPU and machine.device == 'gpu' and str(GPU) == 'NVIDIA Toy'
    assert choose_device('cpu') == CPU and machine.device == 'cpu' and str(CPU) == 'CPU'
    gpus(0)
    assert choose_device() == CPU
    with pytest.raises(UserError, match='finds no GPU'):
        choose_device('gpu')


@pytest.mark.parametrize('tf32', [False, True])
def test_float32_means_float32_unless_tf32_is_asked_for(gpus, tf32):
    machine = gpus(1)
    choose_device('gpu', tf32)
    assert machine.flags['FLAGS_cudnn_allow_tf32'] is tf32
    assert machine.flags['FLAGS_cublas_allow_tf32'] is tf32
    assert machine.flags['FLAGS_cudnn_deterministic'] is True
    gpus(1, knows_tf32=False)
    choose_device('gpu', tf32)
    assert os.environ.get('NVIDIA_TF32_OVERRIDE') == (None if tf32 else '0')


def test_trainers_are_as_many_as_gpus(gpus, monkeypatch):
    gpus(4)
    assert distributed.count_trainers('auto', GPU) == 4
    assert distributed.count_trainers(3, GPU) == 3
    with pytest.raises(UserError, match='--trainer 5: this machine shows 4 GPUs'):
        distributed.count_trainers(5, GPU)
    assert distributed.count_trainers(5, CPU) == 5
    monkeypatch.setattr(distributed, 'usable_cores', lambda: 1)
    assert distributed.count_trainers('auto', CPU) == 1
    monkeypatch.setenv('PADDLE_TRAINERS_NUM', '8')  # launched, with a process a GPU
    assert distributed.count_trainers(1, GPU) == 1


@pytest.mark.parametrize('device', [CPU, GPU])
def test_launched_processes_connect_on_the_device_that_was_chosen(device, monkeypatch):
    monkeypatch.setenv('PADDLE_TRAINERS_NUM', '2')
    monkeypatch.setenv('PADDLE_DISTRI_BACKEND', 'auto')
    seen = []
    init = lambda: seen.append(os.environ['PADDLE_DISTRI_BACKEND'])  # noqa: E731
    monkeypatch.setattr(distributed.dist, 'init_parallel_env', init)
    monkeypatch.setattr(distributed.dist, 'get_rank', lambda: 0)
    monkeypatch.setattr(distributed.dist, 'get_world_size', lambda: 2)
    distributed.join_group(device)
    assert seen == [device.backend]


@pytest.mark.parametrize(
    ('amp', 'capability', 'says'),
    [
        ('float16', (6, 1), 'needs a GPU of compute capability 7.0 or more, and this one has 6.1'),
        ('bfloat16', (7, 5), 'capability 8.0 or more, and this one has 7.5; leave it out or use'),
        ('tf32', (7, 5), 'compute capability 8.0'),
        ('bfloat16', (8, 0), None),
        ('float16', (7, 0), None),
        (None, (3, 5), None),
    ],
)
def test_a_precision_that_the_gpu_lacks_is_refused(gpus, amp, capability, says):
    gpus(1, capability)
    if says is None:
        check_precision(amp, GPU, 'none')
        return
    with pytest.raises(UserError) as error:
        check_precision(amp, GPU, 'none')
    assert says in str(error.value)


def test_float16_scales_its_loss_down_after_overflow_and_up_after_luck():
    precision = Precision('float16')
    start = precision.scale
    assert not precision.accept(False)  # the update is left out
    assert precision.scale == start / 2
    for _ in range(2000):
        assert precision.accept(True)
    assert precision.scale == start
    again = Precision('float16', precision.state)
    assert (again.scale, again.good) == (precision.scale, precision.good)
    while precision.scale > 1:
        precision.accept(False)
    with pytest.raises(FloatingPointError):
        precision.accept(False)


@pytest.mark.parametrize('amp', [None, 'bfloat16'])
def test_other_precisions_do_not_scale(amp):
    precision = Precision(amp)
    assert precision.accept(True) and precision.scale == 1
    with pytest.raises(FloatingPointError):
        precision.accept(False)


def test_a_group_that_does_not_meet_again_ends(monkeypatch, capsys):
    monkeypatch.setattr(distributed, 'STUCK_SECONDS', 0.2)
    ended = threading.Event()
    heart = distributed.Watchdog(end=lambda status: ended.set() if status == 1 else None)
    heart.watch()
    for _ in range(5):
        assert not ended.wait(0.08)
        heart.beat()
    assert ended.wait(5)
    assert 'have not met for 0 s; one is probably lost' in capsys.readouterr().err


@pytest.mark.parametrize('error', [OSError('(External) NCCL error(2)'), RuntimeError('reset')])
def test_a_lost_connection_says_how_to_go_on(error, monkeypatch):
    def all_reduce(_):
        raise error

    monkeypatch.setattr(distributed.dist, 'get_world_size', lambda: 2)
    monkeypatch.setattr(distributed.dist, 'all_reduce', all_reduce)
    with pytest.raises(UserError, match=r'lost the connection to another .*--resume continues'):
        distributed.mean_over_group(paddle.ones([2]))


def test_two_paddles_in_one_environment_are_remarked(monkeypatch, capsys):
    """Both own site-packages/paddle; whichever came last has overwritten half of the other."""
    choose_device('cpu')
    assert capsys.readouterr().err == ''
    monkeypatch.setattr(importlib.metadata, 'distribution', lambda name: name)
    choose_device('cpu')
    assert 'paddlepaddle and paddlepaddle-gpu are both installed' in capsys.readouterr().err
