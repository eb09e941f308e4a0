"""A model's configuration: how to build the network and how to feed it; and what a file leaves
open.

The configuration is what config.json shows and what model.safetensors carries. Where a file has
none (`.pdparams`, PaddlePaddle v2's files, weights alone), names and shapes tell the version and
complex bypass, but neither simple bypass nor the padding of conv10: these the user says, or they
are assumed aloud.
"""

import json
from typing import NamedTuple, Optional

from common.console import UserError
from common.files import read_regular_file
from network import architecture
from network.preprocessing import LARGEST_NUMBER, Preprocessing, check_number

UNKNOWN_FIELDS = 'bypass', 'conv10_pad', 'conv10_relu'  # by names and shapes
BYPASS_FLAGS = {'none': None, 'simple': 'simple', 'complex': 'complex'}
MEANINGS = {'bypass': BYPASS_FLAGS.get, 'conv10_pad': int, 'conv10_relu': bool}
# What may be recorded of the answers' certainty: of logits' divisor, of a probability.
CERTAINTY = {'temperature': (1 / LARGEST_NUMBER, LARGEST_NUMBER), 'threshold': (0, 1)}
MOST_BYTES = 64 << 20  # of config.json; the names of 100,000 classes take a few


class ModelOverrides(NamedTuple):
    """What the user says of a model whose file may not: as in the configuration, but for `bypass`
    'none', 'simple' or 'complex'; None where he says nothing."""

    bypass: Optional[str] = None
    conv10_pad: Optional[int] = None
    conv10_relu: Optional[int] = None

    def said(self):
        """{name: value} as in the configuration, of what the user says."""
        said = {name: value for name, value in self._asdict().items() if value is not None}
        return {name: MEANINGS[name](value) for name, value in said.items()}


def add_model_flags(parser):
    """Give a command's parser (or a group of it) the flags that `told` reads."""
    parser.add_argument(
        '--bypass',
        choices=list(BYPASS_FLAGS),
        help="the model's bypass, where its file cannot say (default: none)",
    )
    parser.add_argument(
        '--conv10_pad',
        type=int,
        choices=[0, 1],
        help="zeros around conv10's input, where its file cannot say (default: 0; the v1.0 of "
        'the original release has 1)',
    )
    parser.add_argument(
        '--conv10_relu',
        type=int,
        choices=[0, 1],
        help='whether a ReLU follows conv10, where its file cannot say (default: 1)',
    )


def told(args):
    """The Told of a command line with `add_model_flags`."""
    return ModelOverrides(args.bypass, args.conv10_pad, args.conv10_relu)


def make_config(version, bypass, class_num, conv10_pad=0, **others):
    """A configuration. `others`: conv10_relu, preprocessing (a Preprocessing), class_names,
    source ({'file': name, 'sha256': hex} of the original weights)."""
    preprocessing = others.pop('preprocessing', Preprocessing())
    return {
        'version': version,
        'bypass': bypass,
        'class_num': class_num,
        'conv10_pad': conv10_pad,
        'conv10_relu': True,
        'preprocessing': preprocessing.to_json(),
        **others,
    }


def config_text(config):
    """What config.json holds."""
    return json.dumps(config, indent=2, ensure_ascii=False) + '\n'


def parse_config(text, where):
    """(the checked configuration, what the text itself says) of JSON. Raises UserError."""
    try:
        said = json.loads(text)
        json.dumps(said, ensure_ascii=False).encode()  # "\\ud800" is JSON, but no character
    except (ValueError, RecursionError) as error:
        raise UserError(f'{where}: is not JSON: {error}') from None
    return check_config(said, where), said


