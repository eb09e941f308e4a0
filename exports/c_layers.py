"""One C function per layer, which takes a row and hands its own on: calls of what c/network.c
defines, with the sizes of c_plan.py.
"""

from typing import Optional, Union

from exports import c_plan
from exports.c_names import symbol
from exports.c_plan import BESIDE, LINE, PIXELS, Buffer, Step
from exports.integer_network import IntegerNetwork
from network import architecture


def write(network: IntegerNetwork) -> str:
    """The functions of all layers, the last one first, and the constants that describe them."""
    return _Layers(network).text()


class _Layers:
    def __init__(self, network: IntegerNetwork) -> None:
        self.network, self.config = network, network.config
        self.steps = c_plan.steps(self.config)

    def text(self) -> str:
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

    def _conv(self, step: Step, following: Optional[Step]) -> str:
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

    def _conv10(self, step: Step) -> str:
        row, width = step.row, step.width
        line = step.source.name
        if not self.config['conv10_relu']:
            body = f'    add_places({line}, {width}, {row.in_channels}, features);'
            return f'static void conv10(int y)\n{{\n    (void)y;\n{body}\n}}'
        source = Buffer(line, 1, 0)
        channels = row.in_channels
        shape = self._shape('conv10', source, 0, channels, channels, 1, width, row.out_channels, 1)
        totals = 'totals' if self.network.wide_sums else 'result'
        call = f'conv10_row(&conv10_shape, {line}, conv10_weight, conv10_bias, {totals});'
        return f'{shape}\n\nstatic void conv10(int y)\n{{\n    (void)y;\n    {call}\n}}'

    def _pool(self, step: Step, following: Optional[Step]) -> str:
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

    def _fire(self, step: Step, following: Optional[Step]) -> str:
        row, name, width = step.row, step.row.name, step.width
        plain = Buffer(step.source.name, 1, 0)
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

    def _shape(
        self, name: str, source: Buffer, start: int, step: int, length: int, kernel: int,
        width: int, filters: int, channels: int,
    ) -> str:  # fmt: skip
        """The shape_t of a convolution; its fields are explained in c/network.c."""
        zero = self.network.filters[name].zero
        row = source.row if source.slots > 1 else 0
        numbers = (source.slots, row, start, step, length, kernel, width, filters, channels, zero)
        return f'static const shape_t {symbol(name)}_shape = {{{", ".join(map(str, numbers))}}};'

    def _call(
        self, name: str, ring: str, top: str, first: str, last: Union[str, int], out: str
    ) -> str:
        own = symbol(name)
        return (
            f'conv_row(&{own}_shape, {ring}, {top}, {first}, {last}, {own}_weight,\n'
            f'             {own}_bias, {own}_multiplier, {own}_shift, {out});'
        )


def _at(buffer: Buffer, y: str) -> str:
    """A pointer to row y."""
    if buffer.slots == 1:
        return buffer.name
    y = y if y.isalnum() else f'({y})'
    return f'{buffer.name} + {y} % {buffer.slots} * {buffer.row}'


def _next(step: Step) -> str:
    """The call that hands row y on to a Step."""
    if isinstance(step.row, architecture.Fire):
        return f'{step.row.name}_squeeze(y);\n    {step.row.name}_expand(y);'
    return f'{step.row.name}(y);'
