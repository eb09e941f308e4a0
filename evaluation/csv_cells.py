"""Text in CSV files: names and paths that a spreadsheet shows, and does not take for a formula.

What begins like one (with = + - @) gets an apostrophe in front, as spreadsheets mark text, a path
"./", which leaves it the same file. Control characters (ESC, a tab, a line's end) become U+FFFD.
A .json holds all of it as it is.
"""

FORMULA = ('=', '+', '-', '@')


def text_cell(text: str) -> str:
    """A class name, say, as a CSV cell."""
    text = _printable(text)
    return f"'{text}" if text.startswith(FORMULA) else text


def path_cell(path: str) -> str:
    """A path as a CSV cell."""
    path = _printable(path)
    return f'./{path}' if path.startswith(FORMULA) else path


def _printable(text: str) -> str:
    return ''.join(map(_shown, text))


def _shown(letter: str) -> str:
    is_space = letter.isspace() and letter >= '\xa0'  # ideographic, say, which names may hold
    return letter if letter.isprintable() or is_space else '\ufffd'
