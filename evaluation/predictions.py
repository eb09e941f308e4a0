"""What a model answers of a picture: names with probabilities, and `unknown` where it is unsure."""

import math

from common.console import UserError

UNKNOWN = 'unknown'


def temperature_of(config):
    """What logits are divided by before softmax: the configuration's, or 1. Raises UserError."""
    temperature = _number(config, 'temperature', 1.0)
    if temperature <= 0:
        raise UserError(f'the configuration: temperature is {temperature}; it must be above 0')
    return temperature


def threshold_of(config):
    """Below which probability of the likeliest class the answer is `unknown`; 0 for never."""
    threshold = _number(config, 'threshold', 0.0)
    if not 0 <= threshold <= 1:
        raise UserError(f'the configuration: threshold is {threshold}; it must be 0 to 1')
    return threshold


def _number(config, name, default):
    value = config.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UserError(f'the configuration: {name} is {value!r:.99}; it must be a number')
    return float(value)


def answer(classes, probabilities, names, threshold=0.0):
    """[(name, probability)] of one picture's likeliest classes, the likeliest first.

    Where that is below `threshold`, ('unknown', the probability of any other than the likeliest)
    comes before it.
    """
    named = [(names[c], float(p)) for c, p in zip(classes, probabilities)]
    if named[0][1] < threshold:
        return [(UNKNOWN, 1 - named[0][1]), *named]
    return named
