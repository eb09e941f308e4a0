"""Reading and writing caffemodels: the forms that Caffe writes, and other networks."""

import numpy as np
import pytest
from small_nets import (
    OFFICIAL,
    VARIANTS,
    as_v1,
    assert_bits_equal,
    drop_layer,
    layer_called,
    message,
    random_tensors,
    refusal,
    save,
)

from caffe_format.caffemodel import describe_layers, read_net
from caffe_format.proto import SCHEMA, NetParameter, message_classes, name_of
from caffe_format.writing import write_caffemodel
from models.model_io import make_config
from network import architecture

# --- what must be read -----------------------------------------------------------------------


def test_official_file_is_v1_1_with_1000_classes():
    net = read_net(OFFICIAL)
    assert (net.version, net.bypass, net.class_num, net.conv10_pad) == ('1.1', None, 1000, 0)
    assert sum(tensor.size for tensor in net.tensors.values()) == 1_235_496
    shapes = {name: tensor.shape for name, tensor in net.tensors.items()}
    assert shapes == architecture.parameter_shapes('1.1', None, 1000)


@pytest.mark.parametrize(('version', 'bypass'), VARIANTS)
@pytest.mark.parametrize('class_num', [1, 10, 64, 512])
def test_round_trip_is_bit_for_bit_and_recognised(tmp_path, version, bypass, class_num):
    tensors = random_tensors(version, bypass, class_num)
    path = tmp_path / 'out.caffemodel'
    write_caffemodel(path, tensors, make_config(version, bypass, class_num, 1))
    net = read_net(path)
    assert (net.version, net.bypass, net.class_num) == (version, bypass, class_num)
    assert net.conv10_pad == 1
    assert_bits_equal(net.tensors, tensors)


def test_extreme_floats_survive_bit_for_bit(tmp_path):
    tensors = random_tensors('1.1', None, 3)
    odd = np.array([-0.0, 1e-45, -1e-40, 3.4028235e38], np.float32)
    tensors['conv1.bias'][:4] = odd
    write_caffemodel(tmp_path / 'o.caffemodel', tensors, make_config('1.1', None, 3))
    assert_bits_equal(read_net(tmp_path / 'o.caffemodel').tensors, tensors)


@pytest.mark.parametrize(('version', 'bypass'), VARIANTS)
@pytest.mark.parametrize('four_dims', [True, False])
def test_legacy_v1_files_are_read(tmp_path, version, bypass, four_dims):
    net, tensors = message(version, bypass)
    found = read_net(save(as_v1(net, four_dims), tmp_path))
    assert (found.version, found.bypass, found.class_num) == (version, bypass, 10)
    assert_bits_equal(found.tensors, tensors)


def test_doubles_are_read_as_float32(tmp_path):
    net, tensors = message()
    for layer in net.layer:
        for blob in layer.blobs:
            blob.double_data.extend(blob.data)
            blob.ClearField('data')
    assert_bits_equal(read_net(save(net, tmp_path)).tensors, tensors)


def test_unpacked_floats_are_read(tmp_path):
    net, tensors = message()
    unpacked = message_classes(SCHEMA.replace('packed', 'repeated'))['NetParameter']
    content = unpacked.FromString(net.SerializeToString()).SerializeToString()
    assert len(content) > net.ByteSize() + 700_000  # a byte a number more
    assert_bits_equal(read_net(save(content, tmp_path)).tensors, tensors)


