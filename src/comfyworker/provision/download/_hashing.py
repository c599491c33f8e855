"""SHA-256 of files, also of one that is still coming."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from comfyworker.finishing import in_thread
from comfyworker.provision.download._parts import Part

BLOCK_BYTES = 4 * 1024 * 1024


class Growing(Protocol):
    """Something that makes a file grow."""

    grown: asyncio.Event
    is_over: bool


class PrefixHash:
    """The SHA-256 of an unfinished file, computed right behind what comes.

    Ranges come in any order, a digest wants them in one. It reads what has come without a gap; that was written a
    moment ago, so it is still in memory, and the disk is not asked for it.
    """

    def __init__(self, part: Part) -> None:
        """Begin at the beginning, what an earlier try left included."""
        self._part = part
        self._begin()

    def _begin(self) -> None:
        self._digest = hashlib.sha256()
        self._position = 0
        self._restarts = self._part.restarts

    async def follow(self, transfer: Growing) -> None:
        """Keep up with a transfer until it is over; raises OSError."""
        while not transfer.is_over:
            transfer.grown.clear()
            await self._catch_up(self._part.spans.prefix)
            if not transfer.is_over:
                await transfer.grown.wait()

    async def finish(self) -> str:
        """Return the digest of the whole file, all of which has come; raises OSError."""
        await self._catch_up(self._part.spans.prefix)
        return self._digest.hexdigest()

    async def _catch_up(self, end: int) -> None:
        if self._restarts != self._part.restarts:
            self._begin()
        while self._position < end:
            count = await in_thread(functools.partial(self._add, min(BLOCK_BYTES, end - self._position)))
            if self._restarts != self._part.restarts:
                return  # What was read may be of neither try.
            if not count:
                raise OSError(errno.EIO, "the file became shorter while it was read")

    def _add(self, count: int) -> int:
        block = os.pread(self._part.descriptor, count, self._position)
        self._digest.update(block)
        self._position += len(block)
        return len(block)


async def hash_file(path: Path, *, on_bytes: Callable[[int], None] | None = None) -> str:
    """Return the SHA-256 of a file in hexadecimal; read in a thread, block by block.

    Args:
        path: The file.
        on_bytes: Called on the event loop with the bytes read so far.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with contextlib.closing(await in_thread(functools.partial(_Reader, path, digest))) as reader:
        while await in_thread(reader.step):
            if on_bytes is not None:
                on_bytes(reader.done_bytes)
    return digest.hexdigest()


class _Reader:
    def __init__(self, path: Path, digest: hashlib._Hash) -> None:
        self._file = path.open("rb", buffering=0)
        self._digest = digest
        self._buffer = bytearray(BLOCK_BYTES)
        self.done_bytes = 0

    def step(self) -> bool:
        count = self._file.readinto(self._buffer)
        self._digest.update(memoryview(self._buffer)[:count])
        self.done_bytes += count
        return count > 0

    def close(self) -> None:
        self._file.close()
