"""A network in integers alone: int8 weights, uint8 activations, int32 sums; and its arithmetic in
NumPy, which the C file of c_source.py repeats bit for bit.

Weights and ranges are those of the int8 ONNX (int8.py). A sum becomes an activation by an
integer multiplication and a rounding shift, one pair per filter (Jacob et al. 2018,
arXiv:1712.05877, section 2.2). Mean, scale and channel order of the preprocessing lie in conv1.
"""

import math
from typing import NamedTuple, Optional, Union

import numpy as np

from network import architecture
from network.numpy_network import Conv, columns, convolutions, max_pool
from network.preprocessing import preprocessing_of

MULTIPLIER_BITS = 31
MOST_SHIFT = 62  # of an int64
MOST_BIAS = 2**29  # with 255 * 127 * 576 added it stays an int32
ADDED_BITS = 21  # of the multipliers of a bypass, so that both products fit an int32
MOST_LOGIT_BITS = 20  # behind the point
LOGIT_MARGIN = 16  # how far above the calibration pictures' logits others may lie
SMALLEST_RANGE = 1e-6  # of a blob, if it is all zeros
PIXELS = 'pixels'  # the name of the input's range


class Range(NamedTuple):
    """A blob's activation q stands for scale * (q - zero)."""

    scale: float
    zero: int


class Filters(NamedTuple):
    """A convolution. int8 weight [O, kernel, kernel, I], int32 bias [O]; the activation is
    round(sum * multiplier / 2**shift) + zero, int32 and uint8 [O], cut to 0 to 255."""

    weight: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray
    zero: int


class Addition(NamedTuple):
    """A bypass: round((own * a + (beside - beside_zero) * b) / 2**shift) + zero."""

    own: int
    beside: int
    beside_zero: int
    shift: int
    zero: int


Lowered = tuple[np.ndarray, np.ndarray, np.ndarray]  # _lowered's


class IntegerNetwork(NamedTuple):
    """`filters` {convolution: Filters} in the network's order, `additions` {fire: Addition}.

    conv10's Filters make of the sums over all places, those of the padding included, logits in
    units of 2**-logit_bits; `padding`, int64 [class_num], is what the zeros around its input add,
    `most_sum` the largest magnitude that a sum can have.
    """

    config: dict
    filters: dict
    additions: dict
    logit_bits: int
    most_sum: int
    padding: np.ndarray

    @property
    def wide_sums(self) -> bool:
        """Whether a sum of conv10 after its ReLU may be more than an int32 holds."""
        return bool(self.config['conv10_relu'] and self.most_sum >= 2**31)

    def logits(self, crops: np.ndarray) -> np.ndarray:
        """int32 [N, class_num], in units of 2**-logit_bits, of uint8 crops [N, crop, crop, 3] in
        the channel order that conv1 was built for."""
        return np.concatenate([self._logits_of_one(crop[np.newaxis]) for crop in crops])

    def _logits_of_one(self, crop: np.ndarray) -> np.ndarray:
        convs, x = convolutions(self.config), crop.astype(np.float32)
        for row in _rows(self.config):
            if isinstance(row, architecture.MaxPool):
                x = max_pool(x)
            elif isinstance(row, architecture.Fire):
                x = self._fire(row, x, convs)
            elif row.name == 'conv1':
                x = self._activations(convs['conv1'], x)
        return self._conv10(convs['conv10'], x)

    def _fire(self, row: architecture.Fire, x: np.ndarray, convs: dict[str, Conv]) -> np.ndarray:
        squeezed = self._activations(convs[f'{row.name}.squeeze1x1'], x)
        parts = [
            self._activations(convs[f'{row.name}.{part}'], squeezed)
            for part in ('expand1x1', 'expand3x3')
        ]
        own = np.concatenate(parts, axis=3)
        if row.bypass is None:
            return own
        if row.bypass == 'complex':
            x = self._activations(convs[f'{row.name}.bypass1x1'], x)
        add = self.additions[row.name]
        total = own.astype(np.int64) * add.own
        total += (x.astype(np.int64) - add.beside_zero) * add.beside
        return _activation(_rounding_shift(total, add.shift) + add.zero)

    def _activations(self, conv: Conv, x: np.ndarray) -> np.ndarray:
        """float32 activations [1, H, W, C], whole numbers from 0 to 255, after a convolution."""
        own = self.filters[conv.name]
        sums = _sums(own, columns(x, conv))
        return _activation(_rounding_shift(sums * own.multiplier, own.shift) + own.zero)

    def _conv10(self, conv: Conv, x: np.ndarray) -> np.ndarray:
        own = self.filters[conv.name]
        sums = _sums(own, x)
        if conv.relu:
            sums = np.maximum(sums, 0)
        total = sums.sum(axis=(1, 2)) + self.padding
        logits = _rounding_shift(total * own.multiplier, own.shift)
        return np.clip(logits, -(2**31) + 1, 2**31 - 1).astype(np.int32)


