"""What a file says of its pictures is obeyed, or refused by name."""

import numpy as np
import pytest
from small_nets import (
    OFFICIAL,
    V1_NUMBERS,
    as_v1,
    assert_bits_equal,
    drop_layer,
    layer_called,
    message,
    refusal,
    save,
)

from caffe_format.caffemodel import read_net
from caffe_format.proto import NetParameter, layers_of
from network.preprocessing import Preprocessing


def with_data(kind='Data', net=None, **settings):
    """A small net whose Input layer is a data layer of another kind."""
    net = net or message()[0]
    layer = layer_called(net, 'data')
    layer.Clear()
    layer.MergeFrom(type(layer)(name=b'data', type=kind.encode(), top=[b'data', b'label']))
    for name, value in settings.items():
        getattr(layer, name).MergeFrom(type(getattr(layer, name))(**value))
        getattr(layer, name).SetInParent()
    return net


def pictures(net, tmp_path, given=None):
    return read_net(save(net, tmp_path), given).preprocessing


def test_the_official_file_is_fed_as_the_original():
    assert read_net(OFFICIAL).preprocessing == Preprocessing()


@pytest.mark.parametrize('kind', ['Data', 'ImageData', 'MemoryData', 'HDF5Data', 'Python', 'Input'])
def test_transform_param_is_obeyed(tmp_path, kind):
    param = {'scale': 0.04, 'mean_value': [90, 198.5, 121], 'crop_size': 128, 'mirror': True}
    found = pictures(with_data(kind, transform_param=param), tmp_path)
    assert found == Preprocessing(crop=128, mean=(90, 198.5, 121), scale=0.04)


def test_transform_param_of_v1_files_is_obeyed(tmp_path):
    old = as_v1(message()[0], four_dims=True)
    del old.input[:]
    data = type(old.layers[0])(name=b'data', type=V1_NUMBERS['Data'], top=[b'data', b'label'])
    data.transform_param.mean_value.append(128)
    data.transform_param.scale = 0.0078125
    old.layers.insert(0, data)
    found = pictures(old, tmp_path)
    assert found == Preprocessing(mean=(128, 128, 128), scale=0.0078125)


@pytest.mark.parametrize('name', ['data_param', 'image_data_param', 'window_data_param'])
def test_deprecated_places_are_read_too(tmp_path, name):
    found = pictures(with_data(**{name: {'scale': 0.5, 'crop_size': 99}}), tmp_path)
    assert found == Preprocessing(crop=99, mean=(0, 0, 0), scale=0.5)


@pytest.mark.parametrize('kind', ['Data', 'ImageData', 'WindowData'])
def test_who_reads_pictures_and_subtracts_nothing_is_believed(tmp_path, kind):
    found = read_net(save(with_data(kind), tmp_path))
    assert found.preprocessing.mean == (0, 0, 0)
    assert "layer 'data' subtracts no mean, so none is subtracted" in found.notes


@pytest.mark.parametrize(
    ('kind', 'settings'),
    [
        ('Input', {'input_param': {'shape': [{'dim': [1, 3, 224, 224]}]}}),
        ('MemoryData', {'memory_data_param': {'channels': 3, 'height': 224, 'width': 224}}),
        ('DummyData', {'dummy_data_param': {'shape': [{'dim': [1, 3, 224, 224]}]}}),
        ('DummyData', {'dummy_data_param': {'channels': [3], 'height': [224], 'width': [224]}}),
    ],
)
def test_the_declared_size_is_obeyed_and_the_mean_is_assumed_aloud(tmp_path, kind, settings):
    found = read_net(save(with_data(kind, **settings), tmp_path))
    assert found.preprocessing == Preprocessing(crop=224)
    assert any('assuming' in note and '(104, 117, 123)' in note for note in found.notes)


@pytest.mark.parametrize('shape', [True, False])
def test_inputs_of_the_net_itself_are_obeyed(tmp_path, shape):
    net, _ = message()
    drop_layer(net, 'data')
    net.input.append(b'data')
    if shape:
        net.input_shape.add(dim=[10, 3, 300, 300])
    else:
        net.input_dim.extend([10, 3, 300, 300])
    found = pictures(net, tmp_path)
    assert (found.crop, found.resize_size) == (300, 300)


def test_image_data_is_warped_to_its_size(tmp_path):
    param = {'new_height': 240, 'new_width': 240}
    found = pictures(with_data('ImageData', image_data_param=param), tmp_path)
    assert (found.resize, found.resize_size, found.crop) == ('warp', 240, 240)
    net = with_data('ImageData', image_data_param=param, transform_param={'crop_size': 200})
    assert pictures(net, tmp_path).crop == 200


def test_testing_counts_where_the_phases_differ(tmp_path):
    net = with_data(transform_param={'crop_size': 200, 'mean_value': [1, 2, 3]})
    train = layer_called(net, 'data')
    train.include.add(phase=0)
    test = type(train)()
    test.CopyFrom(train)
    test.include[0].phase = 1
    test.transform_param.crop_size = 128
    for place in (0, 1):  # in either order
        both = NetParameter()
        both.CopyFrom(net)
        both.layer.insert(place, test)
        assert pictures(both, tmp_path).crop == 128
    assert pictures(net, tmp_path).crop == 200


