"""The line in which jobs wait: higher priorities first, then who came first."""

from __future__ import annotations

import bisect
from collections.abc import Iterator

from comfyworker.service.live import LiveJob


class WaitingLine:
    """The jobs that wait, in their order."""

    def __init__(self) -> None:
        """Have nobody wait."""
        self._places: list[tuple[int, int]] = []
        self._jobs: dict[tuple[int, int], LiveJob] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[LiveJob]:
        return (self._jobs[place] for place in tuple(self._places))

    def join(self, job: LiveJob) -> None:
        """Have `job` wait."""
        bisect.insort(self._places, job.place_in_line)
        self._jobs[job.place_in_line] = job

    def leave(self, job: LiveJob) -> bool:
        """Take `job` out; tell whether it was waiting."""
        if self._jobs.pop(job.place_in_line, None) is None:
            return False
        del self._places[bisect.bisect_left(self._places, job.place_in_line)]
        return True

    def next(self) -> LiveJob | None:
        """Take out the job whose turn it is; None if nobody waits."""
        return self._jobs.pop(self._places.pop(0)) if self._places else None

    def position(self, job: LiveJob) -> int:
        """Return how many jobs stand before `job`, or would if it joined."""
        return bisect.bisect_left(self._places, job.place_in_line)
