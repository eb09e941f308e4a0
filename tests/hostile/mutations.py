"""Random changes to bytes and to JSON, and the values that break readers most often."""

import json

INTEGERS = [0, 1, -1, 2, 3, 4, 7, 127, 255, 4096, 65535, 2**31 - 1, -(2**31), 2**40, 2**62]
INTEGERS += [-(2**63), 2**63, 2**64, 10**30]
FLOATS = [0.0, -1.0, 1.0, 1e-45, 3e38, 1e300, float('inf'), float('-inf'), float('nan')]
TEXTS = ['', 'conv1', 'data', '../../outside', '/etc/passwd', '\0', '\ud800', 'x' * 5000, '1.1']
TEXTS += ['conv1.weight', 'simple', '\x1b[2J', 'größe\n']
NESTED = [None]
for _ in range(800):  # json's own limit is near 1000
    NESTED = [NESTED]


def mutate_bytes(rng, content, others=()):
    """One to eight flips, overwritten numbers, cuts, copies or splices, the start preferred."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = int(len(content) * rng.random() ** rng.choice((1, 3, 12)))
        size = rng.choice((1, 2, 4, 8, 16, 100, 1000))
        kind = rng.randrange(8)
        if kind == 0 and at < len(content):
            content[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            number = rng.choice(INTEGERS) % 2 ** (8 * size)
            content[at : at + size] = number.to_bytes(size, rng.choice(('little', 'big')))
        elif kind == 2:
            content[at : at + size] = rng.randbytes(size)
        elif kind == 3:
            del content[at : at + size]
        elif kind == 4:
            content[at:at] = content[at : at + size] * rng.choice((1, 2, 50))
        elif kind == 5:
            del content[at:]
        elif kind == 6 and others:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            content[at:] = other[start:]
        else:
            content[at:at] = rng.choice(TEXTS).encode('utf-8', 'surrogatepass')
    return bytes(content)


def mutate_json(rng, value):
    """A copy of `value` in which one to three places hold something unexpected."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 2, 3))):
        odd = [None, True, NESTED, {}, [], {'a': {'b': []}}, *INTEGERS, *FLOATS, *TEXTS]
        place = value
        while isinstance(place, (dict, list)) and place:
            key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
            if not isinstance(place[key], (dict, list)) or not place[key] or rng.random() < 0.3:
                break
            if place[key] is NESTED:  # which would be put into itself
                break
            place = place[key]
        if not place:
            return rng.choice(odd)
        if rng.random() < 0.2:
            del place[key]
        else:
            place[key] = rng.choice(odd)
        if isinstance(value, dict) and rng.random() < 0.2:
            value[rng.choice(('extra', 'class_names', 'bypass'))] = rng.choice(odd)
    return value
