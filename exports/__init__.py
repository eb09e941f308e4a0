"""A model in the forms of other runtimes: ONNX, its int8, Paddle Inference, a web page."""
