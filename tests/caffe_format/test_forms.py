"""Forms that forks, tools and habits give a SqueezeNet, each with the right result."""

import numpy as np
import pytest
from small_nets import (
    assert_bits_equal,
    drop_layer,
    layer_called,
    message,
    refusal,
    save,
)

from caffe_format.caffemodel import read_net
from caffe_format.proto import NetParameter, name_of
from network.preprocessing import Preprocessing


def noted(net, words):
    return any(words in note for note in net.notes)


def weights_alone(net, order=1):
    """The convolutions' names and blobs, in the file's order or (-1) its reverse."""
    bare = NetParameter()
    for layer in list(net.layer)[::order]:
        if layer.blobs:
            bare.layer.add(name=layer.name, type=layer.type, blobs=layer.blobs)
    return bare


# --- blobs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(('number', 'kind'), [(0, '<f8'), (1, '<f4'), (2, '<f2')])
def test_raw_data_of_nvcaffe_and_opencv_is_read(tmp_path, number, kind):
    net, tensors = message()
    for layer in net.layer:
        for blob in layer.blobs:
            blob.raw_data_type = number
            blob.raw_data = np.array(blob.data, kind).tobytes()
            blob.ClearField('data')
    expected = {name: value.astype(kind).astype(np.float32) for name, value in tensors.items()}
    assert_bits_equal(read_net(save(net, tmp_path)).tensors, expected)


@pytest.mark.parametrize(
    ('number', 'size', 'words'),
    [(3, 256, 'integers'), (1, 255, 'no numbers of 4 bytes'), (0, 256, 'holds 32 numbers')],
)
def test_raw_data_that_does_not_fit_is_refused(tmp_path, number, size, words):
    net, _ = message()
    blob = layer_called(net, 'conv1').blobs[1]
    blob.ClearField('data')
    blob.raw_data_type, blob.raw_data = number, bytes(size)
    text = refusal(save(net, tmp_path))
    assert "layer 'conv1'" in text
    assert words in text


@pytest.mark.parametrize('said', [True, False])
def test_a_missing_bias_is_zero(tmp_path, said):
    net, tensors = message()
    layer = layer_called(net, 'fire7/expand1x1')
    del layer.blobs[1]
    if said:
        layer.convolution_param.bias_term = False
    found = read_net(save(net, tmp_path))
    tensors['fire7.expand1x1.bias'][:] = 0
    assert_bits_equal(found.tensors, tensors)
    assert noted(found, 'fire7/expand1x1 without bias') != said


# --- layers --------------------------------------------------------------------------------------


def test_no_relu_behind_conv10_is_kept(tmp_path):
    net, tensors = message()
    drop_layer(net, 'relu_conv10')
    found = read_net(save(net, tmp_path))
    assert found.conv10_relu is False
    assert_bits_equal(found.tensors, tensors)


def move_behind(net, name, other, blob):
    """Let the ReLU `name` work on `blob`, right behind the layer `other`."""
    relu = layer_called(net, name)
    copy = type(relu)(name=relu.name, type=relu.type, bottom=[blob], top=[blob])
    drop_layer(net, name)
    at = [name_of(layer) for layer in net.layer].index(other) + 1
    net.layer.insert(at, copy)


def test_a_relu_behind_the_pool_or_the_concat_is_the_same(tmp_path):
    net, tensors = message()
    move_behind(net, 'relu_conv1', 'pool1', b'pool1')
    drop_layer(net, 'fire3/relu_expand1x1')
    move_behind(net, 'fire3/relu_expand3x3', 'pool3', b'pool3')
    drop_layer(net, 'fire4/relu_expand1x1')
    move_behind(net, 'fire4/relu_expand3x3', 'fire4/concat', b'fire4/concat')
    assert_bits_equal(read_net(save(net, tmp_path)).tensors, tensors)


def set_window(net, side, size=227):
    layer_called(net, 'data').input_param.shape[0].dim[:] = [1, 3, size, size]
    param = layer_called(net, 'pool10').pooling_param
    param.Clear()
    param.pool, param.kernel_h, param.kernel_w, param.stride = param.AVE, side, side, side


@pytest.mark.parametrize(
    ('version', 'pad', 'size', 'side'),
    [('1.1', 0, 227, 14), ('1.0', 0, 227, 13), ('1.0', 1, 227, 15), ('1.1', 0, 224, 13)],
)
def test_a_window_over_the_whole_map_is_a_global_average(tmp_path, version, pad, size, side):
    net, tensors = message(version, conv10_pad=pad)
    set_window(net, side, size)
    found = read_net(save(net, tmp_path))
    assert found.preprocessing.crop == size
    assert_bits_equal(found.tensors, tensors)


def test_a_smaller_window_is_refused_with_the_sizes(tmp_path):
    net, _ = message()
    set_window(net, 13)
    text = refusal(save(net, tmp_path))
    assert 'AVE pool 13x13' in text
    assert '14x14 places' in text


def test_ristrettos_convolutions_are_read(tmp_path):
    net, tensors = message()
    layer_called(net, 'fire5/expand1x1').type = b'ConvolutionRistretto'
    found = read_net(save(net, tmp_path))
    assert_bits_equal(found.tensors, tensors)
    assert noted(found, 'Ristretto')