def _rows(config: dict) -> list:
    return architecture.stages(config['version'], config['bypass'], config['class_num'])


def _sums(filters: Filters, inputs: np.ndarray) -> np.ndarray:
    """int64 [N, H, W, O]; float64 holds these whole numbers exactly, and has a fast product."""
    matrix = filters.weight.reshape(len(filters.bias), -1).T.astype(np.float64)
    sums = inputs.astype(np.float64).reshape(-1, len(matrix)) @ matrix
    return sums.astype(np.int64).reshape(*inputs.shape[:3], -1) + filters.bias


def _rounding_shift(products: np.ndarray, shift: Union[int, np.ndarray]) -> np.ndarray:
    """int64 products / 2**shift, rounded, halves away from zero."""
    shift = np.asarray(shift, np.int64)
    rounded = (np.abs(products) + (np.int64(1) << (shift - 1))) >> shift
    return np.where(products < 0, -rounded, rounded)


def _activation(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255).astype(np.float32)


# --- from floating point --------------------------------------------------------------------------


def build(
    tensors: dict[str, np.ndarray], config: dict, steps: dict[str, np.ndarray],
    ranges: dict[str, tuple[float, float]], most_logit: float, channel_order: str,
) -> IntegerNetwork:  # fmt: skip
    """The IntegerNetwork of float tensors whose weights are whole multiples of `steps`.

    steps: {weight's name: float32 [O]}; ranges: {blob's name: (smallest, largest)}, as
    int8.blob_ranges gives them; most_logit: the largest magnitude on the calibration pictures;
    channel_order: 'RGB' or 'BGR' of the pictures that the network will get.
    """
    wanted = preprocessing_of(config)
    blobs = {name: _range(*limits) for name, limits in ranges.items()}
    blobs[PIXELS] = Range(wanted.scale, 0)
    convs, sources = convolutions(config), _sources(config)
    filters, additions = {}, {}
    for name, (source, target) in sources.items():
        tensor = tensors[f'{name}.weight'], tensors[f'{name}.bias'], steps[f'{name}.weight']
        mean = wanted.mean if name == 'conv1' else None
        lowered = _lowered(*tensor, blobs[source], mean)
        if name == 'conv1' and channel_order != wanted.channel_order:
            lowered = lowered[0][..., ::-1], *lowered[1:]
        if name != 'conv10':
            filters[name] = _filters(*lowered, blobs[target])
    for row in _rows(config):
        if isinstance(row, architecture.Fire) and row.bypass:
            additions[row.name] = _addition(row, blobs, sources)
    source = blobs[sources['conv10'][0]]
    return _with_conv10(config, lowered, source, convs['conv10'], most_logit, filters, additions)


def _sources(config: dict) -> dict[str, tuple[str, str]]:
    """{convolution: (blob that it reads, blob whose range its output has)}, in order."""
    found, x = {}, PIXELS
    for row in _rows(config):
        if isinstance(row, architecture.Conv):
            found[row.name] = x, row.name
            x = row.name
        elif isinstance(row, architecture.Fire):
            squeeze, joined = f'{row.name}/squeeze1x1', f'{row.name}/concat'
            found[f'{row.name}.squeeze1x1'] = x, squeeze
            found[f'{row.name}.expand1x1'] = squeeze, joined
            found[f'{row.name}.expand3x3'] = squeeze, joined
            if row.bypass == 'complex':
                found[f'{row.name}.bypass1x1'] = x, f'{row.name}/bypass1x1'
            x = f'{row.name}/bypass' if row.bypass else joined
    return found


def _range(smallest: float, largest: float) -> Range:
    smallest, largest = min(smallest, 0.0), max(largest, 0.0)
    scale = max(largest - smallest, SMALLEST_RANGE) / 255
    return Range(scale, round(-smallest / scale))


