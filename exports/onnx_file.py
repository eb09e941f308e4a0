"""A model as ONNX, node by node from the table of the network, by Caffe's names.

Input `data` float32 [N, 3, crop, crop] as the network takes it, output `logits` [N, class_num]; or,
with preprocessing in the graph, input `picture` uint8 [N, crop, crop, 3] RGB, output `prob`. The
metadata holds class_names and preprocessing as JSON. N is open, unless with_fixed_batch fixes it.
ONNX: operators of opset 13.
"""

import json

import common.onnxruntime_setup  # noqa: F401 - before ONNX Runtime

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from network import architecture
from network.preprocessing import preprocessing_of

OPSET = 13  # the first with a quantisation step per channel; ONNX Runtime, OpenVINO and web read it
IR_VERSION = 8


def build(tensors, config, preprocessing=False):
    """The onnx.ModelProto of a model; `preprocessing`: from RGB bytes to probabilities."""
    graph = _Graph(tensors)
    size, class_num = preprocessing_of(config).crop, config['class_num']
    if preprocessing:
        data = _add_preprocessing(graph, preprocessing_of(config))
        source = helper.make_tensor_value_info(
            'picture', TensorProto.UINT8, ['N', size, size, 3], 'RGB'
        )
    else:
        data = 'data'
        source = helper.make_tensor_value_info(data, TensorProto.FLOAT, ['N', 3, size, size])
    result = _add_network(graph, data, config)
    if preprocessing:
        result = graph.add('Softmax', [result], 'prob', axis=1)
    output = helper.make_tensor_value_info(result, TensorProto.FLOAT, ['N', class_num])
    weights = [numpy_helper.from_array(value, name) for name, value in graph.constants.items()]
    model = helper.make_model(
        helper.make_graph(graph.nodes, 'SqueezeNet', [source], [output], weights),
        opset_imports=[helper.make_opsetid('', OPSET)],
        ir_version=IR_VERSION,
        producer_name='SqueezeNet for PaddlePaddle',
    )
    helper.set_model_props(model, _metadata(config))
    onnx.checker.check_model(model)
    return model


def with_fixed_batch(content: bytes, batch: int) -> bytes:
    """The same model (bytes, as build or int8 makes it) for exactly `batch` pictures at a time.

    RKNN's toolkit, for one, takes no input whose size is open.
    """
    model = onnx.load_from_string(content)
    del model.graph.value_info[:]  # what was inferred of blobs for N pictures
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    model = onnx.shape_inference.infer_shapes(model)
    onnx.checker.check_model(model)
    return model.SerializeToString()


class _Graph:
    """Nodes in order, and constants by name."""

    def __init__(self, tensors):
        self.nodes, self.constants = [], dict(tensors)

    def add(self, kind, inputs, output, name=None, **attributes):
        """Add a node that computes `output`, which is its name, too, unless `name` says another."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name or output, **attributes))
        return output

    def conv(self, name, x, relu=True, **attributes):
        """A convolution; as in Caffe, the blob after the ReLU has the convolution's name."""
        parameter = name.replace('/', '.')
        inputs = [x, f'{parameter}.weight', f'{parameter}.bias']
        attributes['kernel_shape'] = self.constants[inputs[1]].shape[2:]
        if not relu:
            return self.add('Conv', inputs, name, **attributes)
        raw = self.add('Conv', inputs, f'{name}/before_relu', name, **attributes)
        module, slash, layer = name.rpartition('/')
        return self.add('Relu', [raw], name, f'{module}{slash}relu_{layer}')

    def constant(self, name, value):
        self.constants[name] = value
        return name


def _add_preprocessing(graph, wanted):
    """From uint8 NHWC RGB to the network's input: scale * (pixel - mean), in its channel order."""
    x = graph.add('Cast', ['picture'], 'picture/float', to=TensorProto.FLOAT)
    x = graph.add('Transpose', [x], 'picture/channels_first', perm=[0, 3, 1, 2])
    if wanted.channel_order == 'BGR':
        order = graph.constant('bgr', np.array([2, 1, 0], np.int64))
        x = graph.add('Gather', [x, order], 'picture/bgr', axis=1)
    mean = np.array(wanted.mean, np.float32).reshape(1, 3, 1, 1)
    last = wanted.scale == 1
    x = graph.add('Sub', [x, graph.constant('mean', mean)], 'data' if last else 'data/unscaled')
    if last:
        return x
    scale = np.array(wanted.scale, np.float32)
    return graph.add('Mul', [x, graph.constant('scale', scale)], 'data')


def _add_network(graph, x, config):
    for row in architecture.stages(config['version'], config['bypass'], config['class_num']):
        if isinstance(row, architecture.MaxPool):
            x = graph.add(
                'MaxPool', [x], row.name, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1
            )
        elif isinstance(row, architecture.Fire):
            x = _add_fire(graph, x, row)
        elif row.name == 'conv10':
            x = graph.conv(row.name, x, config['conv10_relu'])
        else:
            x = graph.conv(row.name, x, strides=[row.stride, row.stride])
    x = graph.add('GlobalAveragePool', [x], 'pool10')
    if not config['conv10_pad']:
        return graph.add('Flatten', [x], 'logits', axis=1)
    return _add_padding(graph, graph.add('Flatten', [x], 'logits/unpadded', axis=1), config)


def _add_padding(graph, mean, config):
    """What conv10_pad does to the mean: the ring of zeros around fire9 adds places of the bias.

    As numbers, since OpenCV 5.0 leaves out the padding of a convolution of 1x1, and ncnn's
    converter has no Pad.
    """
    size = preprocessing_of(config).crop
    side = architecture.output_shapes(config['version'], size)['conv10'][1]
    share = side**2 / (side + 2) ** 2
    ring = graph.constants['conv10.bias'] * (1 - share)
    if config['conv10_relu']:
        ring = np.maximum(ring, 0)
    shrunk = graph.constant('conv10_pad/inside', np.array(share, np.float32))
    added = graph.constant('conv10_pad/ring', ring.astype(np.float32))
    mean = graph.add('Mul', [mean, shrunk], 'logits/inside')
    return graph.add('Add', [mean, added], 'logits')


def _add_fire(graph, x, row):
    squeezed = graph.conv(f'{row.name}/squeeze1x1', x)
    small = graph.conv(f'{row.name}/expand1x1', squeezed)
    large = graph.conv(f'{row.name}/expand3x3', squeezed, pads=[1, 1, 1, 1])
    expanded = graph.add('Concat', [small, large], f'{row.name}/concat', axis=1)
    if row.bypass is None:
        return expanded
    if row.bypass == 'complex':
        x = graph.conv(f'{row.name}/bypass1x1', x, relu=False)
    # Sum, not Add: what OpenCV 4.14 fuses Add and the convolution before it into is nonsense.
    return graph.add('Sum', [expanded, x], f'{row.name}/bypass')


def _metadata(config):
    kept = ('version', 'bypass', 'conv10_pad', 'conv10_relu', 'preprocessing', 'class_names')
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in ((name, config.get(name)) for name in kept)
        if value is not None
    }


def session(model, threads=0, outputs=None):
    """A function from images to what ONNX Runtime's CPU makes of them with `model` (bytes).

    It gives the one output, or the list of those named in `outputs`. 0 threads: one a core.
    """
    import onnxruntime  # here, since a file can be written without it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors alone
    found = onnxruntime.InferenceSession(model, options, ['CPUExecutionProvider'])
    name = found.get_inputs()[0].name

    def run(images):
        results = found.run(outputs, {name: images})
        return results if outputs else results[0]

    return run
