"""aiohttp, imported when something of it is used first.

It is the largest of all that a worker imports, a quarter of it for reading certificates, and a server can take jobs
before. Whoever is about to use it first on an event loop calls `load_aiohttp` before.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import aiohttp

__all__ = ["aiohttp", "load_aiohttp"]


class _Deferred:
    """Stands for a module."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the module has
        value = getattr(importlib.import_module(self._name), name)
        setattr(self, name, value)
        return value


async def load_aiohttp() -> None:
    """Import aiohttp in a thread, so that the event loop goes on meanwhile."""
    if "aiohttp" not in sys.modules:
        await asyncio.to_thread(importlib.import_module, "aiohttp")


if not TYPE_CHECKING:
    aiohttp = _Deferred("aiohttp")
