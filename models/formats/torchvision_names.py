"""torchvision's SqueezeNets, in `.safetensors` files with the names of its state_dict.

They are Caffe's networks layer by layer: nothing pads conv1 or conv10, max-pools round up, a ReLU
follows conv10. `features` counts its modules, so that conv1 is 0, its ReLU 1, and each max-pool and
fire module one more; conv10 is `classifier.1`.

Source: torchvision/models/squeezenet.py, and transforms/_presets.py for the pictures.
"""

import re
from collections.abc import Callable

import numpy as np

from common.console import UserError
from models.formats.rgb_statistics import RGB_MEAN, divide_by_deviation
from models.tensors import check_tensors, recognise
from network import architecture
from network.config import make_config
from network.preprocessing import Preprocessing

# Whatever wraps the network puts its own name before: `module.`, `_orig_mod.`, `model.`.
NAME = re.compile(
    r'(.*?)(?:features\.(\d{1,4})(?:\.(squeeze|expand1x1|expand3x3))?|classifier\.1)'
    r'\.(weight|bias)'
)
PARTS = {'squeeze': '.squeeze1x1', 'expand1x1': '.expand1x1', 'expand3x3': '.expand3x3', None: ''}
# weights.transforms() of both versions
PREPROCESSING = Preprocessing('short', 256, crop=224, mean=RGB_MEAN, channel_order='RGB')


def are_torchvisions(tensors: dict) -> bool:
    """Whether the names, the same prefix apart, are those of a torchvision SqueezeNet."""
    matches = [NAME.fullmatch(name) for name in tensors]
    return bool(matches) and all(matches) and len({match[1] for match in matches}) == 1


def translate(
    tensors: dict[str, np.ndarray], where: object, say: Callable[[str], None]
) -> tuple[dict[str, np.ndarray], tuple, dict]:
    """(tensors by our names for pixels minus the mean, recognise's, what else make_config takes).

    `say` is called with the line on what the file leaves open. Raises UserError.
    """
    named = {}
    layers = _layers(_version(tensors, where))
    for name, value in tensors.items():
        _, number, part, kind = NAME.fullmatch(name).groups()
        layer = layers.get(int(number) if number else 'classifier')
        if layer is None:
            raise UserError(f'{where}: {name:.200} is no parameter of this SqueezeNet')
        named[f'{layer}{PARTS[part]}.{kind}'] = value
    recognised = recognise(named, where)
    check_tensors(named, make_config(*recognised), where)
    named['conv1.weight'] = divide_by_deviation(named['conv1.weight'])
    say(
        f"{where}: torchvision's SqueezeNet; assuming its preprocessing: RGB with ImageNet's mean "
        'and deviations, short side to 256, crop of 224 (torchvision resizes with antialiasing, '
        'which is not done here)'
    )
    return named, recognised, {'preprocessing': PREPROCESSING, 'conv10_pad': 0}


def _version(tensors: dict, where: object) -> str:
    """By conv1's shape, whatever its prefix."""
    shapes = {architecture.parameter_shapes(v)['conv1.weight']: v for v in architecture.VERSIONS}
    found = [value.shape for name, value in tensors.items() if name.endswith('features.0.weight')]
    if not found or found[0] not in shapes:
        known = ' or '.join(f'{list(shape)} (v{version})' for shape, version in shapes.items())
        shown = list(found[0]) if found else 'missing'
        raise UserError(f'{where}: features.0.weight is {shown}; it should be {known}')
    return shapes[found[0]]


def _layers(version: str) -> dict:
    """{number in `features`, or 'classifier': our name of the module}."""
    conv1, *rows, conv10 = architecture.stages(version)
    numbered = {number: row.name for number, row in enumerate(rows, 2) if 'fire' in row.name}
    return {0: conv1.name, **numbered, 'classifier': conv10.name}
