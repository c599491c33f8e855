"""The room on disks: what is free, and what downloads under way will still take of it."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from comfyworker.comfyui.finding import format_bytes
from comfyworker.errors import InsufficientStorage


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the file system that a folder is on, or will be on once it is made."""
    return shutil.disk_usage(_nearest(folder)).free


def _nearest(folder: Path) -> Path:
    return next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.is_dir())


class Room:
    """What the downloads of one downloader will still write, by file system."""

    def __init__(self) -> None:
        """Begin with none."""
        self._wanted: Counter[int] = Counter()

    @contextlib.contextmanager
    def reserved(self, folder: Path, filename: str, wanted_bytes: int) -> Iterator[Callable[[int], None]]:
        """Hold room for a file while it is fetched; yield what is to be told how many bytes it still wants.

        Raises:
            InsufficientStorage: there is not so much, less what the other downloads still want.
        """
        device = _nearest(folder).stat().st_dev
        free = max(free_bytes(folder) - self._wanted[device], 0)
        if wanted_bytes > free:
            raise InsufficientStorage(
                f"the disk has no room for {filename}: {format_bytes(wanted_bytes)} are missing of it, and "
                f"{format_bytes(free)} are free",
                hint="Free space, or use a larger disk; what an earlier try has brought is kept.",
                details={"wanted_bytes": wanted_bytes, "free_bytes": free},
            )
        held = wanted_bytes
        self._wanted[device] += held

        def shrink(left_bytes: int) -> None:
            nonlocal held
            self._wanted[device] += left_bytes - held
            held = left_bytes

        try:
            yield shrink
        finally:
            shrink(0)