def test_layers_of_training_are_dropped_where_testing_has_others(tmp_path):
    """The pair of BatchNorms that share blobs, and a layer that has no part in testing."""
    net, tensors = message()
    norm = type(net.layer[0])(name=b'bn', type=b'BatchNorm', bottom=[b'conv10'], top=[b'conv10'])
    for size, value in ((10, 0.0), (10, 1.0), (1, 1.0)):
        norm.blobs.add(shape={'dim': [size]}, data=[value] * size)
    norm.batch_norm_param.eps = 3
    noise = type(norm)(name=b'noise', type=b'Noise', bottom=[b'conv1'], top=[b'conv1'])
    for layer, at in ((norm, len(net.layer) - 3), (noise, 3)):
        layer.include.add(phase=0)
        net.layer.insert(at, layer)
    halved = {**tensors, 'conv10.weight': tensors['conv10.weight'] / 2}
    halved['conv10.bias'] = tensors['conv10.bias'] / 2
    found = read_net(save(net, tmp_path)).tensors  # a snapshot: this is all that there is
    np.testing.assert_allclose(found['conv10.weight'], halved['conv10.weight'], rtol=1e-6)
    tested = type(norm)()
    tested.CopyFrom(norm)
    tested.include[0].phase = 1
    net.layer.insert(len(net.layer) - 3, tested)
    assert_bits_equal(read_net(save(net, tmp_path)).tensors, found)


def test_the_way_through_splits_is_followed(tmp_path):
    net = with_data(transform_param={'crop_size': 128, 'mean_value': [1, 2, 3]})
    layer_called(net, 'data').top[:] = [b'pixels', b'label']
    split = type(net.layer[0])(name=b's', type=b'Split', bottom=[b'pixels'], top=[b'data', b'x'])
    net.layer.insert(1, split)
    assert pictures(net, tmp_path).crop == 128


MEAN_FILE = {'transform_param': {'mean_file': b'imagenet_mean.binaryproto'}}


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        (MEAN_FILE, "the mean image 'imagenet_mean.binaryproto'"),
        ({'data_param': {'mean_file': b'm\x1b[2J'}}, '--mean FILE.binaryproto or --mean B,G,R'),
        ({'transform_param': {'force_gray': True}}, 'force_gray'),
        ({'image_data_param': {'is_color': False}}, 'is_color'),
        ({'transform_param': {'mean_value': [1, 2]}}, '2 mean values'),
        ({'transform_param': {'scale': 0}}, 'scale is 0'),
        ({'transform_param': {'scale': float('nan')}}, 'scale is nan'),
        ({'transform_param': {'mean_value': [float('nan')]}}, 'mean is nan'),
        ({'transform_param': {'mean_value': [float('inf')]}}, 'mean is inf'),
        ({'transform_param': {'crop_size': 10_000_000}}, 'is 10000000; it must be'),
        ({'transform_param': {'crop_size': 5}}, 'too small'),
        ({'image_data_param': {'new_height': 200, 'new_width': 300}}, '200x300'),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(tmp_path, settings, words):
    kind = 'ImageData' if 'image_data_param' in settings else 'Data'
    assert words in refusal(save(with_data(kind, **settings), tmp_path))


@pytest.mark.parametrize(
    ('dims', 'words'),
    [([1, 3, 300, 400], '300x400'), ([1, 1, 28, 28], '[1, 1, 28, 28]'), ([3, 227], '[3, 227]')],
)
def test_inputs_of_other_shapes_are_refused(tmp_path, dims, words):
    net, _ = message()
    layer_called(net, 'data').input_param.shape[0].dim[:] = dims
    assert words in refusal(save(net, tmp_path))


def test_the_user_supplies_what_the_file_cannot(tmp_path):
    path = save(with_data(**MEAN_FILE), tmp_path)
    given = {'mean': (1, 2, 3), 'channel_order': 'RGB', 'crop': 300}
    found = read_net(path, given).preprocessing
    assert found.mean == (3, 2, 1)  # flags are BGR, a Preprocessing is in its own order
    assert (found.crop, found.resize_size, found.channel_order) == (300, 300, 'RGB')


def test_fields_of_a_fork_are_named(tmp_path):
    net = with_data(transform_param={'mean_value': [1, 2, 3]})
    content = layer_called(net, 'data').transform_param.SerializeToString() + b'\xa0\x06\x07'
    layer_called(net, 'data').transform_param.ParseFromString(content)
    assert any('field 100' in note for note in read_net(save(net, tmp_path)).notes)


def test_one_channel_networks_are_called_so(tmp_path):
    net, _ = message()
    blob = layers_of(net)[1].blobs[0]
    blob.shape.dim[1] = 1
    del blob.data[64 * 9 :]
    assert 'one channel (grey)' in refusal(save(net, tmp_path))
