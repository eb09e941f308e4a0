"""What a Caffe file says of its pictures: size, mean and scale of the layer that feeds conv1."""

from typing import NamedTuple

import numpy as np
from google.protobuf.unknown_fields import UnknownFieldSet

from caffe_format.blobs import where
from caffe_format.proto import kind_of, layers_of
from common.console import UserError
from network.preprocessing import Preprocessing

READ_PICTURES = ('Data', 'ImageData', 'WindowData')  # what they do not subtract, nobody does
TRAIN, TEST = 0, 1  # NetStateRule.phase


class InputSpec(NamedTuple):
    """What the file says.

    found: {field of Preprocessing: value}, the mean in the order of Caffe's channels. unknown:
    {field: why the file cannot say it, though it tries}. notes: lines for the user.
    """

    found: dict
    unknown: dict
    notes: list


def keep_testing(net):
    """Drop from a NetParameter, in place, the layers of training that testing replaces or leaves.

    A snapshot of training has no other data layer than training's, which is kept then.
    """
    layers = layers_of(net)
    replaced = {top for layer in layers if not _stands_in(layer, TRAIN) for top in layer.top}
    for index in reversed(range(len(layers))):
        layer = layers[index]
        in_place = not layer.blobs and set(layer.bottom).intersection(layer.top)
        if not _stands_in(layer, TEST) and (in_place or replaced.intersection(layer.top)):
            del layers[index]


def _stands_in(layer, phase):
    """Whether the layer's rules admit it to a phase (net.cpp, FilterNet); stages are not asked."""
    if layer.include:
        return any(not rule.HasField('phase') or rule.phase == phase for rule in layer.include)
    return not any(rule.HasField('phase') and rule.phase == phase for rule in layer.exclude)


def read_inputs(net, convolutions, path):
    """The Said of a NetParameter; convolutions: {layer index: name in the original}."""
    blob = _source(net, next(index for index, name in convolutions.items() if name == 'conv1'))
    said = InputSpec({}, {}, [])
    if blob is None:
        return said
    if blob in net.input:
        _declared_size(said, _input_dims(net, list(net.input).index(blob)), path)
    for layer in layers_of(net):
        if not layer.bottom and blob in layer.top:
            _read_layer(said, layer, list(layer.top).index(blob), where(path, layer))
    return said


def _source(net, conv1):
    """The blob that conv1 reads, before Caffe's Split layers; None without wiring."""
    layers = layers_of(net)
    if not layers[conv1].bottom:
        return None
    blob = layers[conv1].bottom[0]
    for layer in reversed(layers[:conv1]):
        if kind_of(layer) == 'Split' and blob in layer.top and layer.bottom:
            blob = layer.bottom[0]
    return blob


def _input_dims(net, number):
    if number < len(net.input_shape):
        return list(net.input_shape[number].dim)
    return list(net.input_dim[4 * number : 4 * number + 4])


def _read_layer(said, layer, top, place):
    """Add to `said` what a data layer says; it reads no blob."""
    old = _deprecated(layer)
    param = layer.transform_param
    if old is not None:
        _read_transformation(said, old, place)
    if layer.HasField('transform_param'):
        _read_transformation(said, param, place)
        for field in UnknownFieldSet(param):
            said.notes.append(
                f'{place}: field {field.field_number} of its transform_param is a fork of '
                "Caffe's, and not obeyed"
            )
    says_all = kind_of(layer) in READ_PICTURES or layer.HasField('transform_param')
    if (says_all or old is not None) and 'mean' not in said.unknown:
        if 'mean' not in said.found:
            said.notes.append(f'{place} subtracts no mean, so none is subtracted')
        said.found.setdefault('mean', (0, 0, 0))
        said.found.setdefault('scale', 1.0)
    images = getattr(layer, 'image_data_param', None)
    if images is not None and layer.HasField('image_data_param'):
        _read_image_size(said, images, place)
    if 'crop' not in said.found:
        _declared_size(said, _layer_dims(layer, top), place)


def _deprecated(layer):
    """The settings that data_param and its like had before transform_param: upgrade_proto.cpp."""
    for name in ('data_param', 'image_data_param', 'window_data_param'):
        if layer.HasField(name):
            param = getattr(layer, name)
            if any(map(param.HasField, ('scale', 'mean_file', 'crop_size', 'mirror'))):
                return param
    return None


