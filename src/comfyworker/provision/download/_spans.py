"""Which parts of a file have come."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator


class Spans:
    """A set of byte positions, as half-open stretches that do not touch."""

    def __init__(self, stretches: Iterable[tuple[int, int]] = ()) -> None:
        """Begin with what has come."""
        self._stretches: list[tuple[int, int]] = []
        for start, end in stretches:
            self.add(start, end)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._stretches)

    def add(self, start: int, end: int) -> None:
        """Note that the bytes from `start` to before `end` have come."""
        if start >= end:
            return
        first = bisect.bisect_left(self._stretches, start, key=lambda stretch: stretch[1])
        last = bisect.bisect_right(self._stretches, end, key=lambda stretch: stretch[0])
        touched = self._stretches[first:last]
        if touched:
            start, end = min(start, touched[0][0]), max(end, touched[-1][1])
        self._stretches[first:last] = [(start, end)]

    def clear(self) -> None:
        """Forget all."""
        self._stretches.clear()

    @property
    def total(self) -> int:
        """How many bytes have come."""
        return sum(end - start for start, end in self._stretches)

    @property
    def prefix(self) -> int:
        """How many bytes have come from the beginning on, without a gap."""
        return self._stretches[0][1] if self._stretches and self._stretches[0][0] == 0 else 0

    def gaps(self, size: int) -> Iterator[tuple[int, int]]:
        """Yield what is missing of `size` bytes, from the beginning on."""
        position = 0
        for start, end in self._stretches:
            if start > position:
                yield position, min(start, size)
            position = end
        if position < size:
            yield position, size
