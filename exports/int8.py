"""ONNX in int8 by ONNX Runtime's static quantiser, and how it compares with float32.

Weights have a step for each filter; a blob has one for all its channels, whose ranges differ. So
channels are first brought nearer to one range, which changes nothing in float32: what follows a
ReLU may be divided, channel by channel, by what the next convolution's weights are multiplied by
(Nagel et al. 2019, arXiv:1906.04721; shared between the two as in Xiao et al. 2022, 2211.10438).
Then the weights are rounded one input after another, each rounding's error made good by the weights
not yet rounded, as the inputs' second moments say (Frantar et al. 2022, arXiv:2210.17323). conv10's
mean and the logits stay float32.
"""

import tempfile
import time
from pathlib import Path

import common.onnxruntime_setup  # noqa: F401 - before ONNX Runtime

import numpy as np
import onnx
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from common.console import UserError
from exports import onnx_file
from network import architecture

OPERATORS = ['Conv', 'Relu', 'MaxPool', 'Concat', 'Add']
LEFT = ['logits', 'prob']  # nodes that stay as they are
RANGED = ('Relu', 'Conv', 'Concat', 'Sum', 'Flatten', 'Add')
BEFORE_RELU = '/before_relu'
SHARE = 0.85  # of a channel's range that goes to the weights; 0.7 is as good, 0.5 and 1 are worse
MOST = 16  # times that a channel is scaled
MOST_LEVEL = 127  # of a weight
PLACES = 14  # across a blob, whose inputs are looked at
RIDGE = 1e-2  # of the moments' mean, added to each
TIMED = 30  # runs


def quantise(tensors, config, preprocessing, feeds):
    """The int8 model's bytes. `feeds`: batches of calibration pictures as onnx_file.build says.

    Raises UserError where the network makes of these what are no numbers.
    """
    tensors, steps = rounded_weights(tensors, config, preprocessing, feeds)
    model = onnx_file.build(tensors, config, preprocessing)
    for node in model.graph.node:
        if node.op_type == 'Sum':  # which the quantiser does not know
            node.op_type = 'Add'
    with tempfile.TemporaryDirectory(prefix='squeezenet-') as folder:
        given, known, made = (Path(folder) / f'{name}.onnx' for name in ('float', 'known', 'int8'))
        onnx.save(model, given)  # the pre-processing of before 1.20 loses a model in memory
        quant_pre_process(given, known, skip_optimization=True, skip_symbolic_shape=True)
        quantization.quantize_static(
            known,
            made,
            _Feeds(model.graph.input[0].name, feeds),
            op_types_to_quantize=[*OPERATORS, 'Softmax'],  # before 1.20 its range must be known
            nodes_to_exclude=LEFT,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            extra_options={'TensorQuantOverrides': {n: _as_asked(x) for n, x in steps.items()}},
        )
        quantised = onnx.load(made)
    del quantised.metadata_props[:]  # the tools' own remarks
    quantised.metadata_props.extend(model.metadata_props)
    return quantised.SerializeToString()


def rounded_weights(tensors, config, preprocessing, feeds):
    """(tensors of nearly the same function, {weight's name: its steps, float32 [O]}), see above.

    Every weight is a multiple, of at most MOST_LEVEL, of its filter's step. Raises UserError where
    the network makes of `feeds` what are no numbers.
    """
    largest = _largest_of_channels(onnx_file.build(tensors, config, preprocessing), feeds)
    tensors = _balanced(tensors, config, largest)
    moments = _input_moments(onnx_file.build(tensors, config, preprocessing), feeds)
    steps = {}
    for name, found in moments.items():
        tensors[name], steps[name] = _rounded(tensors[name], found)
    return tensors, steps


