"""How far a download is, told a few times a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_INTERVAL_S = 0.1

OnBytes = Callable[[int, int | None], None]
"""Called on the event loop with the bytes that are there, and how many there will be, if that is known."""


class Progress:
    """Passes on figures that come often."""

    def __init__(self, on_bytes: OnBytes | None, total_bytes: int | None) -> None:
        """Tell `on_bytes`, if there is anybody."""
        self._on_bytes = on_bytes
        self._total_bytes = total_bytes
        self._loop = asyncio.get_running_loop()
        self._told_at = float("-inf")
        self._told: int | None = None

    def at(self, done_bytes: int) -> None:
        """Say how much is there; told at most ten times a second."""
        if self._loop.time() - self._told_at >= _INTERVAL_S:
            self.tell(done_bytes)

    def tell(self, done_bytes: int) -> None:
        """Say how much is there, whatever was told just now; a figure that was told last is not told again."""
        if self._on_bytes is None or done_bytes == self._told:
            return
        self._told_at, self._told = self._loop.time(), done_bytes
        self._on_bytes(done_bytes, self._total_bytes)
