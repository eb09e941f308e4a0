"""A network in integers (integer_network.py) as one C99 file and its header.

The arithmetic is that of c/network.c; here come the constants, the buffers of c_plan.py, and one
function per layer, which takes a row and hands its own on.
"""

import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.console import UserError, printable
from exports import c_plan
from exports.c_plan import BESIDE, LINE, PIXELS
from exports.integer_network import IntegerNetwork, fixed_point
from network import architecture
from network.preprocessing import preprocessing_of

TEMPLATES = Path(__file__).parent / 'c'
MOST_LETTERS = 40  # of an identifier's beginning
MOST_NAME = 4095  # bytes of a string that C99 compilers must take
SHARE_BITS = 24  # of a probability
WIDTH = 96  # of a line of numbers


class Options(NamedTuple):
    """name: of the files and, as C allows it, of the functions. channel_order: 'RGB' or 'BGR' of
    the pictures. class_names: list or None; softmax: with it the probabilities and the threshold.
    """

    name: str
    channel_order: str = 'RGB'
    class_names: object = None
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


def identifier(name):
    """What functions are called after a file: letters, digits and single `_`, a letter first."""
    found = re.sub('[^0-9A-Za-z]+', '_', name).strip('_')[:MOST_LETTERS].rstrip('_')
    return found if re.match('[A-Za-z]', found) else f'net_{found}'.rstrip('_')


def files(output) -> tuple:
    """(source's path, header's path) for --output."""
    name = stem(output)
    return tuple(Path(output).with_name(name + suffix) for suffix in ('.c', '.h'))


def stem(path) -> str:
    """The name of both files: --output with or without its .c or .h."""
    path = Path(path)
    return path.stem if path.suffix in ('.c', '.h') else path.name


def check_name(name):
    """Raises UserError for a file name that no #include can have."""
    if not name or re.search(r'["\\\x00-\x1f\x7f]|[*]/|/[*]|//', name) or '??' in name:
        raise UserError(f'--output {printable(name)!r}: not a name that C can #include')


def string_literal(text):
    """A C string of the UTF-8 bytes of `text`; octal, so that nothing after it is taken in."""
    return '"' + ''.join(map(_letter, text.encode('utf-8', 'replace'))) + '"'


def _letter(byte):
    letter = chr(byte)
    return letter if 32 <= byte < 127 and letter not in '"\\?' else f'\\{byte:03o}'


def check_class_names(names):
    for name in names:
        if '\0' in name or len(name.encode('utf-8', 'replace')) > MOST_NAME:
            raise UserError(f'class name {name[:40]!r}: C cannot hold it; leave out --class_names')


def write(network: IntegerNetwork, options: Options) -> CSource:
    """The C file of a network. Raises UserError for names that C cannot hold."""
    check_name(options.name)
    check_class_names(options.class_names or ())
    return _Writer(network, options).result()


