"""The memory that parts of files are in while they are on their way, so much and no more."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import mmap
import os
import weakref
from collections import deque
from pathlib import Path
from typing import BinaryIO, Self

from comfyworker.delivery.store.faults import StoreFault
from comfyworker.finishing import in_thread


class UploadStopped(Exception):
    """No more of a file is wanted: its upload is to be aborted."""


class PartBuffers:
    """Lends out a fixed number of buffers; who wants one waits until one is free.

    A buffer comes back by itself when nobody refers to what was lent any more. That is how we hear that the storage has
    taken a part: obstore tells nothing of single parts, but lets go of each one's memory.
    """

    def __init__(self, count: int, size_bytes: int) -> None:
        """Lend at most `count` buffers of `size_bytes` at a time."""
        self.size_bytes = size_bytes
        self._loop = asyncio.get_running_loop()
        self._unmade = count
        self._free: list[mmap.mmap] = []
        self._waiting: deque[asyncio.Future[mmap.mmap]] = deque()
        self._is_stopped = False

    async def take(self) -> mmap.mmap:
        """Return a buffer; raises UploadStopped once `stop` was called."""
        if self._is_stopped:
            raise UploadStopped
        if self._free:
            return self._free.pop()
        if self._unmade:
            self._unmade -= 1
            # A map of its own goes back to the system as a whole; memory from the heap would leave holes in it.
            return mmap.mmap(-1, self.size_bytes)
        waiter: asyncio.Future[mmap.mmap] = self._loop.create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.give_back(waiter.result())
            raise

    def give_back(self, buffer: mmap.mmap) -> None:
        """Take a buffer back that was not lent on."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(buffer)
                return
        self._free.append(buffer)

    def lend(self, buffer: mmap.mmap, size_bytes: int) -> memoryview:
        """Return the beginning of a buffer for others to read, in any thread; it comes back when they let it go."""
        view = memoryview(buffer)[:size_bytes]
        finalizer = weakref.finalize(view, self._released, buffer)
        finalizer.atexit = False
        return view

    def stop(self) -> None:
        """Let everybody who waits for a buffer, or will want one, stop."""
        self._is_stopped = True
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(UploadStopped())

    def _released(self, buffer: mmap.mmap) -> None:
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits any more.
            self._loop.call_soon_threadsafe(self.give_back, buffer)


class FileParts:
    """A file's parts, all of one size but the last, as an asynchronous iterator for obstore."""

    def __init__(self, path: Path, buffers: PartBuffers) -> None:
        """Read the file at `path` into `buffers`."""
        self._path = path
        self._buffers = buffers
        self._file: BinaryIO | None = None
        self._left_bytes = 0
        self.size_bytes = 0
        """How large the file was when it was opened."""

    async def open(self) -> None:
        """Open the file; `close` is wanted also where this was cancelled.

        Raises:
            StoreFault: it cannot be read.
        """
        await in_thread(self._open)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> memoryview:
        """Return the next part.

        Raises:
            UploadStopped: the upload is to be aborted.
            StoreFault: the file cannot be read, or has become shorter.
        """
        if not self._left_bytes:
            raise StopAsyncIteration
        return await self.read()

    async def read(self) -> memoryview:
        """Return the next part, an empty one at the file's end."""
        buffer = await self._buffers.take()
        wanted = min(self._left_bytes, self._buffers.size_bytes)
        try:
            await in_thread(functools.partial(self._fill, buffer, wanted))
        except BaseException:
            self._buffers.give_back(buffer)
            raise
        self._left_bytes -= wanted
        return self._buffers.lend(buffer, wanted)

    def _open(self) -> None:
        try:
            self._file = self._path.open("rb", buffering=0)
        except OSError as error:
            raise unreadable(error) from error
        self._left_bytes = self.size_bytes = os.fstat(self._file.fileno()).st_size

    def _fill(self, buffer: mmap.mmap, wanted_bytes: int) -> None:
        if self._file is None:
            raise AssertionError  # open came before.
        with memoryview(buffer) as whole:
            filled_bytes = 0
            while filled_bytes < wanted_bytes:
                try:
                    with whole[filled_bytes:wanted_bytes] as rest:
                        count = self._file.readinto(rest)  # type: ignore[attr-defined]  # typeshed's BinaryIO lacks it
                except OSError as error:
                    raise unreadable(error) from error
                if not count:
                    reason = "the file became shorter while it was read"
                    raise StoreFault(reason, hint="Something else writes to ComfyUI's output folder.")
                filled_bytes += count


def unreadable(error: OSError) -> StoreFault:
    """Return the fault of a file that cannot be read."""
    return StoreFault(
        f"the file could not be read: {error.strerror}",
        hint="Something removed or locked the file before it was delivered, or its disk fails.",
    )
