"""A model that is read from where it lies: into memory alone, or into a copy too."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from hashlib import sha256
from typing import Final

from comfyworker.prefetch.copies import LocalCopies
from comfyworker.prefetch.draft import Draft
from comfyworker.prefetch.order import ModelFile

READERS: Final = 4
"""Pieces that are read at the same time: network disks answer one reader more slowly than several."""
PIECE_BYTES: Final = 8 << 20
WINDOW_BYTES: Final = READERS * PIECE_BYTES


class Changed(Exception):
    """The file is another now than when its reading began."""


class Damaged(Exception):
    """The file's content is another than was noted when it was fetched."""


class Transfer:
    """One file, read window by window, so that whoever reads can turn to another in between."""

    def __init__(self, file: ModelFile, readers: Readers, *, sha256_hex: str | None = None) -> None:
        """Begin at the file's start.

        Args:
            file: What is read.
            readers: What reads it.
            sha256_hex: What its content must have; None is not known, or not to be looked at.

        Raises:
            OSError: it cannot be opened.
        """
        self.file = file
        self.done_bytes = 0
        self._readers = readers
        self._wanted = sha256_hex
        self._hash = sha256() if sha256_hex is not None else None
        self._descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    def step(self) -> bool:
        """Read the next window; return whether that was the last.

        Raises:
            Changed: the file is another now.
            Damaged: its content is another than it should be.
            OSError: it cannot be read.
        """
        size_bytes = min(WINDOW_BYTES, self.file.size_bytes - self.done_bytes)
        # The kernel begins with the window after this one; how far it goes ahead is its own choice.
        os.posix_fadvise(self._descriptor, self.done_bytes + size_bytes, WINDOW_BYTES, os.POSIX_FADV_WILLNEED)
        for piece in self._readers.read(self._descriptor, self.done_bytes, size_bytes, self.take):
            if self._hash is not None:
                self._hash.update(piece)
        self.done_bytes += size_bytes
        if self.done_bytes < self.file.size_bytes:
            return False
        self._check()
        return True

    def take(self, piece: memoryview, offset: int) -> None:
        """Take a piece, in one of the readers' threads; what was read for its own sake is in memory by that."""

    def finish(self) -> None:
        """Do what is left when all is read."""

    def close(self) -> None:
        """Let go of everything; what is not finished is gone."""
        os.close(self._descriptor)

    def _check(self) -> None:
        found, path = os.fstat(self._descriptor), self.file.path.stat()
        if (found.st_size, found.st_mtime_ns) != (self.file.size_bytes, self.file.mtime_ns) or not os.path.samestat(
            found, path
        ):
            raise Changed
        if self._hash is not None and self._hash.hexdigest() != self._wanted:
            raise Damaged


class CopyTransfer(Transfer):
    """A file that is copied, too."""

    def __init__(
        self, file: ModelFile, readers: Readers, copies: LocalCopies, draft: Draft, *, sha256_hex: str | None
    ) -> None:
        """Copy into `draft`, which is put in its place when it is whole; it is discarded if that comes to nothing."""
        self._copies = copies
        self._draft: Draft | None = draft
        try:
            super().__init__(file, readers, sha256_hex=sha256_hex)
        except OSError:
            draft.discard()
            raise

    def take(self, piece: memoryview, offset: int) -> None:
        """Write a piece where it belongs."""
        if self._draft is not None:
            self._draft.write(piece, offset)

    def finish(self) -> None:
        """Put the copy in its place.

        Raises:
            OSError: it cannot be brought to the disk.
        """
        if self._draft is not None:
            self._copies.place(self._draft, self.file)
            self._draft = None

    def close(self) -> None:
        """Discard what is not whole."""
        if self._draft is not None:
            self._draft.discard()
            self._draft = None
        super().close()


class Readers:
    """A few threads that read pieces of a file at the same time, into memory that they keep."""

    def __init__(self) -> None:
        """Begin without any thread."""
        self._threads: Executor | None = None
        self._buffers: list[memoryview] = []

    def read(
        self, descriptor: int, offset: int, size_bytes: int, take: Callable[[memoryview, int], None]
    ) -> list[memoryview]:
        """Read a window, have each piece taken in its thread, and return the pieces; they hold until the next call.

        Raises:
            Changed: the file is shorter.
            OSError: it cannot be read, or a piece not taken.
        """
        if self._threads is None:
            self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="model-reader")
            self._buffers = [memoryview(bytearray(PIECE_BYTES)) for _ in range(READERS)]

        def read_piece(number: int) -> memoryview:
            at = offset + number * PIECE_BYTES
            piece = self._buffers[number][: min(PIECE_BYTES, offset + size_bytes - at)]
            _fill(descriptor, piece, at)
            take(piece, at)
            return piece

        futures = [self._threads.submit(read_piece, number) for number in range(-(-size_bytes // PIECE_BYTES))]
        wait(futures)  # also when one fails: the others still use the file
        return [future.result() for future in futures]

    def close(self) -> None:
        """End the threads."""
        if self._threads is not None:
            self._threads.shutdown()
        self._threads, self._buffers = None, []


def _fill(descriptor: int, piece: memoryview, offset: int) -> None:
    while piece:
        count = os.preadv(descriptor, [piece], offset)
        if count == 0:
            raise Changed
        piece, offset = piece[count:], offset + count
