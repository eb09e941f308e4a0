"""Mixed precision: Paddle's autocast on a GPU, and loss scaling for float16."""

from contextlib import nullcontext

import paddle

from common.console import UserError
from evaluation.precision import check_bfloat16

# NVIDIA's compute capabilities: tensor cores since 7.0, bfloat16 and TF32 since 8.0
LOWEST_CAPABILITY = {'tf32': (8, 0), 'bfloat16': (8, 0), 'float16': (7, 0)}
GROW_EVERY = 2000  # updates without overflow, after which the scale is doubled


class Precision:
    """`amp`: None for float32 throughout, 'tf32' (see choose_device), 'bfloat16' or 'float16'.

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
        if self.amp in (None, 'tf32'):
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


def check_precision(amp, device, freeze):
    """Raises UserError where `device` cannot compute in mixed precision `amp`.

    A processor has bfloat16 for the layers up to `freeze` alone, which Paddle Inference computes.
    """
    if amp is None:
        return
    if not device.is_gpu:
        if amp != 'bfloat16' or freeze == 'none':
            raise UserError(
                f'--amp {amp} needs a GPU; leave it out to train in float32 on the CPU, where '
                'bfloat16 is for the layers that --freeze keeps'
            )
        return check_bfloat16('--amp bfloat16', device)
    capability = paddle.device.cuda.get_device_capability()
    if capability < LOWEST_CAPABILITY[amp]:
        lowest, found = ('.'.join(map(str, v)) for v in (LOWEST_CAPABILITY[amp], capability))
        raise UserError(
            f'--amp {amp} needs a GPU of compute capability {lowest} or more, and this one has '
            f'{found}; leave it out' + (' or use float16' if capability >= (7, 0) else '')
        )
