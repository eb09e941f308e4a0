"""How a network wants its pictures: stated once here, read from the configuration, and obeyed.

The defaults are those of SqueezeNet_v1.1/train_val.prototxt of the original release.
"""

from dataclasses import asdict, dataclass, fields

RESIZES = ('short', 'warp', 'none')
CHANNEL_ORDERS = ('BGR', 'RGB')
LARGEST_SIZE = 4096  # pixels; a larger input is a slip
LARGEST_NUMBER = 1e6  # of means, scales and their inverse; a larger one is a slip


@dataclass(frozen=True)
class Preprocessing:
    """The network's input is scale * (crop - mean), float32 [N, 3, crop, crop] in `channel_order`.

    `resize`: 'short' brings the short side to `resize_size` pixels, 'warp' both sides, 'none' none;
    then a square of `crop` pixels is cut out. `mean`: three numbers in `channel_order`. As in
    Caffe's data_transformer.cpp, the mean is subtracted before the scale multiplies.
    """

    resize: str = 'short'
    resize_size: int = 256
    crop: int = 227
    mean: tuple = (104, 117, 123)
    scale: float = 1.0
    channel_order: str = 'BGR'

    def __post_init__(self):
        """Raises ValueError for what cannot be done."""
        if self.resize not in RESIZES:
            raise ValueError(f'resize is {self.resize!r}, not {", ".join(RESIZES)}')
        if self.channel_order not in CHANNEL_ORDERS:
            raise ValueError(f'channel_order is {self.channel_order!r}, not BGR or RGB')
        for name in ('resize_size', 'crop'):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= LARGEST_SIZE:
                raise ValueError(f'{name} is {value!r:.99}; it must be 1 to {LARGEST_SIZE} pixels')
        if self.resize != 'none' and self.crop > self.resize_size:
            raise ValueError(f'crop is {self.crop}, larger than resize_size {self.resize_size}')
        if not isinstance(self.mean, tuple) or len(self.mean) != 3:
            raise ValueError(f'mean is {self.mean!r:.99}; it must be three numbers')
        for value in self.mean:
            check_number('mean', value, -LARGEST_NUMBER, LARGEST_NUMBER)
        if is_number(self.scale) and self.scale == 0:
            raise ValueError('scale is 0; it must be a number other than 0')
        size = abs(self.scale) if is_number(self.scale) else self.scale
        check_number('scale', size, 1 / LARGEST_NUMBER, LARGEST_NUMBER)

    def to_json(self):
        """What config.json holds under `preprocessing`."""
        return {**asdict(self), 'mean': list(self.mean)}

    @classmethod
    def from_json(cls, found):
        """The inverse; what is not said is as in the original. Raises ValueError."""
        if not isinstance(found, dict):
            raise ValueError('preprocessing is not a JSON object')
        unknown = sorted(set(found) - {field.name for field in fields(cls)})
        if unknown:
            name = unknown[0]
            raise ValueError(f'preprocessing {name}: {found[name]!r} is not supported')
        mean = found.get('mean')
        return cls(**{**found, 'mean': tuple(mean)} if isinstance(mean, list) else found)


def preprocessing_of(config):
    """The Preprocessing of a model's configuration."""
    return Preprocessing.from_json(config['preprocessing'])


def is_number(value: object) -> bool:
    """Whether it is an int or a float, and no bool, which JSON tells from numbers."""
    return type(value) in (int, float)


def check_number(name: str, value: object, least: float, most: float) -> None:
    """Raises ValueError unless `value` is a number from `least` to `most`; NaN is none."""
    if not is_number(value):
        raise ValueError(f'{name} is {value!r:.99}; it must be a number')
    if not least <= value <= most:  # an int of any size is compared exactly
        raise ValueError(f'{name} is {shown(value)}; it must be {least:g} to {most:g}')


def shown(value: float) -> str:
    """A number as a message has it, an int of 400 digits in short."""
    text = repr(value)
    return text if len(text) < 30 else f'{text[:20]}... ({len(text)} digits)'