def check_config(config, where):
    """The configuration `config`, complete and known to be sound. Raises UserError.

    What this port cannot do as told is refused, never ignored.
    """
    if not isinstance(config, dict):
        raise UserError(f'{where}: is not a JSON object')
    config = {'bypass': None, 'conv10_pad': 0, 'conv10_relu': True, **config}
    try:
        architecture.check_choice(config['version'], config['bypass'], config['class_num'])
        preprocessing = Preprocessing.from_json(config.get('preprocessing', {}))
        for name, (least, most) in CERTAINTY.items():
            if config.get(name) is not None:
                check_number(name, config[name], least, most)
    except KeyError as error:
        raise UserError(f'{where}: {error.args[0]} is missing') from None
    except (TypeError, ValueError) as error:
        raise UserError(f'{where}: {error!s:.600}') from None
    config['preprocessing'] = preprocessing.to_json()
    least = architecture.smallest_input(config['version'])
    if preprocessing.crop < least:  # of which nothing would be left for conv10
        raise UserError(
            f'{where}: crop is {preprocessing.crop}; the network needs {least} pixels at least'
        )
    if config['conv10_pad'] not in (0, 1):
        raise UserError(f'{where}: conv10_pad is {config["conv10_pad"]!r:.99}; it must be 0 or 1')
    config['conv10_pad'] = int(config['conv10_pad'])
    if not isinstance(config['conv10_relu'], bool):
        raise UserError(
            f'{where}: conv10_relu is {config["conv10_relu"]!r:.99}; it must be true or false'
        )
    _check_names(config, where)
    return config


def _check_names(config, where):
    names = config.get('class_names')
    if names is not None and not (
        isinstance(names, list)
        and len(names) == config['class_num']
        and all(isinstance(name, str) for name in names)
    ):
        raise UserError(f'{where}: class_names must be {config["class_num"]} strings')


# --- what a file says, what the user says, and what is assumed -----------------------------------


def complete(config, told, where, say, unknown_fields=()):
    """`config` with its `unknown_fields` (some of UNKNOWN_FIELDS) as the user says, or assumed.

    `say` is called with the line that tells what is assumed. Complex bypass shows in the weights.
    Raises UserError where the user says something else than the file.
    """
    if config['bypass'] == 'complex':
        unknown_fields = [name for name in unknown_fields if name != 'bypass']
    config, said = dict(config), told.said()
    for name, value in said.items():
        if name in unknown_fields:
            config[name] = value
        elif value != config[name]:
            raise UserError(
                f'{where}: its {name} is {_flag(config[name])}; leave out --{name} {_flag(value)}'
            )
    assumed = [name for name in unknown_fields if name not in said]
    if assumed:
        flags = ' '.join(f'--{name} {_flag(config[name])}' for name in assumed)
        say(f'{where}: does not tell {", ".join(assumed)}; assuming {flags}')
    return config


def _flag(value):
    """A value of the configuration as a flag has it."""
    return 'none' if value is None else int(value) if isinstance(value, bool) else value


def settle(where, folder, recognised, told, say):
    """The configuration of parameters at `where` (a path) that say nothing of it themselves.

    config.json in `folder` decides, then what the user says, then what make_config(*recognised)
    assumes. Raises UserError.
    """
    beside = folder / 'config.json'
    if not beside.exists():
        return complete(make_config(*recognised), told, where, say, UNKNOWN_FIELDS)
    config, said = read_config(beside)
    return complete(
        config, told, beside, say, [name for name in UNKNOWN_FIELDS if name not in said]
    )


def read_config(path):
    """parse_config of a file."""
    try:
        return parse_config(read_regular_file(path, MOST_BYTES).decode(), path)
    except UnicodeDecodeError:
        raise UserError(f'{path}: is not UTF-8 text') from None


def refuse_contradiction(config, path):
    """Raises UserError where config.json beside `path` says otherwise than `config` inside it."""
    beside = path.parent / 'config.json'
    if not beside.exists():
        return
    shown, said = read_config(beside)
    shown, inside = ({**c, **c['preprocessing']} for c in (shown, config))
    for name in [*said, *said.get('preprocessing', ())]:
        if name != 'preprocessing' and shown.get(name) != inside.get(name):
            raise UserError(
                f'{beside}: {name:.99} is {shown.get(name)!r:.200}, but {path.name} says '
                f'{inside.get(name)!r:.200}, and that counts; delete config.json, or mend it'
            )
