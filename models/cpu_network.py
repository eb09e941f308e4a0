"""The network on a processor: by Paddle Inference, or by NumPy, which starts a second sooner."""

from network.numpy_network import NumpyNetwork

BATCH = 4  # pictures, whose results stay in the cache


def network_on_cpu(tensors, config, upto=None, precision='float32', by_numpy=False):
    """Function of float32 pictures [N, 3, crop, crop] -> float32 logits [N, class_num], or what
    layer `upto` gives, [N, C, h, w]. NumPy knows float32 alone."""
    if by_numpy:
        return NumpyNetwork(tensors, config, upto)
    from models.inference import Predictor, build_program  # here, since they import Paddle

    return Predictor(build_program(tensors, config, upto), precision=precision)
