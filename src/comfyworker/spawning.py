"""Processes that are begun while another thread forks this one.

A fork has all that is open, and for a moment, while a process is begun, that includes the far ends of its pipes. Who
began it reads from the near ends until the far ones are closed: it would wait for the fork's end, too.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

_LONGEST_WAIT_S = 10.0
_turn = threading.RLock()


@contextlib.contextmanager
def spawning() -> Iterator[None]:
    """Hold forks of other threads off while the block begins a process; it must not wait for that process's end."""
    with _turn:
        yield


def let_forks_wait() -> None:
    """Have each `os.fork` of this process wait until no block of `spawning` runs; there is no way back."""
    held: list[bool] = []

    def before() -> None:
        # Not for ever: a fork that inherits too much is better than a thread that stands still.
        held.append(_turn.acquire(timeout=_LONGEST_WAIT_S))

    def after() -> None:
        if held.pop():
            _turn.release()

    os.register_at_fork(before=before, after_in_parent=after, after_in_child=after)
