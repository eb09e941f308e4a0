"""BatchNorm and Scale behind a convolution, which outside training are one convolution with it."""

import numpy as np

from caffe_format.blobs import blob_array, blob_shape, where
from caffe_format.proto import kind_of, layers_of
from common.console import UserError

KINDS = ('BatchNorm', 'Scale')


def chains_behind(net, convolutions):
    """{index of a convolution: [indices of the BatchNorm and Scale layers behind it, in order]}.

    `convolutions`: indices of layers. A layer is behind a convolution if it reads nothing else.
    """
    chains = {index: [] for index in convolutions}
    makers = {}  # blob: the convolution whose chain computed it last
    for index, layer in enumerate(layers_of(net)):
        maker = None
        if index in chains:
            maker = index
        elif kind_of(layer) in KINDS and len(layer.bottom) == 1:
            maker = makers.get(layer.bottom[0])
            if maker is not None:
                chains[maker].append(index)
        makers.update(dict.fromkeys(layer.top, maker))
    return {index: chain for index, chain in chains.items() if chain}


def expressions(convolutions, chains):
    """What `layers.trace` needs: a chain's last layer computes what its convolution's name says.

    `convolutions` is {layer index: name}. Whoever reads inside a chain reads another thing.
    """
    computed = dict(convolutions)
    for index, chain in chains.items():
        for number, inside in enumerate([index, *chain[:-1]]):
            computed[inside] = f'{convolutions[index]} after {number} of its {len(chain)} scalings'
        computed[chain[-1]] = convolutions[index]
    return computed


def fold(weight, bias, layers, path):
    """(weight OIHW, bias [O]) of the convolution that equals this one and the `layers` behind it.

    Computed in float64, rounded once to float32. Raises UserError for what is no such layer.
    """
    weight, bias = weight.astype(np.float64), bias.astype(np.float64)
    for layer in layers:
        read = _batch_norm if kind_of(layer) == 'BatchNorm' else _scale
        factor, offset = read(layer, len(bias), where(path, layer))
        weight *= factor.reshape(-1, 1, 1, 1)
        bias = bias * factor + offset
    with np.errstate(over='ignore'):  # infinities are for the caller to refuse
        return weight.astype(np.float32), bias.astype(np.float32)


def _batch_norm(layer, channels, place):
    """(factor, offset) of y = (x - mean) / sqrt(variance + eps): batch_norm_layer.cpp."""
    if len(layer.blobs) != 3:
        raise UserError(
            f'{place}: this BatchNorm has {len(layer.blobs)} blobs; '
            "BVLC's has mean, variance and their factor"
        )
    mean, variance, (scale,) = (
        _numbers(blob, count, place) for blob, count in zip(layer.blobs, (channels, channels, 1))
    )
    scale = 1 / scale if scale else 0.0
    deviation = np.sqrt(np.maximum(variance * scale, 0) + layer.batch_norm_param.eps)
    if not (np.isfinite(deviation).all() and deviation.all()):
        raise UserError(f'{place}: its variance cannot be divided by')
    return 1 / deviation, -mean * scale / deviation


def _scale(layer, channels, place):
    """(factor, offset) of a Scale layer with one number a channel: scale_layer.cpp."""
    param = layer.scale_param
    if param.axis not in (1, -3) or param.num_axes != 1 or len(layer.blobs) not in (1, 2):
        raise UserError(f'{place}: this Scale is not one number a channel')
    numbers = [_numbers(blob, channels, place) for blob in layer.blobs]
    return numbers[0], numbers[1] if len(numbers) == 2 else np.zeros(channels)


def _numbers(blob, count, place):
    shape = blob_shape(blob, place)
    values = blob_array(blob).astype(np.float64)
    if len(values) != count:
        raise UserError(
            f'{place}: a blob of {len(values)} numbers (shape {list(shape)[:4]}) '
            f'stands where {count} are needed'
        )
    if not np.isfinite(values).all():
        raise UserError(f'{place} holds NaN or numbers beyond float32')
    return values