def test_layer_names_do_not_matter(tmp_path):
    """Deep Compression's release of v1.0: other names, padded conv10, no softmax, split layers."""
    net, tensors = message('1.0', conv10_pad=1)
    drop_layer(net, 'prob')
    new_names = {'squeeze1x1': 'conv1x1_1', 'expand1x1': 'conv1x1_2', 'expand3x3': 'conv3x3_2'}
    for layer in net.layer:
        for old, new in (*new_names.items(), ('conv10', 'conv_final'), ('pool10', 'pool_final')):
            layer.name = layer.name.replace(old.encode(), new.encode())
            tops = [top.replace(old.encode(), new.encode()) for top in layer.top]
            bottoms = [bottom.replace(old.encode(), new.encode()) for bottom in layer.bottom]
            layer.top[:], layer.bottom[:] = tops, bottoms
    split = net.layer.add(name=b'split', type=b'Split', bottom=[b'fire2/conv1x1_1'])
    split.top.extend([b'split_0', b'split_1'])
    net.layer.insert(6, split)
    del net.layer[-1]
    layer_called(net, 'fire2/conv1x1_2').bottom[:] = [b'split_0']
    layer_called(net, 'fire2/conv3x3_2').bottom[:] = [b'split_1']
    found = read_net(save(net, tmp_path))
    assert (found.version, found.bypass, found.class_num) == ('1.0', None, 10)
    assert found.conv10_pad == 1
    assert_bits_equal(found.tensors, tensors)


def test_names_that_are_no_utf8_are_read(tmp_path):
    net, tensors = message()
    layer_called(net, 'conv1').name = b'\xbe\xed\xbb\xfd\x1b['
    assert_bits_equal(read_net(save(net, tmp_path)).tensors, tensors)


def test_order_inside_a_fire_module_does_not_matter(tmp_path):
    net, tensors = message('1.1', 'complex')
    names = [name_of(layer) for layer in net.layer]
    for module in ('fire2', 'fire8'):
        bypass = net.layer[names.index(f'{module}/bypass1x1')]
        net.layer.insert(names.index(f'{module}/squeeze1x1'), bypass)
        del net.layer[names.index(f'{module}/bypass1x1') + 1]
        ones = net.layer[names.index(f'{module}/expand1x1') + 1]
        assert name_of(ones) == f'{module}/expand1x1'
    found = read_net(save(net, tmp_path))
    assert found.bypass == 'complex'
    assert_bits_equal(found.tensors, tensors)


def test_training_layers_are_skipped(tmp_path):
    net, tensors = message('1.1', 'simple')
    drop_layer(net, 'data')
    drop_layer(net, 'prob')
    net.layer.insert(0, net.layer.add(name=b'data', type=b'Data', top=[b'data', b'label']))
    del net.layer[-1]
    net.layer.add(name=b'loss', type=b'SoftmaxWithLoss', bottom=[b'pool10', b'label'], top=[b'l'])
    net.layer.add(name=b'top5', type=b'Accuracy', bottom=[b'pool10', b'label'], top=[b'top5'])
    assert_bits_equal(read_net(save(net, tmp_path)).tensors, tensors)


def test_weights_without_wiring_are_read(tmp_path):
    net, tensors = message('1.1', 'complex')
    bare = NetParameter()
    for layer in net.layer:
        if layer.blobs:
            bare.layer.add(name=layer.name, blobs=layer.blobs)
    assert_bits_equal(read_net(save(bare, tmp_path)).tensors, tensors)


def test_list_shows_every_layer():
    rows = describe_layers(OFFICIAL)
    names = [row[1] for row in rows]
    assert names.index('fire9/squeeze1x1') < names.index('conv10')
    conv1 = rows[names.index('conv1')]
    assert conv1[2:5] == ('Convolution', [(64, 3, 3, 3), (64,)], 64 * 28)
    assert sum(row[4] for row in rows) == 1_235_496


# --- what would compute something else -------------------------------------------------------


def set_stride(net):
    layer_called(net, 'conv1').convolution_param.stride[:] = [1]


def set_pad(net):
    layer_called(net, 'conv1').convolution_param.pad_h = 1


def set_group(net):
    layer_called(net, 'fire5/expand3x3').convolution_param.group = 2


def set_dilation(net):
    layer_called(net, 'fire5/expand3x3').convolution_param.dilation[:] = [2]


def move_pool(net):
    layer_called(net, 'pool3').bottom[:] = [b'fire2/concat']


def average_pool(net):
    layer_called(net, 'pool3').pooling_param.pool = 1


def floor_pool(net):
    layer_called(net, 'pool5').pooling_param.round_mode = 1


def swap_concat(net):
    layer_called(net, 'fire4/concat').bottom[:] = [b'fire4/expand3x3', b'fire4/expand1x1']


