"""SqueezeNet v1.0 and v1.1 with their bypass variants, as Caffe computes them, in Paddle.

`architecture.stages` is the table of the network; this module says how each row is computed. What
differs from the SqueezeNet of paddle.vision, so that Caffe's weights give Caffe's results: conv1 is
not padded, max-pools round their output size up, and conv10 is followed by a ReLU.
"""

import math

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.autograd import PyLayer

from network import architecture


class Conv(nn.Conv2D):
    """Convolution. `filler` is Caffe's weight_filler: 'xavier', or 'gaussian' 0.01."""

    def __init__(self, in_channels, out_channels, kernel, stride=1, padding=0, filler='xavier'):
        super().__init__(
            in_channels,
            out_channels,
            kernel,
            stride,
            padding,
            weight_attr=_weight_filler(filler, fan_in=in_channels * kernel * kernel),
            bias_attr=nn.initializer.Constant(0.0),
        )

        self.stride, self.padding = stride, padding

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        # The same, but faster: a bias of [C, 1, 1] takes another kernel than conv2d's own.
        x = F.conv2d(x, self.weight, None, self.stride, self.padding)
        if x.place.is_cpu_place() and x.dtype == self.bias.dtype:
            return AddBias.apply(x, self.bias)
        return x.add_(self.bias.reshape([-1, 1, 1]).astype(x.dtype))


class AddBias(PyLayer):
    """x [N, C, H, W] + bias [C], in place.

    The bias's gradient is a product with ones, which takes a CPU a fifth of the sum's time.
    """

    @staticmethod
    def forward(_, x, bias):
        return x.add_(bias.reshape([-1, 1, 1]))

    @staticmethod
    def backward(_, gradient):
        places = gradient.flatten(2)
        ones = paddle.ones([places.shape[2], 1])
        return gradient, paddle.matmul(places, ones).sum([0, 2])


class ConvReLU(Conv):
    """Convolution, then ReLU."""

    def forward(self, x):
        x = super().forward(x)
        return F.relu_(x) if self.training else F.relu(x)


class MaxPool(nn.Layer):
    """Maximum of 3x3, stride 2; the output size is rounded up (Caffe: pooling_layer.cpp)."""

    def forward(self, x):
        if not self.training:
            return F.max_pool2d(x, 3, 2, ceil_mode=True)
        # The gradient is faster where the places of the maxima are remembered.
        return F.max_pool2d(x, 3, 2, ceil_mode=True, return_mask=True)[0]


def _weight_filler(filler, fan_in):
    if filler == 'gaussian':
        return nn.initializer.Normal(0.0, 0.01)
    bound = math.sqrt(3.0 / fan_in)  # Caffe: filler.hpp, XavierFiller, counts the inputs alone
    return nn.initializer.Uniform(-bound, bound)


class Fire(nn.Layer):
    """Fire module: `s1x1` 1x1 filters squeeze, `e1x1` 1x1 and `e3x3` 3x3 filters expand.

    [N, in_channels, H, W] -> [N, e1x1 + e3x3, H, W]. The rule s1x1 < e1x1 + e3x3 makes it squeeze
    (paper, section 3.2). `bypass` 'simple' adds the input, 'complex' a 1x1 convolution of it
    without ReLU (section 6). Raises ValueError for numbers that make no fire module.
    """

    def __init__(self, in_channels, s1x1, e1x1, e3x3, bypass=None):
        super().__init__()
        if s1x1 >= e1x1 + e3x3:
            raise ValueError(f's1x1 = {s1x1} must be below e1x1 + e3x3 = {e1x1 + e3x3}')
        if bypass not in architecture.BYPASSES:
            raise ValueError(f"bypass is {bypass!r}; it must be None, 'simple' or 'complex'")
        if bypass == 'simple' and in_channels != e1x1 + e3x3:
            raise ValueError(
                f'simple bypass needs as many channels in ({in_channels}) as out ({e1x1 + e3x3})'
            )
        self.bypass = bypass
        self.squeeze1x1 = ConvReLU(in_channels, s1x1, 1)
        self.expand1x1 = ConvReLU(s1x1, e1x1, 1)
        self.expand3x3 = ConvReLU(s1x1, e3x3, 3, padding=1)
        if bypass == 'complex':
            self.bypass1x1 = Conv(in_channels, e1x1 + e3x3, 1)

    def forward(self, x):
        squeezed = self.squeeze1x1(x)
        expanded = paddle.concat([self.expand1x1(squeezed), self.expand3x3(squeezed)], axis=1)
        if self.bypass == 'simple':
            return expanded + x
        if self.bypass == 'complex':
            return expanded + self.bypass1x1(x)
        return expanded


