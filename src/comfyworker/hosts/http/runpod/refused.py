"""Jobs whose `input` is wrong: RunPod takes them and has them fail, so its clients ask for them later.

They are in memory only and never run. An id that a client chose is free for the request that is put right.
"""

from __future__ import annotations

import time
from collections import OrderedDict

from comfyworker.errors import InvalidRequest, Problem, WorkerError
from comfyworker.hosts.http.runpod.submission import API_NAME
from comfyworker.jobs import JobError, JobStatus
from comfyworker.service import JobRecord, KeptResult

_MOST_JOBS = 1000


class RefusedJobs:
    """Remembers the latest of them."""

    def __init__(self, *, most_jobs: int = _MOST_JOBS) -> None:
        """Remember no more than `most_jobs`."""
        self._most_jobs = most_jobs
        self._jobs: OrderedDict[tuple[str, str], JobRecord] = OrderedDict()

    def add(self, job_id: str, error: WorkerError, *, owner: str, dialect: str) -> JobRecord:
        """Return the job that a wrong request asked for, as one that has failed."""
        now = time.time()
        result = KeptResult(id=job_id, status=JobStatus.FAILED, error=JobError.of(error), created_at=now)
        record = JobRecord(
            owner=owner,
            id=job_id,
            api=API_NAME,
            dialect=dialect,
            status=JobStatus.FAILED,
            created_at=now,
            completed_at=now,
            result=result,
        )
        self.forget(owner, job_id)
        self._jobs[owner, job_id] = record
        while len(self._jobs) > self._most_jobs:
            self._jobs.popitem(last=False)
        return record

    def find(self, owner: str, job_id: str) -> JobRecord | None:
        """Return an owner's job; None if it was not refused, or long ago."""
        return self._jobs.get((owner, job_id))

    def forget(self, owner: str, job_id: str) -> None:
        """Forget a job: its id is another one's now."""
        self._jobs.pop((owner, job_id), None)

    def check_retry(self, owner: str, job_id: str) -> None:
        """Look whether a job may be retried.

        Raises:
            InvalidRequest: its request is wrong, so it would fail again.
        """
        if (owner, job_id) in self._jobs:
            message = f"job {job_id} would fail again: its request is wrong"
            raise InvalidRequest(
                message,
                hint="See its status for what is wrong, and send it anew.",
                problems=[Problem(message=message, code="not_retryable")],
            )
