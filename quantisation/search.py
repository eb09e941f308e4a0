"""A network compressed to a size: what is known once, the walk, and the search for the steps."""

import numpy as np

from common.console import UserError
from models.formats import packed
from models.formats.packed import Packed
from network.numpy_network import convolutions
from quantisation import layerwise, quantiser

PLACES_SHARE = 0.1  # of each place's weight is the same for all places
ALPHA = 0.25  # share of the places' own moments beside the rows' Fisher matrices
ROW_SHARE = 0.05  # of each row's sensitivity is the mean's
TRIALS = 12  # of c, on the float network's inputs
WALKS, MORE_WALKS = 4, 3  # and more where all of those made it too large
COARSER = 1.03  # steps, each time
CLOSE, MIDDLE = 0.99, 0.996  # of the size asked for: what is enough, and what is aimed at
MOST_TRIM = 1.3  # by which conv10's steps may differ from the others'
USUAL_BITS, MOST_BITS = 2.6, 8  # a weight
OCTAVE = 0.9  # bits that a weight takes less where c doubles


class Compressor:
    """Compresses one network to any size; `images` float32 [N, 3, H, W] are what it is fitted on.

    `sensitivities` are those of sensitivity.py on the same images. `say` is told of progress.
    """

    def __init__(self, tensors, config, images, sensitivities, seed, say):
        self.config, self.images, self.tensors = config, images, tensors
        self.sensitivities, self.seed, self.say = sensitivities, seed, say
        self.known = {}
        for name in convolutions(config):
            bias = tensors[f'{name}.bias']
            self.known[name] = tensors[f'{name}.weight'].reshape(len(bias), -1), bias
        self.inputs, self.plans = {}, {}
        self._walk(self._look)

    def _walk(self, choose):
        self.random = np.random.default_rng(self.seed)
        layerwise.walk(self.tensors, self.config, self.images, choose)

    def _look(self, conv, x, y):
        """On the first walk, of the float network: the convolution's inputs, and its plan."""
        self.inputs[conv.name] = self._felt(conv.name, self._moments(conv, x, y).inputs)
        found = self.sensitivities[conv.name].rows
        share = 1.0 if conv.name == 'conv10' else ROW_SHARE  # its rows' classes may have no picture
        rows = (1 - share) * found + share * found.mean()
        self.plans[conv.name] = quantiser.plan(self.inputs[conv.name], rows)
        return self.tensors[f'{conv.name}.weight'], self.tensors[f'{conv.name}.bias']

    def _moments(self, conv, x, y):
        """Moments whose inputs are scaled like, and mixed with, the rows' Fisher matrices."""
        places = self.sensitivities[conv.name].places
        places = (1 - PLACES_SHARE) * places + PLACES_SHARE * places.mean()
        found = layerwise.moments(conv, x, y, self.known[conv.name], places, self.random)
        if conv.name == 'conv10':
            pooled = layerwise.pooled_moments(conv, x, y, self.known[conv.name], places)
            found = layerwise.Moments(*(ALPHA * a + (1 - ALPHA) * b for a, b in zip(found, pooled)))
        fisher = self.sensitivities[conv.name].fisher
        scale = np.trace(fisher[:-1, :-1]) / np.trace(found.inputs[:-1, :-1])
        return layerwise.Moments(found.inputs * scale, found.outputs * scale)

    def _felt(self, name, inputs):
        """What the output feels: `inputs`, but for conv10, whose moments say it, mixed."""
        if name == 'conv10':
            return inputs
        return ALPHA * inputs + (1 - ALPHA) * self.sensitivities[name].fisher

    def compress(self, size):
        """A Packed of at most `size` bytes, and nearly as many. UserError where there is none."""
        size = min(size, int(self.largest_size()))
        c, bits = self._first_guess(size)
        best = None
        for number in range(WALKS + MORE_WALKS):
            self.say(f'walk {number + 1}: every layer on what the layers before it give')
            found = self._compressed(c, bits, size)
            length = len(packed.pack(found))
            if length <= size and (best is None or length > best[0]):
                best = length, found
            if best and (best[0] >= CLOSE * size or number >= WALKS - 1):
                break
            # At last in earnest: where bits are few, the usual correction comes from above only.
            c *= self._correction(length, size) if number < WALKS - 1 else COARSER
        if best is None:
            raise UserError(f'{size} bytes cannot be reached; {length} can')
        return best[1]

    def usual_size(self):
        """Bytes at which little is lost: 400 kB for 1000 classes."""
        return USUAL_BITS * self._weights() / 8

    def largest_size(self):
        """Bytes beyond which nothing is gained."""
        return MOST_BITS * self._weights() / 8

    def _weights(self):
        return sum(weight.size for weight, _ in self.known.values())

    def _correction(self, length, size):
        """The factor for c that changes `length` to a little less than `size`."""
        return 2.0 ** ((length - MIDDLE * size) * 8 / self._weights() / OCTAVE)

    def _first_guess(self, size):
        """(c, bits) by trials on the float network's inputs, which take no walk."""
        c, bits = 5e-4, quantiser.first_bits()
        for _ in range(TRIALS):
            layers = {
                name: self._quantised(name, known, self.inputs[name], c, bits)
                for name, known in self.known.items()
            }
            length = len(packed.pack(self._packed(layers)))
            bits = quantiser.counted_bits(layers.values(), bits)
            self.say(f'steps of {c:.2e}: {length} bytes')
            if CLOSE * size <= length <= size:
                break
            c *= np.clip(self._correction(length, size), 1 / 8, 8)
        return c, bits

    def _packed(self, layers):
        return Packed(layers, self.config, quantiser.ROW_BITS, quantiser.COLUMN_BITS)

    def _compressed(self, c, bits, size):
        """A Packed, each layer fitted to what those before it make, conv10 to the bytes left."""
        layers = {}

        def choose(conv, x, y):
            moments = self._moments(conv, x, y)
            known = quantiser.refit(self.known[conv.name], moments)
            inputs = self._felt(conv.name, moments.inputs)
            layer = self._quantised(conv.name, known, inputs, c, bits)
            layers[conv.name] = layer
            if conv.name == 'conv10':
                layers[conv.name] = self._fitting(layers, known, inputs, c, bits, size)
            weight = packed.weights(layer, quantiser.ROW_BITS, quantiser.COLUMN_BITS)
            return weight.reshape(self.tensors[f'{conv.name}.weight'].shape), packed.biases(layer)

        self._walk(choose)
        return self._packed(layers)

    def _quantised(self, name, known, inputs, c, bits):
        return quantiser.quantise(known, inputs, self.plans[name], c, bits)

    def _fitting(self, layers, known, inputs, c, bits, size):
        """conv10's layer, the last, with steps a little other where that gives the size asked for.

        It has two fifths of the weights of a network of 1000 classes.
        """
        layer, own = layers['conv10'], c
        for _ in range(6):
            length = len(packed.pack(self._packed({**layers, 'conv10': layer})))
            if CLOSE * size <= length <= size:
                break
            own *= 2.0 ** ((length - MIDDLE * size) * 8 / known[0].size / OCTAVE)
            if not c / MOST_TRIM <= own <= c * MOST_TRIM:
                break
            layer = self._quantised('conv10', known, inputs, own, bits)
        return layer
