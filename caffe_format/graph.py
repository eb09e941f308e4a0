"""What a file says of its layers and their connections, against what our network computes."""

from typing import NamedTuple

from caffe_format.batch_norm import KINDS as SCALINGS
from caffe_format.batch_norm import chains_behind, expressions
from caffe_format.blobs import where
from caffe_format.layers import (
    build_net,
    convolution_pad,
    convolution_settings,
    convolutions_of,
    trace,
)
from caffe_format.pooling import map_side, settle_rounding
from caffe_format.proto import kind_of, layers_of, name_of
from common.console import UserError

# What may read the logits: these score by softmax, or by the logits' order
ENDS = ('Softmax', 'SoftmaxWithLoss', 'Accuracy', 'ArgMax', 'Silence')
PASSING_ON = ('Split', 'Flatten', 'Reshape', 'Dropout')


class Structure(NamedTuple):
    """How the network is built, what the weights do not show.

    chains: see `batch_norm.chains_behind`; computed: for `layers.trace`.
    unknown_fields: which of bypass, conv10_pad and conv10_relu the file does not record.
    notes: lines for the user.
    """

    conv10_pad: int
    conv10_relu: bool
    chains: dict
    computed: dict
    unknown_fields: tuple
    notes: list


def is_wired(net):
    """False for weights alone, whose layers have no connections."""
    return any(layer.top for layer in layers_of(net))


def read_structure(net, convolutions, kind, size, ceil_mode, path):
    """The Structure of a NetParameter, which is brought to BVLC's rounding in place.

    convolutions: {layer index: name in the original}; kind: (version, bypass, class_num); size: of
    its pictures; ceil_mode: see `pooling.settle_rounding`. Raises UserError where the file
    computes something else than a SqueezeNet.
    """
    chains = chains_behind(net, convolutions)
    _refuse_loose_scalings(net, chains, path)
    conv10 = next(layers_of(net)[i] for i, name in convolutions.items() if name == 'conv10')
    pad = int(convolution_pad(conv10.convolution_param) == '1x1')
    unknown_fields = () if conv10.HasField('convolution_param') else ('conv10_pad',)
    notes = settle_rounding(net, kind[0], size, pad, ceil_mode)
    _check_settings(net, convolutions, build_net(*kind, pad), path)
    computed = expressions(convolutions, chains)
    if is_wired(net):
        relu = _check_wiring(net, computed, kind, map_side(kind[0], size, pad), path)
        return Structure(pad, relu, chains, computed, unknown_fields, notes)
    return Structure(pad, True, chains, computed, (*unknown_fields, 'bypass', 'conv10_relu'), notes)


def _refuse_loose_scalings(net, chains, path):
    inside = {index for chain in chains.values() for index in chain}
    for index, layer in enumerate(layers_of(net)):
        if kind_of(layer) in SCALINGS and index not in inside:
            raise UserError(
                f'{where(path, layer)}: a {kind_of(layer)} is read behind a convolution alone, '
                'of files with wiring'
            )


def _check_settings(net, convolutions, expected, path):
    """Stride, padding, groups and dilation must be ours, where the file has them."""
    ours = {
        name_of(layer): convolution_settings(layer.convolution_param) for layer in expected.layer
    }
    for index, name in convolutions.items():
        layer = layers_of(net)[index]
        found = convolution_settings(layer.convolution_param)
        if layer.HasField('convolution_param') and found != ours[name]:
            raise UserError(
                f'{where(path, layer)} has {found}; '
                f'{name} of {expected.name.decode()} has {ours[name]}'
            )


def _check_wiring(net, computed, kind, whole, path):
    """Every convolution must be fed what it is fed in our network, and conv10 be averaged.

    Returns whether a ReLU stands between conv10 and the average.
    """
    expected = build_net(*kind)
    own = convolutions_of(expected)
    wanted = {
        own[index]: reads for index, reads in enumerate(trace(expected, own)[0]) if index in own
    }
    reads, computes = trace(net, computed, whole)
    label = expected.name.decode()
    for index in sorted(computed):
        name = computed[index].partition(' ')[0]
        if layers_of(net)[index].type and kind_of(layers_of(net)[index]) in SCALINGS:
            continue
        if reads[index] != wanted[name]:
            raise UserError(
                f'{where(path, layers_of(net)[index])} reads {reads[index]}; '
                f'{name} of {label} reads {wanted[name]}'
            )
    ends = {'mean(ReLU(conv10))': True, 'mean(conv10)': False}
    found = next((text for text in computes if text in ends), None)
    if found is None:
        raise UserError(f'{path}: {_wrong_end(computes, whole, label)}')
    _check_end(net, reads, computes, found, path)
    return ends[found]


def _wrong_end(computes, whole, label):
    """Why no average of all of conv10 was found."""
    averages = [text for text in computes if text.startswith('AVE pool') and 'conv10' in text]
    if averages:
        return (
            f'ends in {averages[-1]}, no average of all {whole}x{whole} places; '
            'another --input_size has another number of places'
        )
    return (
        'does not end in mean(ReLU(conv10)) (global average pooling); '
        f'it is truncated, or no {label}'
    )


def _check_end(net, reads, computes, logits, path):
    """Raises UserError where something else than a softmax reads the logits."""
    passed_on = {logits}
    for index, layer in enumerate(layers_of(net)):
        if not any(reads[index].startswith(text) for text in passed_on):
            continue
        if kind_of(layer) in PASSING_ON:
            passed_on.add(computes[index])
            continue
        kind = kind_of(layer)
        if computes[index].startswith(f'{kind} of another axis'):
            kind += ' over another axis than the classes'
        if kind not in ENDS:
            raise UserError(
                f'{where(path, layer)}: a {kind} reads the logits; '
                'this project scores classes by softmax'
            )