class _Writer:
    def __init__(self, network, options):
        self.network, self.options, self.config = network, options, network.config
        self.steps = c_plan.steps(self.config)
        self.relu = self.config['conv10_relu']
        self.wide = self.relu and network.most_sum >= 2**31  # sums of conv10
        self.constant_bytes = 0

    def result(self):
        constants = self._constants()
        buffers = c_plan.buffers(self.config)
        classes = self.config['class_num']
        memory = sum(buffers.values()) + 4 * classes + 4
        if not self.relu:
            memory += 4 * self.steps[-1].row.in_channels
        memory += 8 * classes * self.wide + 12 * self.options.softmax
        names = self._names()
        parts = {
            'constants': constants,
            'buffers': self._buffers(buffers),
            'arithmetic': self._arithmetic(),
            'layers': self._layers(),
            'begin': self._begin(),
            'logits': self._logits(),
            'answer': self._answer(),
            'probabilities': self._template('softmax.c') if self.options.softmax else '',
            'names': names,
            'memory_macro': f'\n#define NETWORK_KERNEL {self.steps[0].row.kernel}',
            'header': f'{self.options.name}.h',
            'banner': self._banner(),
            **self._softmax_numbers(),
        }
        sizes = memory, self.constant_bytes, c_plan.multiplications(self.config)
        source = self._finished(self._template('network.c'), parts)
        header = self._finished(self._template('network.h'), self._header_parts(*sizes))
        return CSource(source, header, *sizes)

    def _template(self, name):
        return (TEMPLATES / name).read_text(encoding='utf-8')

    def _finished(self, text, parts):
        for _ in range(2):  # parts hold parts
            text = re.sub(r'\{\{(\w+)\}\}', lambda found: str(parts[found[1]]), text)
        own = identifier(self.options.name)
        text = re.sub(r'\bnetwork_', lambda _: f'{own}_', text)
        text = re.sub(r'\bNETWORK_', lambda _: f'{own.upper()}_', text)
        return re.sub(r'\n{3,}', '\n\n', text).rstrip() + '\n'

    def _banner(self):
        config = self.config
        bypass = f', {config["bypass"]} bypass' if config['bypass'] else ''
        size = preprocessing_of(config).crop
        return (
            f'/* SqueezeNet v{config["version"]}{bypass}, {config["class_num"]} classes, pictures '
            f'of {size}x{size} pixels, int8.\n   Written by export.py; needs C99 and no library. */'
        )

    # --- constants --------------------------------------------------------------------------------

    def _constants(self):
        parts = []
        for name, filters in self.network.filters.items():
            own = _c_name(name)
            parts += [
                self._array('int8_t', f'{own}_weight', filters.weight),
                self._array('int32_t', f'{own}_bias', filters.bias),
                self._array('int32_t', f'{own}_multiplier', filters.multiplier),
                self._array('uint8_t', f'{own}_shift', filters.shift),
            ]
        if self.network.padding.any():
            parts.append(self._array('int64_t', 'conv10_padding', self.network.padding))
        return '\n'.join(parts)

    def _array(self, kind, name, values):
        values = np.asarray(values).ravel()
        self.constant_bytes += values.size * int(re.search(r'\d+', kind)[0]) // 8
        lines, line = [], ''
        for text in map(str, values.tolist()):
            if len(line) + len(text) > WIDTH:
                lines.append(line)
                line = ''
            line += f'{text},'
        body = '\n'.join([*lines, line.rstrip(',')])
        return f'static const {kind} {name}[{values.size}] = {{\n{body}}};'

    # --- memory -----------------------------------------------------------------------------------

    def _buffers(self, buffers):
        place = 'static NETWORK_PLACE'
        lines = [f'{place} uint8_t {name}[{size}];' for name, size in buffers.items()]
        if not self.relu:
            lines.append(f'{place} uint32_t features[{self.steps[-1].row.in_channels}];')
        elif self.wide:
            lines += ['typedef int64_t sum_t;', f'{place} sum_t totals[NETWORK_CLASSES];']
        else:
            lines += ['typedef int32_t sum_t;']
        if self.options.softmax:
            lines += ['static int32_t largest;', 'static uint64_t total;']
        return '\n'.join(lines)

    def _begin(self):
        lines = [
            f'    clear({step.squeezed.name}, {step.squeezed.slots * step.squeezed.row});'
            for step in self.steps
            if step.squeezed
        ]
        start = 'conv10_padding[i]' if self.network.padding.any() else '0'
        if self.wide:
            lines.append(f'    for (i = 0; i < NETWORK_CLASSES; i++)\n        totals[i] = {start};')
        elif self.relu:
            cast = f'(int32_t){start}' if start != '0' else '0'
            lines.append(f'    for (i = 0; i < NETWORK_CLASSES; i++)\n        result[i] = {cast};')
        else:
            channels = self.steps[-1].row.in_channels
            lines.append(f'    for (i = 0; i < {channels}; i++)\n        features[i] = 0;')
        return '\n'.join(lines)

    # --- layers -----------------------------------------------------------------------------------

    def _arithmetic(self):
        text = self._template('relu_sums.c' if self.relu else 'plain_sums.c')
        return text + (self._template('bypass.c') if self.network.additions else '')

    def _layers(self):
        functions = []
        for k in range(len(self.steps) - 1, -1, -1):
            step = self.steps[k]
            following = self.steps[k + 1] if k + 1 < len(self.steps) else None
            if isinstance(step.row, architecture.MaxPool):
                functions.append(self._pool(step, following))
            elif isinstance(step.row, architecture.Fire):
                functions.append(self._fire(step, following))
            else:
                functions.append(self._conv(step, following))
        return '\n\n'.join(functions)

    def _conv(self, step, following):
        name, row = step.row.name, step.row
        if name == 'conv10':
            return self._conv10(step)
        width = (step.width - row.kernel) // row.stride + 1
        shape = self._shape(
            'conv1', step.source, 0, 3 * row.stride, 3 * row.kernel, row.kernel, width,
            row.out_channels, row.out_channels,
        )  # fmt: skip
        call = self._call('conv1', PIXELS, f'{row.stride} * y', '0', row.kernel, LINE)
        return f'{shape}\n\nstatic void conv1(int y)\n{{\n    {call}\n    {_next(following)}\n}}'

    def _conv10(self, step):
        row, width = step.row, step.width
        line = step.source.name
        if not self.relu:
            body = f'    add_places({line}, {width}, {row.in_channels}, features);'
            return f'static void conv10(int y)\n{{\n    (void)y;\n{body}\n}}'
        source = c_plan.Buffer(line, 1, 0)
        channels = row.in_channels
        shape = self._shape('conv10', source, 0, channels, channels, 1, width, row.out_channels, 1)
        totals = 'totals' if self.wide else 'result'
        call = f'conv10_row(&conv10_shape, {line}, conv10_weight, conv10_bias, {totals});'
        return f'{shape}\n\nstatic void conv10(int y)\n{{\n    (void)y;\n    {call}\n}}'

    def _pool(self, step, following):
        name, height, target = step.row.name, step.width, step.target
        pooled = target.row // step.channels
        arguments = f'{LINE}, {height}, {step.channels}, {pooled}'
        return f"""static void {name}(int r) /* row r of its input is in {LINE} */
{{
    const int y = (r - 1) / 2, whole = (r > 0 && r % 2 == 0) || r == {height - 1};
    if (r > 0)
        pool_row({arguments}, 0, {_at(target, 'y')});
    if (whole)
        {following.row.name}_squeeze(y);
    if (r % 2 == 0 && r / 2 < {pooled})
        pool_row({arguments}, 1, {_at(target, 'r / 2')});
    if (whole)
        {following.row.name}_expand(y);
}}"""

    def _fire(self, step, following):
        row, name, width = step.row, step.row.name, step.width
        plain = c_plan.Buffer(step.source.name, 1, 0)
        shapes = [
            self._shape(f'{name}.squeeze1x1', plain, 0, row.in_channels, row.in_channels, 1, width,
                        row.s1x1, row.s1x1),
            self._shape(f'{name}.expand1x1', step.squeezed, row.s1x1, row.s1x1, row.s1x1, 1, width,
                        row.e1x1, step.channels),
            self._shape(f'{name}.expand3x3', step.squeezed, 0, row.s1x1, 3 * row.s1x1, 3, width,
                        row.e3x3, step.channels),
        ]  # fmt: skip
        target = _at(step.target, 'y')
        third = f'y == {width - 1} ? 2 : 3' if width > 1 else '2'
        body = [
            self._call(f'{name}.expand1x1', step.squeezed.name, 'y', '0', 1, target),
            self._call(f'{name}.expand3x3', step.squeezed.name, 'y - 1', 'y == 0 ? 1 : 0', third,
                       f'{target} + {row.e1x1}'),
        ]  # fmt: skip
        if row.bypass:
            beside = _at(step.source, 'y')
            if row.bypass == 'complex':
                shapes.append(
                    self._shape(f'{name}.bypass1x1', plain, 0, row.in_channels, row.in_channels, 1,
                                width, step.channels, step.channels)
                )  # fmt: skip
                body.append(self._call(f'{name}.bypass1x1', beside, '0', '0', 1, BESIDE))
                beside = BESIDE
            add = self.network.additions[name]
            numbers = f'{add.own}, {add.beside}, {add.beside_zero}, {add.shift}, {add.zero}'
            body.append(f'add_row({target}, {beside}, {step.target.row}, {numbers});')
        squeeze = self._call(
            f'{name}.squeeze1x1', _at(step.source, 'y'), '0', '0', 1,
            f'{_at(step.squeezed, "y")} + {row.s1x1}',
        )  # fmt: skip
        rows = '\n    '.join(body)
        shapes = '\n'.join(shapes)
        return f"""{shapes}

static void {name}_row(int y) /* its squeezed rows up to y + 1 are there */
{{
    {rows}
    {_next(following)}
}}

static void {name}_squeeze(int y)
{{
    {squeeze}
}}

static void {name}_expand(int y) /* squeezed row y is there */
{{
    if (y > 0)
        {name}_row(y - 1);
    if (y == {width - 1})
        {name}_row(y);
}}"""

    def _shape(self, name, source, start, step, length, kernel, width, filters, channels):
        zero = self.network.filters[name].zero
        row = source.row if source.slots > 1 else 0
        numbers = (source.slots, row, start, step, length, kernel, width, filters, channels, zero)
        return f'static const shape_t {_c_name(name)}_shape = {{{", ".join(map(str, numbers))}}};'

    def _call(self, name, ring, top, first, last, out):
        own = _c_name(name)
        return (
            f'conv_row(&{own}_shape, {ring}, {top}, {first}, {last}, {own}_weight,\n'
            f'             {own}_bias, {own}_multiplier, {own}_shift, {out});'
        )

    # --- results ----------------------------------------------------------------------------------

    def _logits(self):
        if self.relu:
            total = '        const int64_t sum = ' + ('totals' if self.wide else 'result') + '[c];'
        else:
            side, channels = self.steps[-1].width, self.steps[-1].row.in_channels
            outside = ' + conv10_padding[c]' if self.network.padding.any() else ''
            total = f"""        int64_t sum = (int64_t)conv10_bias[c] * {side * side}{outside};
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

    def _answer(self):
        if not self.options.softmax:
            return '    return best;'
        least = math.ceil(self.options.threshold * 2**SHARE_BITS)
        if not least:
            return '    find_total(best);\n    return best;'
        return (
            '    find_total(best);\n'
            f'    return network_share(best) < {least}U ? NETWORK_UNKNOWN : best;'
        )

    def _softmax_numbers(self):
        real = math.log2(math.e) / self.options.temperature * 2.0 ** (16 - self.network.logit_bits)
        steepness, bits = fixed_point(real, 31)
        powers = ', '.join(f'{round(2.0 ** (30 - 2.0 ** (k - 16)))}U' for k in range(16))
        return {
            'steepness': steepness,
            'steepness_bits': bits,
            'steepness_half': bits - 1,
            'powers': powers,
        }

    def _names(self):
        if self.options.class_names is None:
            return ''
        texts = [string_literal(name) for name in self.options.class_names]
        self.constant_bytes += sum(len(n.encode()) + 1 for n in self.options.class_names)
        lines = ',\n    '.join(texts)
        return f"""
