"""How jobs end that do not run to an end of their own, those included that a server left behind."""

from __future__ import annotations

from comfyworker.errors import JobCanceled, JobTimeout, WorkerError, WorkerRestarted
from comfyworker.jobs import JobError, JobResult, JobStatus
from comfyworker.service.job_table import JobRow

MOST_ATTEMPTS = 2
"""How often a job begins at most: what ended the server twice may be the job itself."""


def outcome_after_restart(row: JobRow, now: float) -> JobResult | None:
    """Return how a job that was not over ends now; None if it is to run."""
    record = row.record
    if record.status is JobStatus.CANCELING:
        return canceled(record.id)
    if record.status is JobStatus.RUNNING and record.attempts >= MOST_ATTEMPTS:
        return JobResult.refused(
            record.id,
            WorkerRestarted(
                f"the worker ended while it ran the job, {record.attempts} times",
                hint="The job itself may be the cause; the worker's log and the system's tell more.",
                retryable=False,
            ),
        )
    if row.queue_until <= now and record.status is JobStatus.QUEUED:
        return expired_in_line(record.id, now - record.created_at)
    if row.has_secrets:
        return JobResult.refused(
            record.id,
            WorkerRestarted(
                "the worker was started again, and does not keep the keys that came with the job",
                hint="Send the request again.",
            ),
        )
    return None


def canceled(job_id: str) -> JobResult:
    """Return the result of a job whose cancellation somebody asked for."""
    error = JobCanceled("the job was canceled", hint="Somebody asked for it. Send the request again to run it.")
    return JobResult(id=job_id, status=JobStatus.CANCELED, error=JobError.of(error))


def expired_in_line(job_id: str, waited_s: float) -> JobResult:
    """Return the result of a job that did not begin within the time that it may wait."""
    error: WorkerError = JobTimeout(
        f"the job waited {waited_s:.0f} s and did not begin in the time that it may wait",
        hint="Let it wait longer (`ttl`, QUEUE_TTL_S for all), or have more workers.",
        retryable=True,
    )
    return JobResult(id=job_id, status=JobStatus.EXPIRED, error=JobError.of(error))
