"""Which convolution of a file is which of the original: by name, and by shape and order."""

import re
from collections import Counter, defaultdict, deque

from caffe_format.blobs import where
from caffe_format.layers import net_label, show_shape
from caffe_format.proto import layers_of, name_of
from common.console import UserError
from network import architecture


def match(net, shapes, kind, path):
    """({layer index: name in the original}, notes).

    shapes: {layer index: OIHW}; kind: (version, bypass, class_num). Names count where they are the
    original's; the k-th of the other layers of a shape is our k-th of that shape. That is enough,
    since Caffe's files list a layer after those whose results it reads.
    """
    ours = {
        parameter[: -len('.weight')].replace('.', '/'): shape
        for parameter, shape in architecture.parameter_shapes(*kind).items()
        if parameter.endswith('.weight')
    }
    found = _by_name(net, shapes, ours, kind, path)
    by_order = [index for index in shapes if index not in found]
    waiting = defaultdict(deque)
    for index, shape in shapes.items():
        if index not in found:
            waiting[shape].append(index)
    missing = []
    for name in ours:
        if name in found.values():
            continue
        if waiting[ours[name]]:
            found[waiting[ours[name]].popleft()] = name
        else:
            missing.append(name)
    _refuse_others(net, shapes, waiting, missing, kind, path)
    found = {index: found[index] for index in sorted(found)}
    if by_order and not any(layer.top for layer in layers_of(net)):
        _check_order(net, by_order, path)
        return found, [
            f"{len(by_order)} convolutions without the original's names: taken in the file's order"
        ]
    return found, []


def _key(name):
    return re.sub('[^a-z0-9]', '', name.lower())


def _by_name(net, shapes, ours, kind, path):
    """{layer index: name} of the layers that are called as in the original.

    Where a fire module has another name (fire1/squeeze1x1, fire2/conv1x1_1), names mean other
    layers than the original's: none is believed.
    """
    names = {index: _key(name_of(layers_of(net)[index])) for index in shapes}
    known = {_key(name): name for name in ours}
    complex_only = {_key(f'{fire}/bypass1x1') for fire in architecture.FIRES}
    for key in names.values():
        if re.match(r'fire\d', key) and key not in known and key not in complex_only:
            return {}
    repeated = [key for key, count in Counter(names.values()).items() if count > 1 and key in known]
    if repeated:
        raise UserError(f'{path}: has two convolutions called {known[repeated[0]]!r}')
    found = {index: known[key] for index, key in names.items() if key in known}
    for index, name in found.items():
        if shapes[index] != ours[name]:
            raise UserError(
                f'{where(path, layers_of(net)[index])} has weights of shape '
                f'{show_shape(shapes[index])}; {name} of {net_label(*kind[:2])} has '
                f'{show_shape(ours[name])}: it is another SqueezeNet, or its names are mixed up'
            )
    return found


def _refuse_others(net, shapes, waiting, missing, kind, path):
    unknown = min((index for indices in waiting.values() for index in indices), default=None)
    label = net_label(*kind[:2])
    if unknown is not None:
        raise UserError(
            f'{where(path, layers_of(net)[unknown])} has weights of shape '
            f'{show_shape(shapes[unknown])}, which {label} has not'
            + (f'; {missing[0]} is missing' if missing else ' (or not so often)')
        )
    if missing:
        also = f' and {len(missing) - 1} more convolutions' if len(missing) > 1 else ''
        truncated = '; it is probably truncated' if missing[-1] == 'conv10' else ''
        raise UserError(
            f'{path}: ends after layer {name_of(layers_of(net)[-1])!r}, and {missing[0]} of '
            f'{label}{also} is missing{truncated}'
        )


def _check_order(net, by_order, path):
    """Raises UserError where layers without wiring stand in another order than their names.

    by_order: the layers that were matched by it; the first numbers in their names must not fall.
    """
    last = 0
    for index in by_order:
        number = re.search(r'\d+', name_of(layers_of(net)[index]))
        if number and int(number[0][:9]) < last:
            raise UserError(
                f'{where(path, layers_of(net)[index])} stands in another order than its name says, '
                'and the file has no wiring that could tell which counts'
            )
        last = int(number[0][:9]) if number else last
