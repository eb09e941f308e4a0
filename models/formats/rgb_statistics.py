"""ImageNet's statistics, as PyTorch's and Paddle's networks are fed: (pixel / 255 - mean) / std.

Here a network subtracts a mean and multiplies by one scale, so the deviations go into conv1, which
nothing pads: the same function, to the rounding of float32.
"""

import numpy as np

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of pixels 0 to 1, in RGB order
RGB_MEAN = tuple(round(255 * value, 3) for value in MEAN)


def divide_by_deviation(weight: np.ndarray) -> np.ndarray:
    """conv1's weight [O, 3, k, k] for pixels minus RGB_MEAN, float32, from that for the above."""
    divisor = 255 * np.array(STD, np.float64).reshape(1, 3, 1, 1)
    return (weight / divisor).astype(np.float32)
