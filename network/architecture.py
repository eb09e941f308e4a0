"""SqueezeNet as a table: what the layers are, in the order and by the names of Caffe's prototxt.

Everything that must know the network without computing it reads this table: the Paddle model, the
Caffe reader and writer, the parameter files, the drawings. It needs no Paddle.

Sources: Iandola et al., "SqueezeNet" (arXiv:1602.07360), table 1 and figure 2, and the files
SqueezeNet_v1.0/train_val.prototxt and SqueezeNet_v1.1/train_val.prototxt of the original release.
"""

from typing import NamedTuple, Optional

VERSIONS = ('1.0', '1.1')
BYPASSES = (None, 'simple', 'complex')

# version: filters and kernel of conv1 (stride 2, no padding), and what a max-pool follows
CONV1 = {'1.0': (96, 7), '1.1': (64, 3)}
POOL_AFTER = {'1.0': ('conv1', 'fire4', 'fire8'), '1.1': ('conv1', 'fire3', 'fire5')}

# name: s1x1 (squeeze filters), e1x1 and e3x3 (expand filters); the paper's table 1
FIRES = {
    'fire2': (16, 64, 64),
    'fire3': (16, 64, 64),
    'fire4': (32, 128, 128),
    'fire5': (32, 128, 128),
    'fire6': (48, 192, 192),
    'fire7': (48, 192, 192),
    'fire8': (64, 256, 256),
    'fire9': (64, 256, 256),
}


class Conv(NamedTuple):
    """One convolution with bias: `stride` 2 for conv1, else 1; no padding."""

    name: str
    in_channels: int
    out_channels: int
    kernel: int
    stride: int


class MaxPool(NamedTuple):
    """3x3 maximum, stride 2, output size rounded up (Caffe: pooling_layer.cpp)."""

    name: str


class Fire(NamedTuple):
    """A fire module. `bypass`: None, 'simple' (adds its input), 'complex' (adds a 1x1 of it)."""

    name: str
    in_channels: int
    s1x1: int
    e1x1: int
    e3x3: int
    bypass: Optional[str]


def check_choice(version, bypass, class_num):
    """Raises ValueError where `stages` could not build what is asked for."""
    if version not in VERSIONS:
        raise ValueError(f'version is {version!r}; it must be one of {", ".join(VERSIONS)}')
    if bypass not in BYPASSES:
        raise ValueError(f"bypass is {bypass!r}; it must be None, 'simple' or 'complex'")
    if isinstance(class_num, bool) or not isinstance(class_num, int) or class_num < 1:
        raise ValueError(f'class_num is {class_num!r:.99}; it must be a whole number of at least 1')


def stages(version='1.1', bypass=None, class_num=1000):
    """The network from input to conv10, as rows: Conv, MaxPool and Fire.

    Simple bypass stands where a module's input and output have the same channels (fire3, 5, 7, 9);
    complex bypass fills the others too (fire2, 4, 6, 8), by 1x1 convolutions (paper, section 6).
    """
    check_choice(version, bypass, class_num)
    channels, kernel = CONV1[version]
    rows = [Conv('conv1', 3, channels, kernel, stride=2)]
    if 'conv1' in POOL_AFTER[version]:
        rows.append(MaxPool('pool1'))
    for name, (s1x1, e1x1, e3x3) in FIRES.items():
        same_width = channels == e1x1 + e3x3
        rows.append(Fire(name, channels, s1x1, e1x1, e3x3, _fire_bypass(bypass, same_width)))
        channels = e1x1 + e3x3
        if name in POOL_AFTER[version]:
            rows.append(MaxPool(name.replace('fire', 'pool')))
    rows.append(Conv('conv10', channels, class_num, kernel=1, stride=1))
    return rows


def _fire_bypass(bypass, same_width):
    if bypass and same_width:
        return 'simple'
    return 'complex' if bypass == 'complex' else None


def parameter_shapes(version='1.1', bypass=None, class_num=1000):
    """{name: shape} of every parameter in Caffe's order; weights are OIHW, biases [O]."""
    shapes = {}

    def add(name, out_channels, in_channels, kernel):
        shapes[f'{name}.weight'] = (out_channels, in_channels, kernel, kernel)
        shapes[f'{name}.bias'] = (out_channels,)

    for row in stages(version, bypass, class_num):
        if isinstance(row, Conv):
            add(row.name, row.out_channels, row.in_channels, row.kernel)
        elif isinstance(row, Fire):
            add(f'{row.name}.squeeze1x1', row.s1x1, row.in_channels, 1)
            add(f'{row.name}.expand1x1', row.e1x1, row.s1x1, 1)
            add(f'{row.name}.expand3x3', row.e3x3, row.s1x1, 3)
            if row.bypass == 'complex':
                add(f'{row.name}.bypass1x1', row.e1x1 + row.e3x3, row.in_channels, 1)
    return shapes


def output_shapes(version, size):
    """{row name: (channels, size, size)} of what a `size` pixels wide and high input becomes.

    A size below 1 means that the input is too small. Convolutions round down, max-pools up.
    """
    shapes = {}
    for row in stages(version):
        if isinstance(row, Conv):
            channels, size = row.out_channels, (size - row.kernel) // row.stride + 1
        elif isinstance(row, MaxPool):
            size = -((3 - size) // 2) + 1  # ceil((size - 3) / 2) + 1
        else:
            channels = row.e1x1 + row.e3x3
        shapes[row.name] = (channels, size, size)
    return shapes


def smallest_input(version):
    """Pixels that an input's height and width must have at least."""
    return next(n for n in range(1, 227) if output_shapes(version, n)['conv10'][1] >= 1)