def _lowered(
    weight: np.ndarray, bias: np.ndarray, steps: np.ndarray, source: Range, mean: Optional[tuple]
) -> Lowered:
    """(int8 weight [O, k, k, I], int32 bias, what 1 in a sum stands for, float64 [O])."""
    weight, bias = weight.transpose(0, 2, 3, 1).astype(np.float64), bias.astype(np.float64)
    if mean is not None:
        bias = bias - source.scale * (weight * np.asarray(mean, np.float64)).sum(axis=(1, 2, 3))
    unit = abs(source.scale)
    steps = np.maximum(steps.astype(np.float64), np.abs(bias) / (unit * MOST_BIAS))
    levels = np.round(weight / steps[:, None, None, None] * math.copysign(1, source.scale))
    # A filter almost without weights may have got a larger step, for the sake of its bias.
    levels = np.clip(levels, -127, 127).astype(np.int8)
    sums = levels.astype(np.int64).sum(axis=(1, 2, 3))
    whole = np.round(bias / (unit * steps)).astype(np.int64) - source.zero * sums
    return levels, whole.astype(np.int32), unit * steps


def _filters(
    weight: np.ndarray, bias: np.ndarray, unit: np.ndarray, target: Range,
    bits: int = MULTIPLIER_BITS,
) -> Filters:  # fmt: skip
    pairs = [fixed_point(value / target.scale, bits) for value in unit]
    multiplier, shift = (np.array(column) for column in zip(*pairs))
    return Filters(
        weight, bias, multiplier.astype(np.int32), shift.astype(np.uint8), int(target.zero)
    )


def fixed_point(real: float, bits: int) -> tuple[int, int]:
    """(whole, shift): real is about whole / 2**shift, whole below 2**bits, shift 1 to 62."""
    exponent = math.frexp(real)[1] if real > 0 else 0
    shift = min(max(bits - exponent, 1), MOST_SHIFT)
    return min(round(real * 2.0**shift), 2**bits - 1), shift


def _addition(
    row: architecture.Fire, blobs: dict[str, Range], sources: dict[str, tuple[str, str]]
) -> Addition:
    name = row.name
    beside = blobs[sources[f'{name}.squeeze1x1'][0]]
    if row.bypass == 'complex':
        beside = blobs[f'{name}/bypass1x1']
    own, target = blobs[f'{name}/concat'], blobs[f'{name}/bypass']
    ratios = own.scale / target.scale, beside.scale / target.scale
    shift = fixed_point(max(ratios), ADDED_BITS)[1]
    factors = [min(round(ratio * 2.0**shift), 2**ADDED_BITS - 1) for ratio in ratios]
    return Addition(*factors, beside.zero, shift, target.zero)


def _with_conv10(
    config: dict, lowered: Lowered, source: Range, conv: Conv, most_logit: float,
    filters: dict[str, Filters], additions: dict[str, Addition],
) -> IntegerNetwork:  # fmt: skip
    weight, bias, unit = lowered
    shapes = architecture.output_shapes(config['version'], preprocessing_of(config).crop)
    inside = shapes['conv10'][1] ** 2
    places = (shapes['conv10'][1] + 2 * conv.padding) ** 2
    levels = weight.reshape(len(weight), -1).astype(np.int64)
    outside = bias + source.zero * levels.sum(axis=1)  # where all inputs are 0
    padding = (places - inside) * (np.maximum(outside, 0) if conv.relu else outside)
    most_sum = _most_sum(levels, bias.astype(np.int64), inside) + int(np.abs(padding).max())
    bits = MOST_LOGIT_BITS
    while bits and most_logit * LOGIT_MARGIN * 2.0**bits >= 2**31:
        bits -= 1
    multiplier_bits = min(MULTIPLIER_BITS, MOST_SHIFT - most_sum.bit_length())
    scaled = Range(2.0**-bits * places, 0)
    conv10 = _filters(weight, bias, unit, scaled, multiplier_bits)
    return IntegerNetwork(config, {**filters, 'conv10': conv10}, additions, bits, most_sum, padding)


def _most_sum(levels: np.ndarray, bias: np.ndarray, inside: int) -> int:
    """The largest magnitude of a class's sum over `inside` places, whatever the picture."""
    above = 255 * np.maximum(levels, 0).sum(axis=1)
    below = 255 * np.maximum(-levels, 0).sum(axis=1)
    return int((np.maximum(above, below) + np.abs(bias)).max()) * inside
