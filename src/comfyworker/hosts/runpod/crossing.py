"""The way from the worker's thread into the event loop of RunPod's SDK, which begins later than the worker."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable


class Crossing:
    """Calls functions in the SDK's event loop, in their order; what comes before that loop runs is kept for it."""

    def __init__(self) -> None:
        """Know no loop yet."""
        self._lock = threading.Lock()
        self._early: list[Callable[[], object]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self) -> None:
        """Take the running loop for the SDK's, and call what was kept for it."""
        with self._lock:
            self._loop = asyncio.get_running_loop()
            for call in self._early:
                self._loop.call_soon(call)
            self._early.clear()

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Have `function` called there; may be called from any thread. After the loop's end nothing is called."""
        call = functools.partial(function, *arguments)
        with self._lock:
            if self._loop is None:
                self._early.append(call)
                return
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(call)
