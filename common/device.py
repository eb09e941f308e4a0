"""The device, and mixed precision on it: Paddle's autocast, and loss scaling for float16."""

from contextlib import nullcontext

import paddle

from common.console import UserError

GROW_EVERY = 2000  # updates without overflow, after which the scale is doubled


class DeviceError(UserError):
    """The device cannot compute in the precision that is asked for."""


class Precision:
    """`amp`: None for float32 throughout, 'bfloat16' or 'float16'.

    float16 has no room for small gradients, so the loss is multiplied by `scale` (a power of two);
    an update whose gradients overflow is left out and the scale halved. `state` is what a
    checkpoint keeps.
    """

    def __init__(self, amp=None, state=None):
        self.amp = amp
        self.scale, self.good = state or ((2.0**15, 0) if amp == 'float16' else (1.0, 0))

    @property
    def state(self):
        return [self.scale, self.good]

    def autocast(self):
        if self.amp is None:
            return nullcontext()
        return paddle.amp.auto_cast(level='O1', dtype=self.amp)

    def accept(self, finite):
        """Whether an update may be made; raises FloatingPointError where there is no way on."""
        if finite:
            self.good += 1
            if self.amp == 'float16' and self.good % GROW_EVERY == 0:
                self.scale *= 2
            return True
        if self.amp != 'float16' or self.scale <= 1:
            raise FloatingPointError
        self.scale, self.good = self.scale / 2, 0
        return False


def choose_device(device, amp=None):
    """Choose `device` ('auto', 'cpu', 'gpu'); returns whether it is the CPU. DeviceError."""
    has_gpu = paddle.device.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
    if device == 'gpu' and not has_gpu:
        raise DeviceError(
            '--device gpu: this PaddlePaddle finds no GPU; install its GPU package and a driver, '
            'or use --device cpu'
        )
    on_cpu = device == 'cpu' or not has_gpu
    if amp and on_cpu:
        raise DeviceError(f'--amp {amp} needs a GPU; leave it out to train in float32 on the CPU')
    if on_cpu:
        paddle.set_device('cpu')
        return True
    if amp == 'bfloat16' and not paddle.amp.is_bfloat16_supported():
        raise DeviceError('--amp bfloat16: this GPU has none; use --amp float16')
    # The same bits in every run, which an exact resume needs.
    paddle.set_flags({'FLAGS_cudnn_deterministic': True})
    if amp:  # Paddle then keeps convolutions channels-last, where tensor cores are fast
        paddle.incubate.autotune.set_config({'layout': {'enable': True}})
    return False
