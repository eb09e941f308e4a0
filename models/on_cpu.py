"""The network on a processor: by Paddle Inference, or by NumPy, which starts a second sooner."""

from common.console import UserError
from network import architecture
from network.numpy_network import NumpyNetwork
from network.preprocessing import preprocessing_of

BATCH = 4  # pictures, whose results stay in the cache


def network_on_cpu(tensors, config, upto=None, precision='float32', by_numpy=False):
    """Function of float32 pictures [N, 3, crop, crop] -> float32 logits [N, class_num], or what
    layer `upto` gives, [N, C, h, w]. NumPy knows float32 alone. Raises UserError."""
    _check_size(config)
    if by_numpy:
        return NumpyNetwork(tensors, config, upto)
    from models.inference import Predictor, build_program  # here, since they import Paddle

    return Predictor(build_program(tensors, config, upto), precision=precision)


def _check_size(config):
    """Of pictures that are too small nothing is left for conv10, which Paddle does not mind."""
    size, least = preprocessing_of(config).crop, architecture.smallest_input(config['version'])
    if size < least:
        raise UserError(
            f'the configuration: crop is {size}; the network needs {least} pixels at least'
        )
