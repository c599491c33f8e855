"""Where the bytes of one file come from."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

import aiohttp

from comfyworker.provision.download._answers import Facts


class Source(Protocol):
    """A file on some host. Failures are raised as Fault."""

    async def resolve(self) -> Facts:
        """Return what the source says of the file; called before anything is fetched, and when it has changed."""

    def open(self, facts: Facts, stretch: tuple[int, int] | None) -> AbstractAsyncContextManager[Body]:
        """Open a stretch of the file, or all of it; raises SourceChanged and RangesLost, too."""


class Body:
    """The bytes of an answer."""

    def __init__(self, response: aiohttp.ClientResponse, end: int | None) -> None:
        """Read an answer whose last byte stands before `end` of the file; None is unknown."""
        self.response = response
        self.end = end
