"""What differs between Caffe's forks in pooling: field 13, and averages by an explicit window."""

from caffe_format.layers import pooling_window
from caffe_format.proto import kind_of, layers_of
from network import architecture

UP, DOWN = 0, 1  # BVLC's round_mode, CEIL and FLOOR


def settle_rounding(net, version, size, conv10_pad, ceil_mode):
    """Bring field 13 of pooling layers to BVLC's meaning, in place; returns lines for the user.

    In BVLC Caffe it is round_mode (0 up, 1 down), in forks and in OpenCV ceil_mode (1 up, 0 down);
    the file does not tell which. `ceil_mode`: the user says that it is the latter. Where it makes
    no difference for pictures of `size` pixels, or where the window of the last average fits but
    one of the two, that decides.
    """
    told = [
        layer.pooling_param
        for layer in layers_of(net)
        if kind_of(layer) == 'Pooling' and layer.pooling_param.HasField('round_mode')
    ]
    if not told:
        return []
    if ceil_mode:
        for param in told:
            param.round_mode = 1 - param.round_mode
        return []
    if _exact(version, size):
        _set_all(told, UP)
        return [f'field 13 of pooling makes no difference for pictures of {size}x{size}']
    rounded = _evidence(net, version, size, conv10_pad)
    if rounded is not None and len({param.round_mode for param in told}) == 1:
        _set_all(told, rounded)
        return []
    if any(param.round_mode == DOWN for param in told):
        return []  # another network; what refuses it names the flag
    return [
        'field 13 of pooling is 0: read as round_mode: CEIL of BVLC Caffe (a fork would mean '
        'ceil_mode: false, another network; --ceil_mode reads it so)'
    ]


def _set_all(params, rounded):
    for param in params:
        param.round_mode = rounded


def _evidence(net, version, size, conv10_pad):
    """UP or DOWN where the window of the last average tells; else None."""
    up, down = (map_side(version, size, conv10_pad, rounded) for rounded in (UP, DOWN))
    for layer in layers_of(net):
        param = layer.pooling_param
        if kind_of(layer) == 'Pooling' and param.pool == param.AVE and not param.global_pooling:
            kernel = pooling_window(param)[0]
            if kernel in ((up, up), (down, down)):
                return UP if kernel == (up, up) else DOWN
    return None


def _exact(version, size):
    """Whether no max-pool of a `size` pixels input has anything to round."""
    shapes = architecture.output_shapes(version, size)
    before = [shapes[name][1] for name in architecture.POOL_AFTER[version]]
    return all((side - 3) % 2 == 0 for side in before)


def map_side(version, size, conv10_pad, rounded=UP):
    """Rows of conv10's output for an input of `size` pixels."""
    side = size
    for row in architecture.stages(version):
        if isinstance(row, architecture.Conv):
            side = (side - row.kernel) // row.stride + 1
        elif isinstance(row, architecture.MaxPool):
            side = (side - 3 + (1 - rounded)) // 2 + 1
    return side + 2 * conv10_pad
