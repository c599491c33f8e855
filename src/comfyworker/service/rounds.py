"""Calls that come many at once, made a few in each round of the event loop, so that others have their turn between."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

_EACH_ROUND = 16


class Rounds:
    """Makes calls in their order.

    A hundred jobs that the disk takes together are a hundred answers, which the loop would write in one go: who asks
    for something else meanwhile would wait for all of them.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, each_round: int = _EACH_ROUND) -> None:
        """Make at most `each_round` calls in each round of `loop`."""
        self._loop = loop
        self._each_round = each_round
        self._calls: deque[Callable[[], None]] = deque()
        self._goes_on = False

    def add(self, calls: Iterable[Callable[[], None]]) -> None:
        """Make `calls` behind those that were added before; at once if there are none and it are few."""
        self._calls.extend(calls)
        if not self._goes_on:
            self._go_on()

    def _go_on(self) -> None:
        self._goes_on = True  # Also for who adds more from within a call.
        for _ in range(min(self._each_round, len(self._calls))):
            self._calls.popleft()()
        self._goes_on = bool(self._calls)
        if self._goes_on:
            self._loop.call_soon(self._go_on)
