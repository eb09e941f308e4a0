"""The numbers that a network computes with: float32, Caffe's, or others where these are faster."""

from common.console import UserError
from common.device import load_paddle

PRECISIONS = ('float32', 'bfloat16', 'int8')
PROCESSOR = '/proc/cpuinfo'


def check_precision(precision, device):
    """Raises UserError where Paddle has not `precision` on `device`, or is slower with it."""
    if precision == 'int8':
        raise UserError(
            'int8 needs pictures that show it the ranges; infer.py has --calibrate LIST for them'
        )
    if precision == 'bfloat16':
        check_bfloat16('--precision bfloat16', device)


def check_bfloat16(flag, device):
    """Raises UserError where `device` has not the bfloat16 that `flag` asks for, or is slower.

    Measured: with AVX512_BF16 alone bfloat16 takes 1.3 times the time of float32; below that,
    Paddle fails. With AMX it takes a third.
    """
    if device.is_gpu:
        found = load_paddle().device.cuda.get_device_capability()
        if found < (8, 0):
            found = '.'.join(map(str, found))
            raise UserError(
                f'{flag} needs a GPU of compute capability 8.0 or more, and this one has {found}; '
                'use float32'
            )
    elif 'amx_bf16' not in processor_flags():
        raise UserError(
            f'{flag} needs a processor with amx_bf16 (Intel, since Sapphire Rapids), which this '
            'one has not; use float32'
        )


def processor_flags():
    """The instruction sets that Linux names for this processor; elsewhere none."""
    try:
        with open(PROCESSOR, encoding='ascii', errors='replace') as file:
            return next((line for line in file if line.startswith('flags')), '').split()
    except OSError:
        return []
