"""SqueezeNets of other Paddle projects in `.pdparams` files, by the names of their parameters.

X2Paddle's are Caffe's network under other names. The SqueezeNet of paddle.vision and PaddleClas is
another network: it reads RGB pictures of mean 0 and deviation 1, halves what conv10 reads instead
of scaling in training, rounds pooling down, and its v1.1 pads conv1. What can be computed exactly
in ours is converted; the rest is refused.

Sources: paddle/vision/models/squeezenet.py; X2Paddle's op_mapper for Caffe, which numbers
convolutions (conv0, conv1, ...).
"""

import re

import numpy as np

from common.console import UserError
from models.formats.rgb_statistics import RGB_MEAN, divide_by_deviation
from models.tensors import check_tensors, recognise
from network import architecture
from network.config import make_config
from network.preprocessing import Preprocessing

X2PADDLE = re.compile(r'conv(\d{1,9})\.(weight|bias)')
BY_LAYER = re.compile(
    r'(conv1|conv10|fire[2-9][^a-z0-9](?:squeeze1x1|expand1x1|expand3x3|bypass1x1))\.(weight|bias)'
)
VISION = re.compile(
    r'_conv([1-9]?)((?:\._conv|\._conv_path1|\._conv_path2)\._conv)?\.(weight|bias)'
)
VISION_PARTS = {
    '._conv._conv': '.squeeze1x1',
    '._conv_path1._conv': '.expand1x1',
    '._conv_path2._conv': '.expand3x3',
}


def translate(tensors, where, say):
    """(tensors by our names, (version, bypass, class_num), {what else is known: make_config's}).

    `say` is called with a line on what is assumed. Raises UserError for a network that ours cannot
    compute.
    """
    known = {}
    if tensors and all(VISION.fullmatch(name) for name in tensors):
        tensors, known = _from_vision(tensors, where)
    elif (
        tensors and all(X2PADDLE.fullmatch(name) for name in tensors) and 'conv0.weight' in tensors
    ):
        tensors = _from_numbers(tensors, where)
        say(
            f"{where}: taken for X2Paddle's form of a Caffe network, with Caffe's mean in BGR order"
        )
    elif all(BY_LAYER.fullmatch(name) for name in tensors):
        tensors = {re.sub('[^a-z0-9]', '.', name): value for name, value in tensors.items()}
    return tensors, recognise(tensors, where), known


def _from_numbers(tensors, where):
    """X2Paddle's: convolutions are numbered as Caffe's file has them, which is our order."""
    numbers = sorted({int(X2PADDLE.fullmatch(name)[1]) for name in tensors})
    layers = [name[: -len('.bias')] for name in architecture.parameter_shapes() if 'bias' in name]
    if len(numbers) != len(layers):
        raise UserError(
            f'{where}: holds {len(numbers)} numbered convolutions (conv0.weight ...); a SqueezeNet '
            f'without complex bypass has {len(layers)}'
        )
    layer_of = dict(zip(numbers, layers))
    found = (X2PADDLE.fullmatch(name).groups() for name in tensors)
    return {
        f'{layer_of[int(number)]}.{kind}': value
        for (number, kind), value in zip(found, tensors.values())
    }


def _from_vision(tensors, where):
    named = {}
    for name, value in tensors.items():
        number, part, kind = VISION.fullmatch(name).groups()
        layer = 'conv1' if not number else 'conv10' if number == '9' else f'fire{int(number) + 1}'
        named[f'{layer}{VISION_PARTS.get(part, "")}.{kind}'] = value
    recognised = version, _, _ = recognise(named, where)
    check_tensors(named, make_config(*recognised), where)
    if version == '1.1':
        raise UserError(
            f'{where}: is the v1.1 of paddle.vision or PaddleClas, another network than the '
            'original: its conv1 is padded and its max-pools round down, which ours computes not'
        )
    named['conv1.weight'] = divide_by_deviation(named['conv1.weight'])
    named['conv10.weight'] = named['conv10.weight'] * np.float32(0.5)
    # At 227 pixels every max-pool's input is odd, so that rounding down or up is the same.
    preprocessing = Preprocessing(crop=227, mean=RGB_MEAN, channel_order='RGB')
    return named, {'preprocessing': preprocessing, 'conv10_pad': 0, 'conv10_relu': True}