def _read_transformation(said, param, place):
    """A TransformationParameter, or the older parameters with the same names: data_transformer.cpp.

    The value of a pixel becomes scale * (pixel - mean).
    """
    if param.HasField('scale'):
        _note_change(said, 'scale', _short(param.scale), place)
    if param.crop_size:
        _note_change(said, 'crop', param.crop_size, place)
    if param.mean_file:
        name = param.mean_file.decode('utf-8', 'replace')[:100]
        said.unknown['mean'] = (
            f'{place} subtracts the mean image {name!r}, which is not in this file; '
            'give it to caffe2paddle.py, --mean FILE.binaryproto or --mean B,G,R'
        )
    values = tuple(map(_short, getattr(param, 'mean_value', ())))
    if values:
        if len(values) not in (1, 3):
            raise UserError(f'{place} has {len(values)} mean values, not 1 or 3')
        _note_change(said, 'mean', values * (3 // len(values)), place)
    if getattr(param, 'force_gray', False):
        raise UserError(f'{place} makes pictures grey (force_gray), which is not done here')
    if param.mirror:
        said.notes.append(
            f'{place} mirrors pictures, in training alone; train.py has a flag for it'
        )


def _note_change(said, name, value, place):
    if name in said.found and said.found[name] != value:  # NaN differs from itself
        said.notes.append(f'{place} says {name} {said.found[name]} and {value}; {value} counts')
    said.found[name] = value


def _short(value):
    """A float32 as the decimal number that was meant: 0.04, not 0.03999999910593033."""
    value = float(str(np.float32(value)))
    return int(value) if value.is_integer() else value


def _read_image_size(said, param, place):
    if not param.is_color:
        raise UserError(f'{place} reads pictures as grey (is_color: false)')
    height, width = param.new_height, param.new_width
    if not height and not width:
        return
    if height != width:
        raise UserError(f'{place} resizes pictures to {height}x{width}; squares are done here')
    said.found.update(resize='warp', resize_size=height)
    said.found.setdefault('crop', height)


def _layer_dims(layer, top):
    """[N, C, H, W] that a layer declares for its top, or []."""
    kind = kind_of(layer)
    if kind == 'Input' and layer.input_param.shape:
        shapes = layer.input_param.shape
        return list(shapes[min(top, len(shapes) - 1)].dim)
    if kind == 'MemoryData':
        param = layer.memory_data_param
        return [1, param.channels, param.height, param.width] if param.height else []
    if kind == 'DummyData':
        param = layer.dummy_data_param
        if param.shape:
            return list(param.shape[min(top, len(param.shape) - 1)].dim)
        sizes = [list(values)[:1] for values in (param.channels, param.height, param.width)]
        return [1, *(value for (value,) in sizes)] if all(sizes) else []
    return []


def _declared_size(said, dims, place):
    if not dims:
        return
    if len(dims) != 4 or dims[1] != 3:
        raise UserError(f'{place} feeds blobs of shape {dims[:8]}; pictures are [N, 3, H, W]')
    height, width = dims[2:]
    if height != width:
        said.unknown['crop'] = (
            f'{place} feeds pictures of {height}x{width}; squares are done here: '
            'give a side to caffe2paddle.py, --input_size N'
        )
    elif height > 0:  # 0 and -1: whatever comes
        said.found['crop'] = height


def settle(said, given, path):
    """(Preprocessing, notes, what was assumed), from the file and the user, who is believed more.

    given: {field of Preprocessing: value}; a mean is in BGR order whatever the channel order is.
    What neither says is as in the original network. Raises UserError for what cannot be.
    """
    notes = [note.removeprefix(f'{path}: ') for note in said.notes]
    for name, reason in said.unknown.items():
        if name not in given:
            raise UserError(reason)
    settings = dict(said.found)
    rgb = given.get('channel_order') == 'RGB'
    for name, value in given.items():
        if name == 'mean' and rgb:
            value = value[::-1]
        if name in said.found and said.found[name] != value:
            notes.append(f'{name} is {value}, as told; the file says {said.found[name]}')
        settings[name] = value
    assumed = _assumed(settings)
    if rgb:
        settings.setdefault('mean', Preprocessing().mean[::-1])
    crop = settings.get('crop', Preprocessing().crop)
    settings.setdefault('resize_size', max(Preprocessing().resize_size, crop))
    try:
        return Preprocessing(**settings), notes, assumed
    except ValueError as error:
        raise UserError(f'{path}: its pictures cannot be made: {error}') from None


def _assumed(settings):
    assumed, usual = [], Preprocessing()
    if 'crop' not in settings:
        assumed.append(f'pictures of {usual.crop}x{usual.crop} (--input_size)')
    if 'mean' not in settings:
        assumed.append(f'a mean of {usual.mean} in BGR (--mean)')
    if 'mean' not in settings and 'scale' not in settings:
        assumed.append('no scale (--scale)')
    if settings.get('crop', usual.crop) != usual.crop and 'resize' not in settings:
        assumed.append('a short side of 256 before the crop (--resize, --resize_size)')
    return assumed
