"""A model in int8 on ONNX Runtime, made where it is used: for infer.py --precision int8."""

import os

import numpy as np

from exports import int8, int8_calibration, onnx_file


class Int8Network:
    """float32 pictures [N, 3, crop, crop] -> float32 logits [N, class_num], by an ONNX `model`.

    Like models.inference.Predictor it computes with one thread, and each process makes its own.
    """

    def __init__(self, model):
        self.model, self.process = model, None

    def __call__(self, images):
        if self.process != os.getpid():
            self._run, self.process = onnx_file.session(self.model, threads=1), os.getpid()
        return self._run(images)

    def __getstate__(self):
        return {'model': self.model, 'process': None}


def make_int8_network(tensors, config, pictures):
    """The Int8Network of a model, whose ranges are measured on the list `pictures`.

    How often its likeliest class is float32's on these is printed: a processor without
    multiply-and-add of bytes (VNNI) may cut off sums, which shows here alone. Raises UserError
    where the network's own numbers are none.
    """
    feeds = int8_calibration.calibration_feeds(pictures, config)
    network = Int8Network(int8.quantise(tensors, config, False, feeds))
    exact = onnx_file.session(onnx_file.build(tensors, config).SerializeToString())
    found, wanted = (np.concatenate([run(feed) for feed in feeds]) for run in (network, exact))
    same = (found.argmax(axis=1) == wanted.argmax(axis=1)).mean()
    print(f'int8: the likeliest class is that of float32 on {same:.1%}')
    return network
