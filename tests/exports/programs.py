"""The programs that some tests need, and are skipped without."""

import shutil

import pytest

from exports import browser


def first_installed(*names):
    """The browser.Runner of the first of these programs that is installed."""
    for name in names:
        if path := shutil.which(name):
            return browser.Runner(name, path)
    return pytest.skip(f'none of these is installed: {", ".join(names)}')