static const char *const class_names[NETWORK_CLASSES] = {{
    {lines}}};

const char *network_name(int number)
{{
    return number < 0 || number >= NETWORK_CLASSES ? "unknown" : class_names[number];
}}
"""

    def _header_parts(self, memory, constants, multiplications):
        softmax, names = self.options.softmax, self.options.class_names
        probabilities = """
/* Probability of a class in the last picture: as a whole number of 2^-NETWORK_SHARE_BITS, and the
   one function with floating point. */
uint32_t network_share(int number);
float network_probability(int number);
"""
        name = """
/* UTF-8; "unknown" for what is no class. */
const char *network_name(int number);
"""
        return {
            'banner': self._banner(),
            'size': preprocessing_of(self.config).crop,
            'channels': self.options.channel_order,
            'classes': self.config['class_num'],
            'logit_bits': self.network.logit_bits,
            'probability_macros': f'#define NETWORK_SHARE_BITS {SHARE_BITS}' if softmax else '',
            'memory': memory,
            'constants': constants,
            'multiplications': multiplications,
            'or_unknown': ', or NETWORK_UNKNOWN' if self.options.threshold else '',
            'probability_functions': probabilities if softmax else '',
            'name_function': name if names is not None else '',
        }


def _c_name(name):
    return name.replace('.', '_').replace('/', '_')


def _at(buffer, y):
    if buffer.slots == 1:
        return buffer.name
    y = y if y.isalnum() else f'({y})'
    return f'{buffer.name} + {y} % {buffer.slots} * {buffer.row}'


def _next(step):
    """The call that hands row y on to a Step."""
    if isinstance(step.row, architecture.Fire):
        return f'{step.row.name}_squeeze(y);\n    {step.row.name}_expand(y);'
    return f'{step.row.name}(y);'