def no_relu(net):
    drop_layer(net, 'fire6/relu_expand3x3')


def leaky_relu(net):
    layer_called(net, 'fire6/relu_squeeze1x1').relu_param.negative_slope = 0.1


def other_wiring(net):
    layer_called(net, 'fire4/squeeze1x1').bottom[:] = [b'fire3/concat']


def add_lrn(net):
    layer_called(net, 'pool1').top[:] = [b'unnormed']
    net.layer.insert(4, net.layer.add(type=b'LRN', bottom=[b'unnormed'], top=[b'pool1']))
    del net.layer[-1]


@pytest.mark.parametrize(
    ('change', 'layer'),
    [
        (set_stride, 'conv1'),
        (set_pad, 'conv1'),
        (set_group, 'fire5/expand3x3'),
        (set_dilation, 'fire5/expand3x3'),
        (move_pool, 'fire4/squeeze1x1'),
        (average_pool, 'fire4/squeeze1x1'),
        (floor_pool, 'fire6/squeeze1x1'),
        (swap_concat, 'fire5/squeeze1x1'),
        (no_relu, 'fire7/squeeze1x1'),
        (leaky_relu, 'fire6/expand1x1'),
        (other_wiring, 'fire4/squeeze1x1'),
        (add_lrn, 'fire2/squeeze1x1'),
    ],
)
def test_a_network_that_computes_something_else_is_refused(tmp_path, change, layer):
    net, _ = message()
    change(net)
    assert f"layer '{layer}'" in refusal(save(net, tmp_path))


def missing_sum(net):
    drop_layer(net, 'fire5/bypass')
    layer_called(net, 'fire6/squeeze1x1').bottom[:] = [b'pool5']
    layer_called(net, 'pool5').bottom[:] = [b'fire5/concat']


def weighted_sum(net):
    layer_called(net, 'fire5/bypass').eltwise_param.coeff[:] = [1, -1]


def product(net):
    layer_called(net, 'fire5/bypass').eltwise_param.operation = 0


def sum_does_not_go_on(net):
    layer_called(net, 'pool5').bottom[:] = [b'fire5/concat']


@pytest.mark.parametrize('change', [missing_sum, weighted_sum, product, sum_does_not_go_on])
@pytest.mark.parametrize('bypass', ['simple', 'complex'])
def test_bypass_of_another_form_is_refused(tmp_path, change, bypass):
    net, _ = message('1.1', bypass)
    change(net)
    text = refusal(save(net, tmp_path))
    assert "layer 'fire6/squeeze1x1' reads" in text
    assert f'with {bypass} bypass' in text


def test_no_average_at_the_end_is_refused(tmp_path):
    net, _ = message()
    drop_layer(net, 'pool10')
    assert 'mean(ReLU(conv10))' in refusal(save(net, tmp_path))


def test_foreign_weights_are_named(tmp_path):
    net, _ = message()
    blobs = [{'shape': {'dim': [10, 10]}, 'data': [0.0] * 100}]
    net.layer.add(name=b'fc8', type=b'InnerProduct', blobs=blobs)
    assert "layer 'fc8' is a InnerProduct" in refusal(save(net, tmp_path))


def test_an_extra_convolution_is_named(tmp_path):
    net, _ = message()
    extra = net.layer.add()
    extra.CopyFrom(layer_called(net, 'fire3/expand3x3'))
    extra.name = b'aux'
    net.layer.insert(20, extra)
    del net.layer[-1]
    assert 'has weights of shape 64x16x3x3' in refusal(save(net, tmp_path))


def test_another_network_is_no_squeezenet(tmp_path):
    net, _ = message()
    del layer_called(net, 'conv1').blobs[:]
    assert 'is no SqueezeNet: no convolution is conv1' in refusal(save(net, tmp_path))


def test_a_convolution_of_three_blobs_is_named(tmp_path):
    net, _ = message()
    layer_called(net, 'fire7/expand1x1').blobs.add()
    assert "layer 'fire7/expand1x1' has 3 blobs" in refusal(save(net, tmp_path))
