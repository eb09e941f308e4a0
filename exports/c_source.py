"""A network in integers (integer_network.py) as one C99 file and its header.

The arithmetic is that of c/network.c; here come the constants and the buffers of c_plan.py; the
layers are those of c_layers.py, the results those of c_answers.py.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

from exports import c_answers, c_layers, c_names, c_plan
from exports.integer_network import IntegerNetwork
from network.preprocessing import preprocessing_of

TEMPLATES = Path(__file__).parent / 'c'
WIDTH = 96  # of a line of numbers


class Options(NamedTuple):
    """name: of the files and, as C allows it, of the functions. channel_order: 'RGB' or 'BGR' of
    the pictures. softmax: with it the probabilities and the threshold.
    """

    name: str
    channel_order: str = 'RGB'
    class_names: Optional[Sequence[str]] = None
    softmax: bool = True
    temperature: float = 1.0
    threshold: float = 0.0


class CSource(NamedTuple):
    """Texts of NAME.c and NAME.h, and the sizes that they state, in bytes."""

    source: str
    header: str
    memory: int
    constants: int
    multiplications: int


class Constants(NamedTuple):
    """Definitions of arrays, and how many bytes they hold."""

    text: str
    size: int


def write(network: IntegerNetwork, options: Options) -> CSource:
    """The C file of a network. Raises UserError for names that C cannot hold."""
    c_names.check_name(options.name)
    c_names.check_class_names(options.class_names or ())
    constants = _constants(network)
    sizes = {
        'memory': _memory(network, options),
        'constants': constants.size + c_answers.bytes_of_names(options.class_names),
        'multiplications': c_plan.multiplications(network.config),
    }
    parts = {**_source_parts(network, options), 'constants': constants.text}
    source = _finished('network.c', parts, options.name)
    header = _finished('network.h', _header_parts(network, options, sizes), options.name)
    return CSource(source, header, **sizes)


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding='utf-8')


def _finished(template: str, parts: dict[str, object], name: str) -> str:
    text = _template(template)
    for _ in range(2):  # parts hold parts
        text = re.sub(r'\{\{(\w+)\}\}', lambda found: str(parts[found[1]]), text)
    own = c_names.identifier(name)
    text = re.sub(r'\bnetwork_', lambda _: f'{own}_', text)
    text = re.sub(r'\bNETWORK_', lambda _: f'{own.upper()}_', text)
    return re.sub(r'\n{3,}', '\n\n', text).rstrip() + '\n'


def _banner(config: dict) -> str:
    bypass = f', {config["bypass"]} bypass' if config['bypass'] else ''
    size = preprocessing_of(config).crop
    return (
        f'/* SqueezeNet v{config["version"]}{bypass}, {config["class_num"]} classes, pictures '
        f'of {size}x{size} pixels, int8.\n   Written by export.py; needs C99 and no library. */'
    )


def _source_parts(network: IntegerNetwork, options: Options) -> dict[str, object]:
    return {
        'banner': _banner(network.config),
        'header': f'{options.name}.h',
        'memory_macro': f'\n#define NETWORK_KERNEL {c_plan.steps(network.config)[0].row.kernel}',
        'buffers': _buffers(network, options.softmax),
        'arithmetic': _arithmetic(network),
        'layers': c_layers.write(network),
        'begin': _begin(network),
        'logits': c_answers.logits(network),
        'answer': c_answers.answer(options.softmax, options.threshold),
        'probabilities': _template('softmax.c') if options.softmax else '',
        'names': c_answers.names(options.class_names),
        **c_answers.softmax_numbers(network.logit_bits, options.temperature),
    }


def _arithmetic(network: IntegerNetwork) -> str:
    sums = 'relu_sums.c' if network.config['conv10_relu'] else 'plain_sums.c'
    return _template(sums) + (_template('bypass.c') if network.additions else '')


# --- constants ------------------------------------------------------------------------------------


def _constants(network: IntegerNetwork) -> Constants:
    arrays = []
    for name, filters in network.filters.items():
        own = c_names.symbol(name)
        arrays += [
            _array('int8_t', f'{own}_weight', filters.weight),
            _array('int32_t', f'{own}_bias', filters.bias),
            _array('int32_t', f'{own}_multiplier', filters.multiplier),
            _array('uint8_t', f'{own}_shift', filters.shift),
        ]
    if network.padding.any():
        arrays.append(_array('int64_t', 'conv10_padding', network.padding))
    texts, sizes = zip(*arrays)
    return Constants('\n'.join(texts), sum(sizes))


def _array(kind: str, name: str, values: np.ndarray) -> Constants:
    values = np.asarray(values).ravel()
    lines, line = [], ''
    for text in map(str, values.tolist()):
        if len(line) + len(text) > WIDTH:
            lines.append(line)
            line = ''
        line += f'{text},'
    body = '\n'.join([*lines, line.rstrip(',')])
    definition = f'static const {kind} {name}[{values.size}] = {{\n{body}}};'
    return Constants(definition, values.size * int(re.search(r'\d+', kind)[0]) // 8)


# --- memory ---------------------------------------------------------------------------------------


def _memory(network: IntegerNetwork, options: Options) -> int:
    """Bytes of all static variables."""
    config, classes = network.config, network.config['class_num']
    found = sum(c_plan.buffers(config).values()) + 4 * classes + 4
    if not config['conv10_relu']:
        found += 4 * c_plan.steps(config)[-1].row.in_channels
    return found + 8 * classes * network.wide_sums + 12 * options.softmax


def _buffers(network: IntegerNetwork, softmax: bool) -> str:
    place = 'static NETWORK_PLACE'
    sizes = c_plan.buffers(network.config)
    lines = [f'{place} uint8_t {name}[{size}];' for name, size in sizes.items()]
    if not network.config['conv10_relu']:
        channels = c_plan.steps(network.config)[-1].row.in_channels
        lines.append(f'{place} uint32_t features[{channels}];')
    elif network.wide_sums:
        lines += ['typedef int64_t sum_t;', f'{place} sum_t totals[NETWORK_CLASSES];']
    else:
        lines += ['typedef int32_t sum_t;']
    if softmax:
        lines += ['static int32_t largest;', 'static uint64_t total;']
    return '\n'.join(lines)


def _begin(network: IntegerNetwork) -> str:
    """What network_begin does: zeros around the squeezes, and sums that start."""
    steps = c_plan.steps(network.config)
    lines = [
        f'    clear({step.squeezed.name}, {step.squeezed.slots * step.squeezed.row});'
        for step in steps
        if step.squeezed
    ]
    start = 'conv10_padding[i]' if network.padding.any() else '0'
    if network.wide_sums:
        lines.append(f'    for (i = 0; i < NETWORK_CLASSES; i++)\n        totals[i] = {start};')
    elif network.config['conv10_relu']:
        cast = f'(int32_t){start}' if start != '0' else '0'
        lines.append(f'    for (i = 0; i < NETWORK_CLASSES; i++)\n        result[i] = {cast};')
    else:
        channels = steps[-1].row.in_channels
        lines.append(f'    for (i = 0; i < {channels}; i++)\n        features[i] = 0;')
    return '\n'.join(lines)


# --- header ---------------------------------------------------------------------------------------

PROBABILITIES = """
/* Probability of a class in the last picture: as a whole number of 2^-NETWORK_SHARE_BITS, and the
   one function with floating point. */
uint32_t network_share(int number);
float network_probability(int number);
"""
NAME = """
/* UTF-8; "unknown" for what is no class. */
const char *network_name(int number);
"""


def _header_parts(
    network: IntegerNetwork, options: Options, sizes: dict[str, int]
) -> dict[str, object]:
    share_bits = f'#define NETWORK_SHARE_BITS {c_answers.SHARE_BITS}'
    return {
        **sizes,
        'banner': _banner(network.config),
        'size': preprocessing_of(network.config).crop,
        'channels': options.channel_order,
        'classes': network.config['class_num'],
        'logit_bits': network.logit_bits,
        'probability_macros': share_bits if options.softmax else '',
        'or_unknown': ', or NETWORK_UNKNOWN' if options.threshold else '',
        'probability_functions': PROBABILITIES if options.softmax else '',
        'name_function': NAME if options.class_names is not None else '',
    }
