"""How far each job's stream has been read: RunPod's `/stream` hands out every piece once."""

from __future__ import annotations

from collections import OrderedDict

from comfyworker.service import JobRecord, KeptArtifact

_MOST_JOBS = 10_000


class StreamMarks:
    """Remembers how many files of each job were handed out; the jobs that nobody asks for any more are forgotten."""

    def __init__(self, *, most_jobs: int = _MOST_JOBS) -> None:
        """Remember no more than `most_jobs`."""
        self._most_jobs = most_jobs
        self._marks: OrderedDict[tuple[str, str, float], int] = OrderedDict()

    def take(self, record: JobRecord) -> tuple[KeptArtifact, ...]:
        """Return the files of a job that were not handed out before; they count as handed out now."""
        key = (record.owner, record.id, record.created_at)  # A job that is retried has another beginning.
        mark = self._marks.pop(key, 0)
        self._marks[key] = max(mark, len(record.outputs))
        while len(self._marks) > self._most_jobs:
            self._marks.popitem(last=False)
        return record.outputs[mark:]
