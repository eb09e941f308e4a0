"""From sums to answers in C: logits, the likeliest class, probabilities and names of classes."""

import math
from collections.abc import Sequence
from typing import Optional

from exports import c_plan
from exports.c_names import encoded, string_literal
from exports.integer_network import IntegerNetwork, fixed_point

SHARE_BITS = 24  # of a probability
POINTER = 4  # bytes, on devices of this kind


def logits(network: IntegerNetwork) -> str:
    """The loop that makes `result` of the sums of conv10, or of its inputs."""
    if network.config['conv10_relu']:
        sums = 'totals' if network.wide_sums else 'result'
        total = f'        const int64_t sum = {sums}[c];'
    else:
        last = c_plan.steps(network.config)[-1]
        places, channels = last.width**2, last.row.in_channels
        outside = ' + conv10_padding[c]' if network.padding.any() else ''
        total = f"""        int64_t sum = (int64_t)conv10_bias[c] * {places}{outside};
        int i;
        for (i = 0; i < {channels}; i++)
            sum += (int64_t)features[i] * conv10_weight[c * {channels} + i];"""
    return f"""    for (c = 0; c < NETWORK_CLASSES; c++) {{
{total}
        {{
            const int64_t logit = rounding_shift(sum * conv10_multiplier[c], conv10_shift[c]);
            result[c] = logit > INT32_MAX    ? INT32_MAX
                        : logit < -INT32_MAX ? -INT32_MAX
                                             : (int32_t)logit;
        }}
    }}"""


def answer(softmax: bool, threshold: float) -> str:
    """The end of network_end: `best`, or NETWORK_UNKNOWN below the threshold."""
    if not softmax:
        return '    return best;'
    least = math.ceil(threshold * 2**SHARE_BITS)
    if not least:
        return '    find_total(best);\n    return best;'
    return (
        '    find_total(best);\n'
        f'    return network_share(best) < {least}U ? NETWORK_UNKNOWN : best;'
    )


def softmax_numbers(logit_bits: int, temperature: float) -> dict[str, object]:
    """What c/softmax.c leaves open."""
    real = math.log2(math.e) / temperature * 2.0 ** (16 - logit_bits)
    steepness, bits = fixed_point(real, 31)
    powers = ', '.join(f'{round(2.0 ** (30 - 2.0 ** (k - 16)))}U' for k in range(16))
    return {
        'steepness': steepness,
        'steepness_bits': bits,
        'steepness_half': bits - 1,
        'powers': powers,
    }


def names(class_names: Optional[Sequence[str]]) -> str:
    if class_names is None:
        return ''
    lines = ',\n    '.join(map(string_literal, class_names))
    return f"""
static const char *const class_names[NETWORK_CLASSES] = {{
    {lines}}};

const char *network_name(int number)
{{
    return number < 0 || number >= NETWORK_CLASSES ? "unknown" : class_names[number];
}}
"""


def bytes_of_names(class_names: Optional[Sequence[str]]) -> int:
    return sum(len(encoded(name)) + 1 + POINTER for name in class_names or ())
