"""What a model answers of a picture: names with probabilities, and `unknown` where it is unsure."""

UNKNOWN = 'unknown'


def temperature_of(config: dict) -> float:
    """What logits are divided by before softmax: the configuration's, or 1."""
    return float(config.get('temperature') or 1.0)


def threshold_of(config: dict) -> float:
    """Below which probability of the likeliest class the answer is `unknown`; 0 for never."""
    return float(config.get('threshold') or 0.0)


def answer(classes, probabilities, names, threshold=0.0):
    """[(name, probability)] of one picture's likeliest classes, the likeliest first.

    Where that is below `threshold`, ('unknown', the probability of any other than the likeliest)
    comes before it.
    """
    named = [(names[c], float(p)) for c, p in zip(classes, probabilities)]
    if named[0][1] < threshold:
        return [(UNKNOWN, 1 - named[0][1]), *named]
    return named