class SqueezeNet(nn.Layer):
    """Logits [N, class_num] of float32 pictures [N, 3, H, W]: BGR, 0..255 minus the mean.

    `version` '1.0' (the paper's) or '1.1' (2.4x less computation); `bypass` None, 'simple' or
    'complex'; `dropout` is the probability with which a value before conv10 is dropped in training
    (or a layer that does so).
    `conv10_pad` 1 surrounds conv10's input by zeros, as the original release's v1.0 does;
    `conv10_relu` False leaves out the ReLU behind conv10, which is better for fine-tuning.
    Raises ValueError for other choices, and in forward for pictures too small (see `smallest`).

    >>> SqueezeNet('1.1')(paddle.zeros([1, 3, 227, 227])).shape
    [1, 1000]
    """

    def __init__(
        self,
        version='1.1',
        bypass=None,
        class_num=1000,
        dropout=0.5,
        conv10_pad=0,
        conv10_relu=True,
    ):
        super().__init__()
        self.stages = architecture.stages(version, bypass, class_num)
        self.smallest = architecture.smallest_input(version)
        for row in self.stages:
            self.add_sublayer(row.name, _build(row, conv10_pad, conv10_relu))
        # Caffe's: scales in training, does nothing in evaluation
        self.dropout = dropout if isinstance(dropout, nn.Layer) else nn.Dropout(dropout)

    def forward(self, x):
        return self.classify(self.features(x))

    def features(self, x, end_layer='fire9'):
        """The output of layer `end_layer` (a row's name): [N, C, H, W]."""
        self._check_size(x)
        for row in self.stages:
            x = self._sub_layers[row.name](x)
            if row.name == end_layer:
                return x
        raise ValueError(f'no layer is called {end_layer}')

    def classify(self, x, after='fire9'):
        """From the output of layer `after` on: dropout, conv10, the mean over all positions."""
        names = [row.name for row in self.stages]
        for name in names[names.index(after) + 1 :]:
            if name == 'conv10':
                x = self.dropout(x)
            x = self._sub_layers[name](x)
        return self.average(x)

    def average(self, x):
        """conv10's output [N, class_num, h, w] -> logits [N, class_num], the mean of all places."""
        return F.adaptive_avg_pool2d(x, 1).flatten(1)

    def _check_size(self, x):
        height, width = x.shape[2:]
        if 0 < min(height, width) < self.smallest:
            raise ValueError(
                f'pictures of {height}x{width} are too small; '
                f'both sides must be at least {self.smallest} pixels'
            )


def _build(row, conv10_pad, conv10_relu):
    if isinstance(row, architecture.MaxPool):
        return MaxPool()
    if isinstance(row, architecture.Fire):
        return Fire(row.in_channels, row.s1x1, row.e1x1, row.e3x3, row.bypass)
    shape = row.in_channels, row.out_channels, row.kernel, row.stride
    if row.name == 'conv10':
        kind = ConvReLU if conv10_relu else Conv
        return kind(*shape, padding=conv10_pad, filler='gaussian')
    return ConvReLU(*shape)


def blobs(network, images):
    """Every intermediate result of pictures [N, 3, H, W] by the name of Caffe's blob.

    Returns {name: float32 array} in Caffe's order: conv1, pool1, fire2/squeeze1x1, fire2/expand1x1,
    fire2/expand3x3, fire2/concat, (fire2/bypass1x1, fire2/bypass: the sum), ..., conv10, pool10
    [N, class_num, 1, 1] and prob. In Caffe the ReLUs work in place: all blobs but bypass1x1 are
    after theirs. The network is left in evaluation mode.
    """
    found = {}

    def keep(name, layer):
        def hook(_, __, output):
            if not isinstance(layer, Fire):
                found[name] = output.numpy()
                return
            expands = [found[f'{name}/expand{kernel}'] for kernel in ('1x1', '3x3')]
            found[f'{name}/concat'] = np.concatenate(expands, axis=1)
            if layer.bypass:
                found[f'{name}/bypass'] = output.numpy()

        return layer.register_forward_post_hook(hook)

    named = network.named_sublayers()
    hooks = [keep(name.replace('.', '/'), layer) for name, layer in named if name != 'dropout']
    network.eval()
    with paddle.no_grad():
        logits = network(paddle.to_tensor(images))
    for hook in hooks:
        hook.remove()
    found['pool10'] = logits.unsqueeze([2, 3]).numpy()
    found['prob'] = F.softmax(logits, axis=1).unsqueeze([2, 3]).numpy()
    return found
