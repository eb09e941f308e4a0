"""Where the processes of a group wait for each other before they exchange numbers.

gloo gives up after 30 s, whatever its peer is busy with, and NCCL may wait for a dead one for ever.
So they meet at Paddle's TCP store first: each counts itself in, and a thread of each tells that its
process lives. Who is busy, or was stopped by a signal, is waited for; who is dead is not.
"""

import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Optional, Protocol

from common.console import UserError

BEAT_SECONDS = 1.0
SILENT_SECONDS = 20.0  # of a process on another machine; a call into C++ may hold Python as long
LONGEST_WAIT = 0.05  # seconds between two looks at the store


class Store(Protocol):
    """A key-value store that all processes share, as Paddle's TCPStore."""

    def add(self, key: str, amount: int) -> int: ...

    def set(self, key: str, value: str) -> None: ...

    def get(self, key: str) -> bytes: ...


class LostConnection(UserError):
    """Another process of the group has ended, or does not answer."""


class Rendezvous:
    """The meeting point of `world` processes, of which this one is `rank`; see `meet`.

    `end`, where given, is called with 1 when another process is lost and this one does not come to
    a meeting within SILENT_SECONDS: a call into NCCL cannot be interrupted otherwise.
    """

    def __init__(
        self, store: Store, rank: int, world: int, end: Optional[Callable[[int], None]] = None
    ):
        self.store, self.rank, self.world, self.end = store, rank, world, end
        self.meetings = 0
        self.lost: Optional[str] = None  # who, in words
        self._lock, self._left = threading.Lock(), threading.Event()
        self._others = [_Peer(other) for other in range(world) if other != rank]
        with self._lock:
            store.set(f'home/{rank}', f'{_home()} {os.getpid()}')
        self._add(f'beats/{rank}', 1)
        threading.Thread(target=self._beat, daemon=True).start()

    def meet(self, waiting: Callable[[], None] = lambda: None) -> None:
        """Return when all processes have come here as often as this one; `waiting` is called
        meanwhile. Raises LostConnection where one of them is lost."""
        self.meetings += 1
        key, pause = f'meetings/{self.meetings}', 0.0002
        try:
            come = self._add(key, 1)
            while come < self.world:
                if self.lost:
                    raise LostConnection(f'{self.lost}; --resume continues')
                waiting()
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_WAIT)
                come = self._add(key, 0)
        except (RuntimeError, OSError):  # the store's process is gone
            raise LostConnection(
                'lost the connection to training process 0; --resume continues'
            ) from None

    def leave(self) -> None:
        """Say that this process comes to no other meeting, and is not missed."""
        self._left.set()
        with suppress(RuntimeError, OSError):  # so has the store's process
            self._add(f'left/{self.rank}', 1)

    def _add(self, key: str, amount: int) -> int:
        with self._lock:
            return self.store.add(key, amount)

    def _beat(self) -> None:
        before = time.monotonic()
        while not self._left.wait(BEAT_SECONDS):
            try:
                self._add(f'beats/{self.rank}', 1)
                now = time.monotonic()
                if now - before > 3 * BEAT_SECONDS:  # this process stood still itself
                    for peer in self._others:
                        peer.heard_at = now
                before = now
                for peer in self._others:
                    self._listen(peer)
            except (RuntimeError, OSError):
                self.lost = 'lost the connection to training process 0'
            if self.lost:
                break
        if self.lost and self.end is not None and not self._left.wait(SILENT_SECONDS):
            print(f'{self.lost}; --resume continues', file=sys.stderr, flush=True)
            self.end(1)

    def _listen(self, peer: '_Peer') -> None:
        beats = self._add(f'beats/{peer.rank}', 0)
        if beats != peer.beats:
            peer.beats, peer.heard_at = beats, time.monotonic()
            return
        silent = time.monotonic() - peer.heard_at
        if silent < 3 * BEAT_SECONDS or self._add(f'left/{peer.rank}', 0):
            return
        if beats and peer.home is None:
            with self._lock:
                peer.home = self.store.get(f'home/{peer.rank}').decode()
        lives = peer.home and _lives(peer.home)
        if lives is False or (lives is None and silent > SILENT_SECONDS):
            self.lost = f'training process {peer.rank} is gone or out of reach'


class _Peer:
    def __init__(self, rank: int):
        self.rank, self.beats, self.heard_at = rank, 0, time.monotonic()
        self.home: Optional[str] = None


def _home() -> str:
    """What the processes that see this one's number have in common: a machine, and a container."""
    try:
        return f'{platform.node()} {os.readlink("/proc/self/ns/pid")}'
    except OSError:  # not Linux
        return platform.node()


def _lives(home: str) -> Optional[bool]:
    """Whether the process of a `home/...` lives, perhaps stopped; None where that is unknown."""
    place, number = home.rsplit(' ', 1)
    if place != _home() or not Path('/proc/self/stat').exists():
        return None
    try:
        state = Path(f'/proc/{number}/stat').read_text().rsplit(')', 1)[1].split()[0]
    except OSError:
        return False
    return state not in 'ZX'
