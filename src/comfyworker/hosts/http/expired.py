"""Results that are gone: a job is remembered for longer than what came of it."""

from __future__ import annotations

import time

from comfyworker.errors import NotFound
from comfyworker.jobs import JobStatus
from comfyworker.service import JobRecord


def check_not_gone(record: JobRecord) -> None:
    """Look whether what came of a job is still there; a job that waited too long to begin has an answer, too.

    Raises:
        NotFound: it has expired.
    """
    if record.status is JobStatus.EXPIRED and record.expires_at is not None and record.expires_at <= time.time():
        raise NotFound(
            f"the result of job {record.id} has expired",
            hint="Fetch results sooner; the server's owner can raise RESULT_TTL_S.",
        )
