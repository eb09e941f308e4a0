"""SqueezeNet in NumPy alone: for compression, and for a few pictures, done before Paddle has begun.

Activations are float32 [N, H, W, C], so that a convolution is a matrix product, which NumPy leaves
to BLAS. Results differ from Paddle's in the last digits, as sums in another order do.
"""

from typing import NamedTuple

import numpy as np

from network import architecture


class Conv(NamedTuple):
    """How a convolution is computed; `relu` is whether one follows it."""

    name: str
    kernel: int
    stride: int
    padding: int
    relu: bool


class NumpyNetwork:
    """float32 pictures [N, 3, H, W] -> float32 logits [N, class_num], or what layer `end_layer`
    (a row's name) gives, [N, C, H', W'].

    One picture is computed after another, so that its result depends on it alone.
    """

    def __init__(self, tensors, config, end_layer=None):
        self.tensors, self.end_layer = tensors, end_layer
        self.rows = architecture.stages(config['version'], config['bypass'], config['class_num'])
        self.convs = convolutions(config)

    def __call__(self, images):
        with np.errstate(over='ignore', invalid='ignore'):  # whoever asked sees it in the result
            return np.concatenate([self._compute(image[np.newaxis]) for image in images])

    def _compute(self, image):
        x = np.ascontiguousarray(image.transpose(0, 2, 3, 1))
        for row in self.rows:
            if isinstance(row, architecture.MaxPool):
                x = max_pool(x)
            elif isinstance(row, architecture.Fire):
                x = self._fire(row, x)
            else:
                x = self._convolve(row.name, x)
            if row.name == self.end_layer:
                return x.transpose(0, 3, 1, 2)
        return x.mean(axis=(1, 2))

    def _fire(self, row, x):
        squeezed = self._convolve(f'{row.name}.squeeze1x1', x)
        narrow = self._convolve(f'{row.name}.expand1x1', squeezed)
        wide = self._convolve(f'{row.name}.expand3x3', squeezed)
        beside = self._convolve(f'{row.name}.bypass1x1', x) if row.bypass == 'complex' else x
        return join(row, narrow, wide, beside)

    def _convolve(self, name, x):
        weight, bias = self.tensors[f'{name}.weight'], self.tensors[f'{name}.bias']
        return convolve(x, weight, bias, self.convs[name])


def convolutions(config):
    """{name: Conv} of each convolution, in the network's order."""
    found = {}
    for row in architecture.stages(config['version'], config['bypass'], config['class_num']):
        if isinstance(row, architecture.Conv):
            found[row.name] = Conv(row.name, row.kernel, row.stride, 0, True)
        elif isinstance(row, architecture.Fire):
            for part, kernel in (('squeeze1x1', 1), ('expand1x1', 1), ('expand3x3', 3)):
                name = f'{row.name}.{part}'
                found[name] = Conv(name, kernel, 1, kernel // 2, True)
            if row.bypass == 'complex':
                name = f'{row.name}.bypass1x1'
                found[name] = Conv(name, 1, 1, 0, False)
    pad, relu = config['conv10_pad'], config.get('conv10_relu', True)
    found['conv10'] = found['conv10']._replace(padding=pad, relu=relu)
    return found


def convolve(x, weight, bias, conv):
    """The convolution and its ReLU, of float32 [N, H, W, C]; `weight` is OIHW."""
    matrix = weight.transpose(2, 3, 1, 0).reshape(-1, len(bias))
    seen = columns(x, conv)
    made = seen.reshape(-1, len(matrix)) @ matrix
    made += bias
    if conv.relu:
        np.maximum(made, 0, out=made)
    return made.reshape(*seen.shape[:3], -1)


def columns(x, conv):
    """What each place of the output is made from: [N, H', W', kernel * kernel * C]."""
    kernel, stride, padding = conv.kernel, conv.stride, conv.padding
    if padding:
        x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    if kernel == 1:
        return x
    count, height, width, channels = x.shape
    high, wide = (height - kernel) // stride + 1, (width - kernel) // stride + 1
    found = np.empty((count, high, wide, kernel * kernel, channels), np.float32)
    for place in range(kernel * kernel):
        down, right = divmod(place, kernel)
        found[:, :, :, place] = x[:, down::stride, right::stride][:, :high, :wide]
    return found.reshape(count, high, wide, -1)


def max_pool(x):
    """3x3, stride 2, the output size rounded up, of float32 [N, H, W, C]."""
    count, height, width, channels = x.shape
    high, wide = -((3 - height) // 2) + 1, -((3 - width) // 2) + 1
    found = np.full((count, high, wide, channels), -np.inf, np.float32)
    for down in range(3):
        for right in range(3):
            part = x[:, down::2, right::2][:, :high, :wide]
            target = found[:, : part.shape[1], : part.shape[2]]
            np.maximum(target, part, out=target)
    return found


def join(row, narrow, wide, beside):
    """What a fire module makes of its two expands, and of its bypass, where it has one."""
    whole = np.concatenate([narrow, wide], axis=3)
    return whole + beside if row.bypass else whole