@pytest.mark.parametrize('kind', ['Sigmoid', 'SigmoidCrossEntropyLoss', 'EuclideanLoss', 'Power'])
def test_other_ends_than_softmax_are_refused(tmp_path, kind):
    net, _ = message()
    layer_called(net, 'prob').type = kind.encode()
    assert f'a {kind} reads the logits' in refusal(save(net, tmp_path))


def test_other_ends_are_seen_behind_layers_that_pass_on(tmp_path):
    net, _ = message()
    layer_called(net, 'prob').bottom[:] = [b'flat']
    layer_called(net, 'prob').type = b'Sigmoid'
    flat = type(net.layer[0])(name=b'f', type=b'Flatten', bottom=[b'pool10'], top=[b'flat'])
    net.layer.insert(len(net.layer) - 1, flat)
    assert "layer 'prob': a Sigmoid reads the logits" in refusal(save(net, tmp_path))


def test_a_net_without_its_data_layer_is_read(tmp_path):
    net, tensors = message()
    drop_layer(net, 'data')
    found = read_net(save(net, tmp_path))
    assert_bits_equal(found.tensors, tensors)
    assert noted(found, 'pictures of 227x227')


@pytest.mark.parametrize('kind', [b'mean', b'concat', b'MAX pool 3x3 stride 2x2'])
def test_a_layer_type_cannot_pass_for_an_operation_of_ours(tmp_path, kind):
    net, _ = message()
    layer_called(net, 'pool10').type = kind
    assert 'does not end in mean' in refusal(save(net, tmp_path))


# --- batch normalisation -------------------------------------------------------------------------


def add_batch_norm(net, name, rng, in_place=True, scale=True):
    """BatchNorm and Scale behind a convolution; returns (factor, offset) a channel, float64."""
    names = [name_of(layer) for layer in net.layer]
    at = names.index(name) + 1
    count = len(layer_called(net, name).blobs[1].data)
    top = name.encode() if in_place else name.encode() + b'_bn'
    mean, variance = rng.normal(size=count), rng.uniform(0.5, 2, count)
    gamma, beta = rng.uniform(0.5, 2, count), rng.normal(size=count)
    mean, variance, gamma, beta = (v.astype(np.float32) for v in (mean, variance, gamma, beta))
    norm = type(net.layer[0])(name=b'bn', type=b'BatchNorm', bottom=[name.encode()], top=[top])
    norm.batch_norm_param.eps = 1e-3
    for values in (mean * 4, variance * 4, [4]):
        norm.blobs.add(shape={'dim': [len(values)]}, data=values)
    net.layer.insert(at, norm)
    if not scale:
        gamma, beta = np.ones(count), np.zeros(count)
    else:
        after = type(norm)(name=b'scale', type=b'Scale', bottom=[top], top=[top])
        after.scale_param.bias_term = True
        for values in (gamma, beta):
            after.blobs.add(shape={'dim': [count]}, data=values)
        net.layer.insert(at + 1, after)
    if not in_place:
        for layer in list(net.layer)[at + (2 if scale else 1) :]:
            layer.bottom[:] = [top if b == name.encode() else b for b in layer.bottom]
            layer.top[:] = [top if b == name.encode() else b for b in layer.top]
    factor = gamma / np.sqrt(variance.astype(np.float64) + 1e-3)
    return factor, beta - mean * factor


@pytest.mark.parametrize('in_place', [True, False])
@pytest.mark.parametrize('scale', [True, False])
def test_batch_norm_is_folded_exactly(tmp_path, in_place, scale):
    net, tensors = message()
    rng = np.random.default_rng(3)
    for name in ('conv1', 'fire2/expand3x3', 'conv10'):
        factor, offset = add_batch_norm(net, name, rng, in_place, scale)
        weight, bias = (f'{name.replace("/", ".")}.{kind}' for kind in ('weight', 'bias'))
        tensors[weight] = (tensors[weight] * factor.reshape(-1, 1, 1, 1)).astype(np.float32)
        tensors[bias] = (tensors[bias] * factor + offset).astype(np.float32)
    found = read_net(save(net, tmp_path))
    for name, value in tensors.items():
        np.testing.assert_allclose(found.tensors[name], value, rtol=2e-6, atol=1e-6)
    assert noted(found, 'BatchNorm and Scale folded in')


def test_batch_norm_that_stands_elsewhere_is_refused(tmp_path):
    net, _ = message()
    norm = net.layer.add(name=b'bn', type=b'BatchNorm', bottom=[b'pool10'], top=[b'pool10'])
    norm.blobs.add(shape={'dim': [1]}, data=[1])
    assert "layer 'bn'" in refusal(save(net, tmp_path))
    net, _ = message()
    add_batch_norm(net, 'fire2/squeeze1x1', np.random.default_rng(0), in_place=False)
    layer_called(net, 'fire2/expand1x1').bottom[:] = [b'fire2/squeeze1x1']
    assert "layer 'fire2/expand1x1' reads fire2/squeeze1x1 after 0 of its 2 scalings" in refusal(
        save(net, tmp_path)
    )


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize('order', [1, -1])
def test_names_count_more_than_the_order(tmp_path, order):
    net, tensors = message('1.1', class_num=64)
    found = read_net(save(weights_alone(net, order), tmp_path))
    assert_bits_equal(found.tensors, tensors)


