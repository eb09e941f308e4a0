"""A model's tensors: which SqueezeNet they are, and whether they are one at all."""

import numpy as np

from common.console import UserError
from network import architecture


def recognise(tensors, where):
    """(version, bypass, class_num) by names and shapes; simple bypass leaves no trace there."""
    try:
        version = {7: '1.0', 3: '1.1'}[tensors['conv1.weight'].shape[-1]]
        class_num = len(tensors['conv10.bias'])
    except (KeyError, IndexError, TypeError):
        raise UserError(f'{where}: has no conv1.weight and conv10.bias of a SqueezeNet') from None
    if not class_num:
        raise UserError(f'{where}: conv10.bias is empty')
    return version, 'complex' if 'fire2.bypass1x1.weight' in tensors else None, class_num


def finish(tensors, config, where):
    """Check what was read, and bring it into the network's order and float32."""
    check_tensors(tensors, config, where)
    names = architecture.parameter_shapes(config['version'], config['bypass'], config['class_num'])
    return {name: np.asarray(tensors[name], np.float32) for name in names}, config


def check_tensors(tensors, config, where):
    """Raises UserError unless names and shapes are those of the network and all numbers finite."""
    shapes = architecture.parameter_shapes(config['version'], config['bypass'], config['class_num'])
    for name, shape in shapes.items():
        if name not in tensors:
            raise UserError(f'{where}: parameter {name} is missing')
        if tensors[name].shape != shape:
            found = list(tensors[name].shape)
            raise UserError(f'{where}: {name} has shape {found}; it should be {list(shape)}')
        with np.errstate(over='ignore'):  # a double beyond float32 becomes infinite
            finite = np.isfinite(np.asarray(tensors[name], np.float32)).all()
        if not finite:
            raise UserError(f'{where}: {name} holds NaN or infinite numbers')
    for name in tensors:
        if name not in shapes:
            raise UserError(f'{where}: {name:.200} is no parameter of this SqueezeNet')


def refuse_other_types(tensors, where):
    """Raises UserError for numbers that are no floats."""
    for name, value in tensors.items():
        if value.dtype.kind != 'f':
            raise UserError(
                f'{where}: {name:.200} holds {value.dtype} numbers; floats are expected'
            )
