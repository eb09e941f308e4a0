"""What goes to the device: the same numbers whichever side makes them."""

import numpy as np
import paddle
import pytest

import reader
import squeezenet
from common.device import CPU, GPU
from network.preprocessing import Preprocessing
from squeezenet import SqueezeNet
from training import to_device as feeding
from training.precision import Precision
from training.solver import SGD
from training.step import Learner, train_step
from training.to_device import device_input, feed

HOWS = [
    Preprocessing(),
    Preprocessing(mean=(103.939, 116.779, 123.68), channel_order='RGB'),
    Preprocessing(scale=0.017, mean=(90, 198, 121)),
]


def batches(count=3):
    rng = np.random.default_rng(3)
    for _ in range(count):
        yield rng.integers(0, 256, (2, 40, 40, 3), np.uint8), np.array([1, 2])


@pytest.mark.parametrize('how', HOWS)
def test_the_device_makes_the_readers_floats_bit_for_bit(how):
    for crops, _ in batches():
        ours = device_input(paddle.to_tensor(crops), how)
        assert ours.numpy().tobytes() == reader.network_input(crops, how).tobytes()


def test_feed_on_a_gpu_is_feed_on_the_cpu_one_batch_ahead(monkeypatch):
    """A GPU's copies are played by the CPU's; the order and the numbers are what they will be."""
    made = []

    def on_gpu(crops, labels, how):
        made.append(len(made))
        return device_input(paddle.to_tensor(crops), how), paddle.to_tensor(labels)

    monkeypatch.setattr(feeding, '_on_gpu', on_gpu)
    gpu, cpu = (feed(batches(), HOWS[0], device) for device in (GPU, CPU))
    for i, ((images, labels), (wanted, wanted_labels)) in enumerate(zip(gpu, cpu)):
        assert made == list(range(min(i + 2, 3)))
        assert images.numpy().tobytes() == wanted.tobytes()
        assert labels.tolist() == wanted_labels.tolist()
    assert len(made) == 3


def test_closing_the_feed_closes_the_reader():
    source = batches()
    fed = feed(source, HOWS[0], CPU)
    next(fed)
    fed.close()
    assert source.gi_frame is None


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_a_bias_does_not_promote_what_it_is_added_to(dtype, monkeypatch):
    """In-place addition of a float32 bias would make every activation float32 again.

    A CPU has no such additions, so what would be added is looked at.
    """
    conv, added = SqueezeNet(class_num=3, conv10_relu=False).conv10, []
    # as autocast has a convolution answer
    monkeypatch.setattr(squeezenet.F, 'conv2d', lambda *_: paddle.ones([1, 3, 2, 2], dtype))
    monkeypatch.setattr(paddle.Tensor, 'add_', lambda x, y: added.append((x.dtype, y.dtype)))
    conv.train()
    conv(paddle.ones([1, 512, 2, 2]))
    assert added == [(getattr(paddle, dtype),) * 2]


def test_a_scaled_loss_gives_the_same_update():
    """A power of two changes no bit of the gradients that it multiplies and divides."""
    ends = []
    for scale in (1.0, 2.0**10):
        paddle.seed(4)
        network = SqueezeNet('1.1', None, 3, dropout=0)
        solver = SGD(dict(network.named_parameters()))
        learner = Learner(network, Precision('float16', (scale, 0)))
        learner.precision.autocast = lambda: paddle.amp.auto_cast(enable=False)
        images = np.random.default_rng(1).normal(0, 50, (2, 3, 64, 64)).astype(np.float32)
        train_step(learner, solver, [(images, np.array([0, 2]))], 1e-3)
        ends.append(solver.flat.vector.numpy())
    assert ends[0].tobytes() == ends[1].tobytes()