def blob_ranges(tensors, config, preprocessing, feeds):
    """{blob's name: (smallest, largest)} over all feeds: of convolutions after their ReLU, of
    joined expands, of bypasses, and of the logits."""
    model = onnx_file.build(tensors, config, preprocessing)
    nodes = [node for node in model.graph.node if node.op_type in RANGED]
    names = [node.output[0] for node in nodes if not node.output[0].endswith(BEFORE_RELU)]
    for name in {*names} - {model.graph.output[0].name}:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    run = onnx_file.session(model.SerializeToString(), outputs=names)
    limits = [[(blob.min(), blob.max()) for blob in run(feed)] for feed in feeds]
    return {
        name: (float(min(low for low, _ in found)), float(max(high for _, high in found)))
        for name, found in zip(names, zip(*limits))
    }


class _Feeds(quantization.CalibrationDataReader):
    def __init__(self, name, feeds):
        self.batches = ({name: feed} for feed in feeds)

    def get_next(self):
        return next(self.batches, None)


def _largest_of_channels(model, feeds):
    """{convolution's name: largest output of each channel, float32 [C]} over all feeds."""
    names = [node.output[0] for node in model.graph.node if node.op_type == 'Relu']
    result = model.graph.output[0].name
    for name in names:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    run, largest = onnx_file.session(model.SerializeToString(), outputs=[result, *names]), []
    for feed in feeds:
        logits, *blobs = run(feed)
        largest.append([blob.max(axis=(0, 2, 3)) for blob in blobs])
        if not all(np.isfinite(values).all() for values in (logits, *largest[-1])):
            raise UserError('the network gives NaN or infinite numbers; its weights are too large')
    return {
        name.replace('/', '.'): np.max(values, axis=0) for name, values in zip(names, zip(*largest))
    }


def _balanced(tensors, config, largest):
    """The same function in other parameters, see above. Sums of bypasses are left as they are."""
    tensors = {name: value.copy() for name, value in tensors.items()}
    before, plain = ['conv1'], config['bypass'] is None
    for row in architecture.stages(config['version'], config['bypass'], config['class_num']):
        if not isinstance(row, architecture.Fire):
            continue
        squeeze = f'{row.name}.squeeze1x1'
        expands = [f'{row.name}.expand1x1', f'{row.name}.expand3x3']
        if plain:
            _balance(tensors, largest, before, [squeeze])
        _balance(tensors, largest, [squeeze], expands)
        before = expands
    if plain:
        _balance(tensors, largest, before, ['conv10'])
    return tensors


def _balance(tensors, largest, makers, takers):
    """Divide each output of `makers` by a factor, multiply the weights of `takers` for it by it."""
    outputs = _above_zero(np.concatenate([largest[name] for name in makers]))
    weights = [np.abs(tensors[f'{name}.weight']).max(axis=(0, 2, 3)) for name in takers]
    factors = outputs**SHARE / _above_zero(np.max(weights, axis=0)) ** (1 - SHARE)
    factors /= np.exp(np.log(factors).mean())
    factors = np.clip(factors, 1 / MOST, MOST).astype(np.float32)
    for name in takers:
        tensors[f'{name}.weight'] *= factors[:, None, None]
    start = 0
    for name in makers:
        own = factors[start : start + len(largest[name])]
        tensors[f'{name}.weight'] /= own[:, None, None, None]
        tensors[f'{name}.bias'] /= own
        start += len(own)


def _above_zero(values):
    """`values` as float64, dead channels as if they had a thousandth of the largest."""
    return np.maximum(values.astype(np.float64), max(values.max() * 1e-3, 1e-30))


# --- rounding -------------------------------------------------------------------------------------


def _input_moments(model, feeds):
    """{weight's name: X X^T, float64 [K, K]} over the inputs X [K, places] of each convolution."""
    convolutions = [node for node in model.graph.node if node.op_type == 'Conv']
    names = sorted({node.input[0] for node in convolutions})
    for name in names:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    run, moments = onnx_file.session(model.SerializeToString(), outputs=names), {}
    for feed in feeds:
        blobs = dict(zip(names, run(feed)))
        for node in convolutions:
            columns = _columns(blobs[node.input[0]], node)
            found = (columns @ columns.T).astype(np.float64)
            moments[node.input[1]] = moments.get(node.input[1], 0) + found
    return moments


