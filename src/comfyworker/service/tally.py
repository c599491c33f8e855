"""How many jobs there are, and whether there is room for one more."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping

from comfyworker.errors import QueueFull
from comfyworker.jobs import JobStatus
from comfyworker.service.records import Counts, JobRecord
from comfyworker.service.running import HeldPlace, Running
from comfyworker.settings import QueueSettings

_LONGEST_RETRY_S = 60
_UNKNOWN_S = 5.0
_WEIGHT_OF_LATEST = 0.2


class Tally:
    """Counts the jobs of the service."""

    def __init__(self, running: Running, settings: QueueSettings, *, places: int) -> None:
        """Count those of `running`."""
        self._running = running
        self._settings = settings
        self._places = places
        self._coming = 0
        self._usual_s: float | None = None
        self._ended: Counter[JobStatus] = Counter()
        self._failed_by_code: Counter[str] = Counter()
        self.retried = 0
        """How many jobs were asked for again."""

    @property
    def is_full(self) -> bool:
        """Whether no job is taken now."""
        taken = self._running.count + len(self._running.waiting) + self._coming
        return self._running.is_stopping or taken >= self._settings.max_queued + self._places

    @contextlib.contextmanager
    def one_more(self) -> Iterator[HeldPlace]:
        """Within the context, count a job that is being taken, until its place is released: then it is there."""
        self._coming += 1
        place = HeldPlace(is_held=True, on_release=self._arrived)
        try:
            yield place
        finally:
            place.release()

    def _arrived(self) -> None:
        self._coming -= 1

    def note_end(self, record: JobRecord) -> None:
        """Count a job that is over."""
        self._ended[record.status] += 1
        if record.result is not None and record.result.error is not None:
            self._failed_by_code[record.result.error.code] += 1
        if record.execution_s is not None:
            usual_s = record.execution_s if self._usual_s is None else self._usual_s
            self._usual_s = usual_s + _WEIGHT_OF_LATEST * (record.execution_s - usual_s)

    def queue_full(self) -> QueueFull:
        """Return the error for a job that is not taken."""
        retry_after_s = max(1, min(_LONGEST_RETRY_S, math.ceil(self._expected_s())))
        if self._running.is_stopping:
            message, hint = "the worker is shutting down and takes no more jobs", "Send it to another, or again later."
        else:
            message = f"as many jobs wait as may: {self._settings.max_queued}"
            hint = f"Send it again in {retry_after_s} s. QUEUE_MAX of the worker is the limit."
        return QueueFull(message, hint=hint, details={"retry_after_s": retry_after_s})

    def _expected_s(self) -> float:
        """Return in how many seconds there may be room: as long as a job usually takes, divided by those at once."""
        if self._usual_s is not None:
            return self._usual_s / self._places
        # None has ended yet: one that has run for so long may as well run for that long again.
        return max(self._running.longest_s(), _UNKNOWN_S)

    def counts(self, by_status: Mapping[JobStatus, int]) -> Counts:
        """Return all figures; `by_status` is what the database says."""
        return Counts(
            queued=len(self._running.waiting),
            running=self._running.count,
            places=self._places,
            max_queued=self._settings.max_queued,
            by_status=dict(by_status),
            ended=dict(self._ended),
            failed_by_code=dict(self._failed_by_code),
            retried=self.retried,
            oldest_queued_at=min((job.record.created_at for job in self._running.waiting), default=None),
            is_draining=self._running.is_stopping,
        )
