"""From a model to its C file: calibration, arithmetic, text, and how it compares with float32."""

import argparse
from typing import NamedTuple

import numpy as np

from common.console import UserError
from exports import c_compiler, c_names, c_source, int8, int8_calibration, integer_network
from exports.c_source import CSource, Options
from exports.integer_network import IntegerNetwork
from pictures import lists


class CNetwork(NamedTuple):
    integers: IntegerNetwork
    options: Options
    made: CSource

    def logits_of_rgb(self, crops: np.ndarray) -> np.ndarray:
        """float64 [N, class_num] of uint8 crops [N, crop, crop, 3] RGB, by NumPy."""
        return self._logits(crops[..., ::-1])

    def _logits(self, crops: np.ndarray) -> np.ndarray:
        return self.integers.logits(self._ordered(crops)) / 2.0**self.integers.logit_bits

    def check(self, crops: np.ndarray) -> str:
        """A line on whether the compiled file gives NumPy's numbers. Raises UserError if not."""
        compiler = c_compiler.find_compiler()
        if compiler is None:
            return "not compiled: no C compiler is installed; the numbers below are NumPy's"
        crops = self._ordered(crops)
        answers, logits = c_compiler.run(compiler, self.made, self.options.name, crops)
        wanted = self.integers.logits(crops)
        if not np.array_equal(logits, wanted) or not self._right(answers, wanted):
            raise UserError(f'compiled by {compiler[0]}, the file computes something else than it '
                            'should; nothing is written')  # fmt: skip
        return f'compiled by {compiler[0]}: on {len(crops)} pictures the numbers that NumPy gives'

    def _right(self, answers: np.ndarray, logits: np.ndarray) -> bool:
        unknown = (answers == -1) & bool(self.options.threshold)
        return bool(np.all(unknown | (answers == logits.argmax(axis=1))))

    def _ordered(self, crops: np.ndarray) -> np.ndarray:
        return crops if self.options.channel_order == 'BGR' else crops[..., ::-1]


def check_options(
    args: argparse.Namespace, config: dict, temperature: float, threshold: float
) -> Options:
    """The Options of a command line. Raises UserError for what the file could not do."""
    softmax = not args.no_softmax
    if threshold and not softmax:
        raise UserError(
            f'the model answers `unknown` below a probability of {threshold:g}, which '
            '--no_softmax leaves out; leave that out, or take "threshold" from its config.json'
        )
    names = config['class_names'] if args.class_names else None
    c_names.check_class_names(names or ())
    return Options(
        c_names.stem(args.output), args.channels or 'RGB', names, softmax, temperature, threshold
    )


def build(
    tensors: dict[str, np.ndarray], config: dict, options: Options, pictures: lists.PictureList
) -> CNetwork:
    """The C file of a model, its ranges measured on the list `pictures`. Raises UserError."""
    feeds = int8_calibration.calibration_feeds(pictures, config)
    rounded, steps = int8.rounded_weights(tensors, config, False, feeds)
    ranges = int8.blob_ranges(rounded, config, False, feeds)
    most_logit = max(map(abs, ranges['logits']))
    integers = integer_network.build(
        rounded, config, steps, ranges, most_logit, options.channel_order
    )
    return CNetwork(integers, options, c_source.write(integers, options))


def sizes(network: CNetwork) -> str:
    made = network.made
    return (
        f'memory {made.memory:,} bytes, constants {made.constants:,} bytes, '
        f'{made.multiplications:,} multiplications per picture'
    )
