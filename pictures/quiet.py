"""What C libraries print of damaged pictures stays unprinted."""

from __future__ import annotations

import os
import threading


class _Quiet:
    """Nothing is printed by C code, which cannot be told not to, while a thread is in here.

    libde265 does of damaged HEIC files, Pillow's libtiff of TIFF (OpenCV's not, but it takes them
    for whole), and OpenCV 4.8 of BMP and PNM. No fork happens meanwhile: the child would stay mute.
    """

    def __init__(self) -> None:
        self._state, self._threads, self._stderr = threading.Condition(threading.Lock()), 0, -1
        if hasattr(os, 'register_at_fork'):  # not on Windows
            release = self._state.release
            os.register_at_fork(
                before=self._hold_back, after_in_parent=release, after_in_child=release
            )

    def __enter__(self) -> None:
        with self._state:
            if not self._threads:
                self._stderr = os.dup(2)
                with open(os.devnull, 'wb') as nowhere:
                    os.dup2(nowhere.fileno(), 2)
            self._threads += 1

    def __exit__(self, *_: object) -> None:
        with self._state:
            self._threads -= 1
            if not self._threads:
                os.dup2(self._stderr, 2)
                os.close(self._stderr)
                self._state.notify_all()

    def _hold_back(self) -> None:
        self._state.acquire()
        self._state.wait_for(lambda: not self._threads)


QUIET = _Quiet()
