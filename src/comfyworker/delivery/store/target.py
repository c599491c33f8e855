"""What every kind of storage can do with a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from comfyworker.delivery.store.parts import PartBuffers


class Target(Protocol):
    """One location in one storage, connected. Every failure is raised as StoreFault."""

    async def put(self, key: str, path: Path, content_type: str, buffers: PartBuffers) -> None:
        """Bring a file there, whole or not at all; called for each file of a job.

        If cancelled, what has gone out is taken back as far as that can be done at once; `withdraw` does the rest.
        """

    async def url(self, key: str, *, expires_s: int) -> str:
        """Return where anybody can read the object for a time."""

    async def set_acl(self, key: str, acl: str) -> None:
        """Give an object a canned ACL; called after `put`, if one is set."""

    async def withdraw(self, keys: Sequence[str]) -> None:
        """Remove the objects and unfinished uploads of these keys; what is not there is no failure."""
