"""Which files are in memory, as far as we have read them ahead; and how much more may be."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from comfyworker.prefetch.memory import available_bytes
from comfyworker.prefetch.order import ModelFile

_SHARE: Final = 0.75
"""Of the memory that is available. The rest is for what ComfyUI makes of a model while it loads it, and for jobs."""


class Warmth:
    """The files that were read last and fit into memory together; the kernel may have let go of some."""

    def __init__(self, available: Callable[[], int | None] = available_bytes) -> None:
        """Ask `available` for the memory that can be had, cached files included."""
        self._available = available
        self._lock = threading.Lock()
        self._sizes: dict[tuple[str, int, int], int] = {}
        self._whole: set[tuple[str, int, int]] = set()

    def has(self, file: ModelFile) -> bool:
        """Tell whether a file was read whole and nothing has taken its place; it counts as used now."""
        with self._lock:
            if file.content not in self._whole or file.content not in self._sizes:
                return False
            self._sizes[file.content] = self._sizes.pop(file.content)
            return True

    def admit(self, file: ModelFile, *, displaces: bool) -> bool:
        """Tell whether there is memory for a file now, and count it in; asked again while it is read.

        Args:
            file: What shall be read.
            displaces: Whether those that were read longest ago may go for it.
        """
        budget = _SHARE * (self._available() or 0)
        with self._lock:
            self._sizes.pop(file.content, None)
            used = sum(self._sizes.values())
            while displaces and self._sizes and used + file.size_bytes > budget >= file.size_bytes:
                used -= self._sizes.pop(next(iter(self._sizes)))
            if used + file.size_bytes > budget:
                return False
            self._sizes[file.content] = file.size_bytes
            return True

    def keep(self, file: ModelFile) -> None:
        """Hear that a file was read whole."""
        with self._lock:
            self._whole.add(file.content)

    def forget(self, file: ModelFile) -> None:
        """Count a file out."""
        with self._lock:
            self._sizes.pop(file.content, None)
            self._whole.discard(file.content)
