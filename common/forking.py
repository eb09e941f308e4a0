"""What a forked child may use of its parent's objects: threads and devices do not come with it."""

import ctypes
import os
import weakref
from typing import Any

_renewed = weakref.WeakSet()


def renew_in_children(thing: Any) -> None:
    """`thing.renew()` is called in every child that is forked while `thing` lives."""
    _renewed.add(thing)


def never_free(thing: Any) -> None:
    """Keep `thing` to the process's end and beyond: freeing it would wait for threads that are not
    there, also as the interpreter ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _renew() -> None:
    for thing in list(_renewed):
        thing.renew()


if hasattr(os, 'register_at_fork'):  # not on Windows
    os.register_at_fork(after_in_child=_renew)
