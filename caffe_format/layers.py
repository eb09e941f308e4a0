"""A SqueezeNet in Caffe's words: its layers as messages, and what the layers of a file compute."""

from caffe_format.proto import NetParameter, kind_of, layers_of, name_of
from network import architecture

MOST_INPUTS = 32  # of one layer; Concat and Eltwise have two in a SqueezeNet
LONGEST_EXPRESSION = 500  # bounds what a crafted file makes of `trace`; ours stay below 160


def net_label(version, bypass):
    return f'SqueezeNet v{version}' + (f' with {bypass} bypass' if bypass else '')


def build_net(version, bypass, class_num, conv10_pad=0, conv10_relu=True, size=227):
    """A NetParameter with the original's layers, without weights; `conv10_pad` is 0 or 1.

    Input `data` [1, 3, size, size], output `prob`; ReLUs and dropout work in place.
    """
    net = NetParameter(name=net_label(version, bypass).encode())
    blob = 'data'
    shape = {'dim': [1, 3, size, size]}
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
            conv10 = {'pad': conv10_pad, 'relu': conv10_relu}
            blob = _add_conv(net, row.name, blob, row.out_channels, row.kernel, **conv10)
    settings = {'pool': 'AVE', 'global_pooling': True}
    blob = _add(net, 'Pooling', 'pool10', [blob], pooling_param=settings)
    _add(net, 'Softmax', 'prob', [blob])
    return net


def convolutions_of(net):
    """{layer index: name} of a network of ours."""
    return {i: name_of(row) for i, row in enumerate(net.layer) if kind_of(row) == 'Convolution'}


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


def trace(net, computed, whole=None):
    """What each layer reads and computes, written as expressions of the convolutions' results.

    `computed` is {layer index: expression}, of the convolutions at least. Returns two lists with an
    item per layer. v1.1's pool3, say, computes 'MAX pool 3x3 stride 2x2(concat(
    ReLU(fire3/expand1x1), ReLU(fire3/expand3x3)))', on one line. Whatever has no input, a data
    layer say, computes 'data'. ReLUs are written behind the convolutions, wherever that is equal.
    """
    blobs = dict.fromkeys([*net.input, b'data'], 'data')  # some tools drop the data layers
    reads, computes = [], []
    for index, layer in enumerate(layers_of(net)):
        inputs = [blobs.get(name, 'an unknown blob') for name in layer.bottom[:MOST_INPUTS]]
        if not inputs:
            result = 'data'
        elif index in computed:
            result = computed[index]
        elif kind_of(layer) in ('Dropout', 'Split'):  # dropout does nothing outside training
            result = inputs[0]
        else:
            result = _expression(_operation(layer, whole), inputs)
        reads.append(', '.join(inputs)[:LONGEST_EXPRESSION])
        computes.append(result)
        blobs.update(dict.fromkeys(layer.top, result))
    return reads, computes


def _expression(operation, inputs):
    if operation == 'sum':
        inputs = sorted(inputs)
    text = _rectified(inputs[0]) if operation == 'ReLU' else f'{operation}({", ".join(inputs)})'
    return text if len(text) <= LONGEST_EXPRESSION else f'{operation}(...)'


def _rectified(text):
    """ReLU of an expression. It is monotone, so that it may stand before maxima and concat, too."""
    operation, _, inside = text.partition('(')
    inside = inside[:-1]
    if operation == 'ReLU':
        return text
    if operation.startswith('MAX pool'):
        return f'{operation}({_rectified(inside)})'
    if operation == 'concat':
        return f'concat({", ".join(map(_rectified, _parts(inside)))})'
    return f'ReLU({text})'


def _parts(inside):
    """An operation's inputs, which may hold commas themselves."""
    parts, depth = [''], 0
    for letter in inside:
        depth += (letter == '(') - (letter == ')')
        if letter == ',' and not depth:
            parts.append('')
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _operation(layer, whole):
    """The layer's type, in words that differ where the results do."""
    kind = kind_of(layer)
    if kind == 'Pooling':
        return _pooling(layer.pooling_param, whole)
    if kind == 'Concat':
        channels = layer.concat_param.axis == 1 and layer.concat_param.concat_dim == 1
        return 'concat' if channels else 'concat of another axis'
    if kind == 'Eltwise':
        param = layer.eltwise_param
        plain = param.operation == param.SUM and not set(param.coeff) - {1.0}
        return 'sum' if plain else 'Eltwise other than a plain sum'
    if kind == 'ReLU' and layer.relu_param.negative_slope:
        return 'leaky ReLU'
    if kind == 'Softmax' and layer.softmax_param.axis not in (1, -3):
        return 'Softmax of another axis'
    if kind in ('ReLU', 'Softmax'):
        return kind
    return f'{kind.replace("(", " ").replace(")", " ")} layer'  # none that could pass for ours


def _pooling(param, whole):
    method = param.PoolMethod.Name(param.pool)
    if param.global_pooling:
        return 'mean' if method == 'AVE' else f'global {method} pool'
    kernel, stride, pad = pooling_window(param)
    if method == 'AVE' and kernel == (whole, whole) and pad == (0, 0):
        return 'mean'
    words = f'{method} pool {show_shape(kernel)} stride {show_shape(stride)}'
    if pad != (0, 0):
        words += f' pad {show_shape(pad)}'
    if param.round_mode == param.FLOOR:
        words += ' rounded down [field 13, which --ceil_mode reads the other way]'
    return words


def pooling_window(param):
    """((h, w) of kernel, of stride, of pad)"""
    pairs = ('kernel_size', 'kernel', 1), ('stride', 'stride', 1), ('pad', 'pad', 0)
    return tuple(_pair(param, *names) for names in pairs)


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


def use_square_kernels(param):
    """Say kernel, stride and pad of a convolution or pooling in one number each, where that can be.

    Caffe takes kernel_h and kernel_w as well; others (OpenCV's importer, our comparison) do not.
    """
    for name, stem, default in (('kernel_size', 'kernel', 0), ('stride', 'stride', 1)):
        _use_one(param, name, stem, default)
    _use_one(param, 'pad', 'pad', 0)


def _use_one(param, name, stem, default):
    height, width = _pair(param, name, stem, default)
    if height != width or not (param.HasField(f'{stem}_h') or param.HasField(f'{stem}_w')):
        return
    param.ClearField(f'{stem}_h')
    param.ClearField(f'{stem}_w')
    if isinstance(getattr(param, name), int):
        setattr(param, name, height)
    else:
        getattr(param, name)[:] = [height]


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
