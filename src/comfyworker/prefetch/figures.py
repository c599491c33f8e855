"""What prefetching has done, in numbers."""

from __future__ import annotations

import threading
from collections import Counter
from enum import StrEnum


class Nearness(StrEnum):
    """Where a job's model was when the job came."""

    COPY = "copy"
    """There was a local copy."""
    MEMORY = "memory"
    """It had been read ahead."""
    DISK = "disk"
    """Where it lies."""


class Figures:
    """Counts since the start; any thread may add to them."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self._lock = threading.Lock()
        self.uses: Counter[Nearness] = Counter()
        """Models of jobs, by how near they were."""
        self.copied_bytes = 0
        self.copied_files = 0
        self.read_bytes = 0
        """What was read into memory alone."""
        self.evicted_files = 0

    def use(self, nearness: Nearness) -> None:
        """Count a job's model."""
        with self._lock:
            self.uses[nearness] += 1

    def copied(self, size_bytes: int) -> None:
        """Count a copy that is whole."""
        with self._lock:
            self.copied_files += 1
            self.copied_bytes += size_bytes

    def read(self, size_bytes: int) -> None:
        """Count bytes that were read ahead."""
        with self._lock:
            self.read_bytes += size_bytes

    def evicted(self) -> None:
        """Count a copy that made room for another."""
        with self._lock:
            self.evicted_files += 1
