"""A model in the forms of other runtimes: ONNX, its int8, Paddle Inference, a web page."""

import importlib

from common.console import UserError


def load(name):
    """The module exports.NAME, of those that need requirements-export.txt. Raises UserError."""
    try:
        return importlib.import_module(f'exports.{name}')
    except ImportError as error:
        raise UserError(
            f'{error.name} is not installed: pip install -r requirements-export.txt'
        ) from None
