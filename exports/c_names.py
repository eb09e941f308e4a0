"""What the C file and all in it are called, and which names C cannot hold."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Union

from common.console import UserError, printable

MOST_LETTERS = 40  # of an identifier's beginning
OWN_ROWS = 'conv|add|pool|next|fire'  # beginnings of functions NAME_row that the file has itself
STANDARD = (  # headers of C99
    'assert|complex|ctype|errno|fenv|float|inttypes|iso646|limits|locale|math|setjmp|signal|stdarg'
    '|stdbool|stddef|stdint|stdio|stdlib|string|tgmath|time|wchar|wctype'
)
MOST_NAME = 4095  # bytes of a string that C99 compilers must take


def identifier(name: str) -> str:
    """What functions are called after a file: letters, digits and single `_`, a letter first."""
    found = re.sub('[^0-9A-Za-z]+', '_', name).strip('_')[:MOST_LETTERS].rstrip('_')
    if re.match('[A-Za-z]', found) and not re.fullmatch(rf'({OWN_ROWS})\d*', found):
        return found
    return f'net_{found}'.rstrip('_')


def files(output: Union[str, Path]) -> tuple[Path, Path]:
    """(source's path, header's path) for --output. Raises UserError, see check_name."""
    name = stem(output)
    check_name(name)
    return Path(output).with_name(f'{name}.c'), Path(output).with_name(f'{name}.h')


def stem(path: Union[str, Path]) -> str:
    """The name of both files: --output with or without its .c or .h."""
    path = Path(path)
    return path.stem if path.suffix in ('.c', '.h') else path.name


def check_name(name: str) -> None:
    """Raises UserError for a file name that no #include can have, or that hides a header of C."""
    if re.fullmatch(STANDARD, name, re.IGNORECASE):
        raise UserError(f'--output {name}: {name}.h is a header of C itself; take another name')
    if name in ('', '.', '..') or re.search(r'["\\\x00-\x1f\x7f]|[*]/|/[*]|//|[?][?]', name):
        raise UserError(f'--output {printable(name)!r}: not a name that C can #include')


def encoded(text: str) -> bytes:
    return text.encode('utf-8', 'replace')


def string_literal(text: str) -> str:
    """A C string of the UTF-8 bytes of `text`; octal, so that nothing after it is taken in."""
    return '"' + ''.join(map(_letter, encoded(text))) + '"'


def _letter(byte: int) -> str:
    letter = chr(byte)
    return letter if 32 <= byte < 127 and letter not in '"\\?' else f'\\{byte:03o}'


def check_class_names(names: Iterable[str]) -> None:
    """Raises UserError for a name that no string of C99 can hold."""
    for name in names:
        if '\0' in name or len(encoded(name)) > MOST_NAME:
            raise UserError(f'class name {name[:40]!r}: C cannot hold it; leave out --class_names')


def symbol(name: str) -> str:
    """What the constants of a convolution or blob are called."""
    return name.replace('.', '_').replace('/', '_')