def test_a_renamed_last_layer_is_found_beside_names_that_count(tmp_path):
    net, tensors = message()
    layer_called(net, 'conv10').name = b'conv10-flowers'
    bare = weights_alone(net)
    swapped = [bare.layer[i] for i in (0, 4, 5, 6, 1, 2, 3, *range(7, 26))]
    found = read_net(save(NetParameter(layer=swapped), tmp_path))
    assert_bits_equal(found.tensors, tensors)
    assert noted(found, "1 convolutions without the original's names")


def test_names_that_contradict_the_wiring_are_refused(tmp_path):
    net, _ = message()
    for part in ('expand1x1', 'expand3x3'):
        first, second = (layer_called(net, f'fire{i}/{part}') for i in (2, 3))
        first.name, second.name = second.name, first.name
    assert 'reads' in refusal(save(net, tmp_path))


def test_names_that_contradict_the_shapes_are_refused(tmp_path):
    net, _ = message()
    bare = weights_alone(net)
    first, second = (layer_called(bare, f'fire{i}/squeeze1x1') for i in (2, 9))
    first.name, second.name = second.name, first.name
    text = refusal(save(bare, tmp_path))
    assert 'has weights of shape' in text
    assert 'names are mixed up' in text


def test_two_layers_of_one_name_are_refused(tmp_path):
    net, _ = message()
    layer_called(net, 'fire3/expand1x1').name = b'fire2/expand1x1'
    assert "two convolutions called 'fire2/expand1x1'" in refusal(save(net, tmp_path))


def test_other_names_in_another_order_are_refused_without_wiring(tmp_path):
    net, tensors = message()
    for layer in net.layer:
        layer.name = layer.name.replace(b'squeeze', b'sq')
    found = read_net(save(weights_alone(net), tmp_path))
    assert_bits_equal(found.tensors, tensors)
    assert noted(found, "taken in the file's order")
    assert 'another order' in refusal(save(weights_alone(net, -1), tmp_path))


def test_modules_counted_from_one_are_read_by_their_wiring(tmp_path):
    net, tensors = message()
    for layer in net.layer:
        for number in range(2, 10):
            layer.name = layer.name.replace(b'fire%d' % number, b'fire%d' % (number - 1))
    assert_bits_equal(read_net(save(net, tmp_path)).tensors, tensors)


# --- weights alone, and what the user knows better -----------------------------------------------


def test_weights_alone_leave_open_what_they_do_not_say(tmp_path):
    net, _ = message('1.0')
    path = save(weights_alone(net), tmp_path)
    found = read_net(path)
    assert set(found.unknown_fields) == {'bypass', 'conv10_pad', 'conv10_relu'}
    (note,) = found.notes
    assert 'assuming pictures of 227x227 (--input_size), a mean of (104, 117, 123)' in note
    given = {'crop': 224, 'mean': (1, 2, 3), 'resize': 'warp'}
    found = read_net(path, given)
    assert found.preprocessing == Preprocessing('warp', crop=224, mean=(1, 2, 3))
    assert found.notes == []


def test_who_contradicts_the_file_is_believed_aloud(tmp_path):
    net, _ = message()
    found = read_net(save(net, tmp_path), {'crop': 224})
    assert found.unknown_fields == ()
    assert found.preprocessing.crop == 224
    assert noted(found, 'crop is 224, as told; the file says 227')


# --- field 13 of pooling: BVLC's round_mode, or a fork's ceil_mode -------------------------------


def rounded(values, size=227):
    net, _ = message()
    for name, value in zip(('pool1', 'pool3', 'pool5'), values):
        layer_called(net, name).pooling_param.round_mode = value
    layer_called(net, 'data').input_param.shape[0].dim[2:] = [size, size]
    return net


def test_field_13_is_round_mode_and_said(tmp_path):
    assert noted(read_net(save(rounded([0, 0, 0]), tmp_path)), 'round_mode: CEIL')
    assert '--ceil_mode' in refusal(save(rounded([1, 1, 1]), tmp_path))


def test_field_13_is_ceil_mode_when_told(tmp_path):
    read_net(save(rounded([1, 1, 1]), tmp_path), {'ceil_mode': True})
    refusal(save(rounded([0, 0, 0]), tmp_path), {'ceil_mode': True})


@pytest.mark.parametrize('value', [0, 1])
def test_the_last_window_tells_what_field_13_is(tmp_path, value):
    net = rounded([value] * 3)
    set_window(net, 14)
    assert not noted(read_net(save(net, tmp_path)), 'field 13')
    set_window(net, 13)
    refusal(save(net, tmp_path))


@pytest.mark.parametrize('value', [0, 1])
def test_field_13_does_not_matter_where_nothing_is_rounded(tmp_path, value):
    assert noted(read_net(save(rounded([value] * 3, 224), tmp_path)), 'no difference')
