"""A copy that is not whole yet."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self


class NoRoom(Exception):
    """A model is not copied, since it would take more room than there is; the text says which."""


class Elsewhere(Exception):
    """Another worker writes this draft."""


class Draft:
    """A file that is being written, locked for as long as it is open; of a killed worker nothing holds the lock."""

    def __init__(self, descriptor: int, path: Path) -> None:
        """Hold an open draft; `take` opens one."""
        self._descriptor = descriptor
        self._path = path

    @classmethod
    def take(cls, path: Path) -> Self:
        """Open a draft, and make it if it is not there.

        Raises:
            Elsewhere: another worker has it.
            OSError: it cannot be opened.
        """
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise Elsewhere from None
            except OSError:  # no locks here: the draft's owner may be another, whose rename then fails
                pass
            # Between the two calls its owner may have finished: what is locked then is a copy in its place.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.lstat()):
                    return cls(descriptor, path)
            os.close(descriptor)

    def reserve(self, size_bytes: int) -> None:
        """Give it the size that it will have; what it held is gone.

        Raises:
            OSError: that size is not allowed.
        """
        os.ftruncate(self._descriptor, 0)
        os.ftruncate(self._descriptor, size_bytes)

    def write(self, piece: memoryview, offset: int) -> None:
        """Write a piece of it; several threads may at the same time.

        Raises:
            OSError: it cannot be written.
        """
        while piece:
            written = os.pwrite(self._descriptor, piece, offset)
            piece, offset = piece[written:], offset + written

    def finish(self, target: Path, *, mtime_ns: int) -> None:
        """Put it in its place, in one step, with the time of its model.

        Raises:
            OSError: it cannot be brought to the disk.
        """
        os.fsync(self._descriptor)
        os.utime(self._descriptor, ns=(time.time_ns(), mtime_ns))
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with unnoticed(target.parent):
            self._path.replace(target)
        os.close(self._descriptor)

    def discard(self) -> None:
        """Remove it."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(self._descriptor)


@contextlib.contextmanager
def unnoticed(folder: Path) -> Iterator[None]:
    """Change a folder and give it back its time.

    ComfyUI walks all folders of a kind anew when one of them has another time (`folder_paths.py`,
    cached_filename_list_), those on the slow volume too. A copy that comes or goes changes no name.
    """
    before = folder.stat()
    yield
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
