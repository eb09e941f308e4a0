"""A SqueezeNet in Caffe's words: its layers as messages, and what the layers of a file compute."""

from caffe_format.messages import NetParameter, kind_of, layers_of
from network import architecture

MOST_INPUTS = 32  # of one layer; Concat and Eltwise have two in a SqueezeNet
LONGEST_EXPRESSION = 500  # bounds what a crafted file makes of `trace`; ours stay below 160


def net_label(version, bypass):
    return f'SqueezeNet v{version}' + (f' with {bypass} bypass' if bypass else '')


def build_net(version, bypass, class_num, conv10_pad=0, size=227, batch=1):
    """A NetParameter with the original's layers, without weights; `conv10_pad` is 0 or 1.

    Input `data` [batch, 3, size, size], output `prob`; ReLUs and dropout work in place.
    """
    net = NetParameter(name=net_label(version, bypass).encode())
    blob = 'data'
    shape = {'dim': [batch, 3, size, size]}
    _add(net, 'Input', blob, [], input_param={'shape': [shape]})
    for row in architecture.stages(version, bypass, class_num):
        if isinstance(row, architecture.MaxPool):
            settings = {'pool': 'MAX', 'kernel_size': 3, 'stride': 2}
            blob = _add(net, 'Pooling', row.name, [blob], pooling_param=settings)
        elif isinstance(row, architecture.Fire):
            blob = _add_fire(net, row, blob)
        elif row.name == 'conv1':
            blob = _add_conv(net, row.name, blob, row.out_channels, row.kernel, stride=row.stride)
        else:
            _add(net, 'Dropout', 'drop9', [blob], blob, dropout_param={'dropout_ratio': 0.5})
            blob = _add_conv(net, row.name, blob, row.out_channels, row.kernel, pad=conv10_pad)
    settings = {'pool': 'AVE', 'global_pooling': True}
    blob = _add(net, 'Pooling', 'pool10', [blob], pooling_param=settings)
    _add(net, 'Softmax', 'prob', [blob])
    return net


def _add_fire(net, row, blob):
    """Squeeze, expand and bypass; returns the name of the blob that goes on."""
    name, filters = row.name, row.e1x1 + row.e3x3
    squeezed = _add_conv(net, f'{name}/squeeze1x1', blob, row.s1x1, 1)
    expanded = [
        _add_conv(net, f'{name}/expand1x1', squeezed, row.e1x1, 1),
        _add_conv(net, f'{name}/expand3x3', squeezed, row.e3x3, 3, pad=1),
    ]
    out = _add(net, 'Concat', f'{name}/concat', expanded)
    if row.bypass == 'complex':
        blob = _add_conv(net, f'{name}/bypass1x1', blob, filters, 1, relu=False)
    return _add(net, 'Eltwise', f'{name}/bypass', [out, blob]) if row.bypass else out


def _add_conv(net, name, bottom, filters, kernel, stride=1, pad=0, relu=True):
    settings = {'num_output': filters, 'kernel_size': [kernel]}
    if pad:
        settings['pad'] = [pad]
    if stride > 1:
        settings['stride'] = [stride]
    _add(net, 'Convolution', name, [bottom], convolution_param=settings)
    if relu:
        module, slash, part = name.rpartition('/')
        _add(net, 'ReLU', f'{module}{slash}relu_{part}', [name], name)
    return name


def _add(net, kind, name, bottoms, top=None, **settings):
    bottoms, tops = [bottom.encode() for bottom in bottoms], [(top or name).encode()]
    net.layer.add(name=name.encode(), type=kind.encode(), bottom=bottoms, top=tops, **settings)
    return top or name


def trace(net, convolutions):
    """What each layer reads and computes, written as expressions of the convolutions' results.

    `convolutions` is {layer index: name to use}. Returns two lists with an item per layer. v1.1's
    pool3, say, computes 'MAX pool 3x3 stride 2x2(concat(ReLU(fire3/expand1x1),
    ReLU(fire3/expand3x3)))'. Whatever has no input, a data layer say, computes 'data'.
    """
    blobs = dict.fromkeys(net.input, 'data')
    reads, computes = [], []
    for index, layer in enumerate(layers_of(net)):
        inputs = [blobs.get(name, 'an unknown blob') for name in layer.bottom[:MOST_INPUTS]]
        if not inputs:
            result = 'data'
        elif index in convolutions:
            result = convolutions[index]
        elif kind_of(layer) in ('Dropout', 'Split'):  # dropout does nothing outside training
            result = inputs[0]
        else:
            result = _expression(_operation(layer), inputs)
        reads.append(', '.join(inputs)[:LONGEST_EXPRESSION])
        computes.append(result)
        blobs.update(dict.fromkeys(layer.top, result))
    return reads, computes


def _expression(operation, inputs):
    if operation == 'sum':
        inputs = sorted(inputs)
    text = f'{operation}({", ".join(inputs)})'
    return text if len(text) <= LONGEST_EXPRESSION else f'{operation}(...)'


def _operation(layer):
    """The layer's type, in words that differ where the results do."""
    kind = kind_of(layer)
    if kind == 'Pooling':
        return _pooling(layer.pooling_param)
    if kind == 'Concat':
        channels = layer.concat_param.axis == 1 and layer.concat_param.concat_dim == 1
        return 'concat' if channels else 'concat of another axis'
    if kind == 'Eltwise':
        param = layer.eltwise_param
        plain = param.operation == param.SUM and not set(param.coeff) - {1.0}
        return 'sum' if plain else 'Eltwise other than a plain sum'
    if kind == 'ReLU' and layer.relu_param.negative_slope:
        return 'leaky ReLU'
    return kind


def _pooling(param):
    method = param.PoolMethod.Name(param.pool)
    if param.global_pooling:
        return 'mean' if method == 'AVE' else f'global {method} pool'
    kernel = _pair(param, 'kernel_size', 'kernel', 1)
    stride, pad = _pair(param, 'stride', 'stride', 1), _pair(param, 'pad', 'pad', 0)
    words = f'{method} pool {show_shape(kernel)} stride {show_shape(stride)}'
    if pad != (0, 0):
        words += f' pad {show_shape(pad)}'
    return words + (' rounded down' if param.round_mode == param.FLOOR else '')


def convolution_settings(param):
    """All of a ConvolutionParameter that the weights do not show, in words."""
    stride = show_shape(_pair(param, 'stride', 'stride', 1))
    dilation = show_shape(sorted(set(param.dilation) or {1})[:2])
    return (
        f'stride {stride}, pad {convolution_pad(param)}, group {param.group}, dilation {dilation}'
    )


def convolution_pad(param):
    """'1x1', say: rows and columns added at each side."""
    return show_shape(_pair(param, 'pad', 'pad', 0))


def _pair(param, name, stem, default):
    """(vertical, horizontal) of a setting given once, as repeated values, or as stem_h, stem_w."""
    if param.HasField(f'{stem}_h') or param.HasField(f'{stem}_w'):
        return getattr(param, f'{stem}_h'), getattr(param, f'{stem}_w')
    value = getattr(param, name)
    values = (value,) if isinstance(value, int) else tuple(value[:2])
    return (values * 2)[:2] or (default, default)


def show_shape(shape):
    """'64x3x3x3'"""
    return 'x'.join(map(str, shape[:8])) + ('x...' if len(shape) > 8 else '') or 'scalar'
