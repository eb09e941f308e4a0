"""ONNX in int8 by ONNX Runtime's quantiser, and how it compares with float32.

Weights have a step for each filter, activations one for each blob, as calibration pictures need it.
"""
