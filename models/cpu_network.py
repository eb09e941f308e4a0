"""The network on a processor: by Paddle Inference, or by NumPy, which starts a second sooner."""

from network.numpy_network import NumpyNetwork

BATCH = 4  # pictures, whose results stay in the cache


def cpu_network(tensors, config, end_layer=None, precision='float32', by_numpy=False):
    """Function of float32 pictures [N, 3, crop, crop] -> float32 logits [N, class_num], or what
    layer `end_layer` gives, [N, C, h, w]. NumPy knows float32 alone."""
    if by_numpy:
        return NumpyNetwork(tensors, config, end_layer)
    from models.inference import Predictor, build_program  # here, since they import Paddle

    return Predictor(build_program(tensors, config, end_layer), precision=precision)
