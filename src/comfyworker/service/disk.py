"""What SQLite has committed, forced to the disk: in a thread of its own, while the database goes on.

A commit that does not wait for the disk is kept by the system, whatever becomes of the process; a loss of power may
undo it until this thread has been there. https://www.sqlite.org/pragma.html#pragma_synchronous
"""

from __future__ import annotations

import errno
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

Teller = Callable[[OSError | None], None]
_sync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync.


class _Wish(NamedTuple):
    tell: Teller
    has_written: bool


class DurableLog:
    """A write-ahead log whose commits are made durable, many together where they come while the disk is busy."""

    def __init__(self, path: Path) -> None:
        """Have the log `path` made durable, which SQLite keeps under this name as long as the database is open.

        Raises:
            OSError: it cannot be opened.
        """
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._asked: queue.SimpleQueue[_Wish | None] = queue.SimpleQueue()
        self._has_failed = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="jobs disk", daemon=True)
        self._thread.start()

    @property
    def has_failed(self) -> bool:
        """Whether the disk refused; what was written since may be lost, and nobody is told that it is durable."""
        return self._has_failed.is_set()

    def note_rewritten(self) -> None:
        """Know that all that the log holds has been written elsewhere, and may count as durable again."""
        self._has_failed.clear()

    def when_durable(self, tell: Teller, *, has_written: bool) -> None:
        """Call `tell` from the other thread when all that is committed by now is durable, or with why it is not.

        Args:
            tell: Must not block.
            has_written: Whether anything has been committed since the last call.
        """
        self._asked.put(_Wish(tell, has_written))

    def force(self) -> None:
        """Make all that is committed durable, before this returns.

        Raises:
            OSError: the disk refuses.
        """
        if self.has_failed:
            # Linux reports a failure once, and takes the pages for written from then on.
            raise OSError(errno.EIO, "an earlier write to the disk failed")
        try:
            _sync(self._descriptor)
        except OSError:
            self._has_failed.set()
            raise

    def close(self) -> None:
        """Do what was asked for, then end."""
        self._asked.put(None)
        self._thread.join()
        os.close(self._descriptor)

    def _serve(self) -> None:
        is_open = True
        while is_open:
            wishes: list[_Wish] = []
            is_open = self._take(wishes)
            error = self._failure() if any(wish.has_written for wish in wishes) or self.has_failed else None
            for wish in wishes:
                wish.tell(error)

    def _take(self, wishes: list[_Wish]) -> bool:
        """Wait for wishes and take all that there are; return whether there will be more."""
        wish = self._asked.get()
        while wish is not None:
            wishes.append(wish)
            try:
                wish = self._asked.get_nowait()
            except queue.Empty:
                return True
        return False

    def _failure(self) -> OSError | None:
        try:
            self.force()
        except OSError as error:
            return error
        return None