def _columns(x, node):
    """Inputs [K, places] of a convolution at some PLACES x PLACES places of x [N, C, H, W]."""
    said = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    kernel, pad = said['kernel_shape'][0], said.get('pads', [0])[0]
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    stride = said.get('strides', [1])[0]
    stride *= max(1, (x.shape[2] - kernel) // stride // PLACES)
    windows = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride].transpose(1, 4, 5, 0, 2, 3)
    return windows.reshape(x.shape[1] * kernel * kernel, -1)


def _rounded(weight, moments):
    """(a weight OIHW as whole steps, float32; the steps, float32 [O]); rounded as said above."""
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    steps = np.maximum(np.abs(rows).max(axis=1) / MOST_LEVEL, 1e-30).astype(np.float32)
    moments = moments + np.eye(len(moments)) * (
        RIDGE * max(np.trace(moments), 1e-30) / len(moments)
    )
    order = np.argsort(-np.diag(moments), kind='stable')
    factor = np.linalg.cholesky(np.linalg.inv(moments[order][:, order])).T
    rows, levels = rows[:, order], np.empty_like(rows)
    for k in range(len(order)):
        level = np.clip(np.round(rows[:, k] / steps), -MOST_LEVEL, MOST_LEVEL)
        error = (rows[:, k] - level * steps) / factor[k, k]
        rows[:, k + 1 :] -= error[:, None] * factor[k, k + 1 :]
        levels[:, order[k]] = level
    return (levels * steps[:, None]).astype(np.float32).reshape(weight.shape), steps


def _as_asked(steps):
    """A weight's steps as quantize_static takes them: one dict for each filter."""
    kind, zero = quantization.QuantType.QInt8, np.array(0, np.int8)
    asked = [{'quant_type': kind, 'scale': np.array(x), 'zero_point': zero} for x in steps]
    asked[0]['axis'] = 0
    return asked


# --- how it compares ------------------------------------------------------------------------------


def compare(float_model, int8_model, batches):
    """A line on both models (bytes) over `batches` of (feed, labels): top-1, top-5, agreement."""
    return compare_runs(onnx_file.session(float_model), onnx_file.session(int8_model), batches)


def compare_runs(run_float, run_int8, batches):
    """The same of two functions from a feed to results [N, class_num]."""
    count, same, hits = 0, 0, np.zeros((2, 2), int)  # of float and int8: top-1, top-5
    for feed, labels in batches:
        tops = [_five(run(feed)) for run in (run_float, run_int8)]
        right = np.stack([top == labels[:, None] for top in tops])
        hits += np.stack([right[:, :, 0].sum(axis=1), right.any(axis=2).sum(axis=1)], axis=1)
        same += int((tops[0][:, 0] == tops[1][:, 0]).sum())
        count += len(labels)
    (float1, float5), (int1, int5) = hits / count
    return (
        f'{count} images: float32 top-1 {float1:.2%}, top-5 {float5:.2%}; int8 top-1 {int1:.2%}, '
        f'top-5 {int5:.2%}; the same top-1 on {same / count:.2%}'
    )


def _five(results):
    return np.argsort(-results, axis=1, kind='stable')[:, :5]


def speeds(float_model, int8_model, feed):
    """A line on the time that one picture takes both on one core: medians of runs in turn."""
    runs = [onnx_file.session(model, threads=1) for model in (float_model, int8_model)]
    seconds = []
    for _ in range(TIMED):
        for run in runs:
            start = time.perf_counter()
            run(feed)
            seconds.append(time.perf_counter() - start)
    float_time, int8_time = np.median(np.reshape(seconds, (-1, 2)), axis=0)
    return (
        f'one picture on one core: float32 {float_time * 1e3:.1f} ms, int8 {int8_time * 1e3:.1f} ms'
        f' ({float_time / int8_time:.1f} times as fast)'
    )
