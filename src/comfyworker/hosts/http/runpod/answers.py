"""What RunPod's clients are told of a job: `{id, status, delayTime, executionTime, workerId, output | error}`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import Response

from comfyworker.dialects import DIALECT_NAMES, dialect_named
from comfyworker.errors import JobTimeout, QueueFull, Unauthorized, WorkerError
from comfyworker.hosts.http.context import context_of
from comfyworker.hosts.http.expired import check_not_gone
from comfyworker.hosts.http.rendering import json_answer, render_record
from comfyworker.jobs import JobResult, JobStatus
from comfyworker.service import JobRecord, KeptArtifact, KeptResult

_WORDS = {
    JobStatus.QUEUED: "IN_QUEUE",
    JobStatus.RUNNING: "IN_PROGRESS",
    JobStatus.SUCCEEDED: "COMPLETED",
    JobStatus.CANCELING: "IN_PROGRESS",
    JobStatus.CANCELED: "CANCELLED",
    JobStatus.FAILED: "FAILED",
    JobStatus.EXPIRED: "TIMED_OUT",
}
_COMPLETED = _WORDS[JobStatus.SUCCEEDED]
_FAILED = _WORDS[JobStatus.FAILED]
_TIMED_OUT = _WORDS[JobStatus.EXPIRED]
_ERROR_CODE = "error_code"  # Answers of all dialects have it where a job came to nothing.
_ERRORS_SPOKEN = dialect_named(DIALECT_NAMES[0])
_QUEUE_FULL_STATUS = 429  # RunPod's own


def status_word(record: JobRecord) -> str:
    """Return RunPod's word for how a job stands."""
    return _TIMED_OUT if _ran_out_of_time(record) else _WORDS[record.status]


def short_answer(record: JobRecord) -> dict[str, JsonValue]:
    """Return how a job stands, without what came of it."""
    return {"id": record.id, "status": status_word(record)}


def queued_answer(record: JobRecord) -> dict[str, JsonValue]:
    """Return what a client hears whose job was just taken: it is in the queue, if only for a moment."""
    return {"id": record.id, "status": _WORDS[JobStatus.QUEUED]}


def cancel_answer(record: JobRecord) -> dict[str, JsonValue]:
    """Return what became of the wish to cancel a job: for RunPod it is cancelled before ComfyUI has let go of it."""
    answer = short_answer(record)
    return {**answer, "status": _WORDS[JobStatus.CANCELED]} if record.status is JobStatus.CANCELING else answer


async def status_answer(request: Request, record: JobRecord) -> dict[str, JsonValue]:
    """Return how a job stands, and what came of it if it has ended.

    Raises:
        NotFound: its result has expired.
    """
    check_not_gone(record)
    worker_id = context_of(request).worker_id
    if record.is_terminal:
        return ended_answer(record, await render_record(request, record), worker_id=worker_id)
    answer = _begun_answer(record, worker_id)
    if record.progress is not None:
        # RunPod shows there what a handler reports with progress_update.
        answer["output"] = {"progress": record.progress.model_dump(mode="json")}
    return answer


def ended_answer(record: JobRecord, rendered: dict[str, JsonValue], *, worker_id: str) -> dict[str, JsonValue]:
    """Return what came of a job that has ended.

    Args:
        record: The job.
        rendered: What came of it, in its dialect.
        worker_id: Who ran it.
    """
    answer = _begun_answer(record, worker_id)
    return answer if record.status is JobStatus.CANCELED else {**answer, **_outcome(status_word(record), rendered)}


async def stream_answer(request: Request, record: JobRecord, artifacts: Sequence[KeptArtifact]) -> dict[str, JsonValue]:
    """Return some files of a job, each as the answer of a job that had no other.

    Raises:
        NotFound: its result has expired.
    """
    check_not_gone(record)
    chunks: list[JsonValue] = []
    for artifact in artifacts:
        alone = KeptResult(id=record.id, status=JobStatus.SUCCEEDED, artifacts=(artifact,))
        chunks.append({"output": await render_record(request, record.model_copy(update={"result": alone}))})
    answer: dict[str, JsonValue] = {**short_answer(record), "stream": chunks}
    if not chunks and record.result is not None and record.result.error is not None:
        answer["error"] = _outcome(_FAILED, await render_record(request, record))["error"]
    return answer


def render_error(error: WorkerError) -> Response:
    """Return the answer for a request that is refused."""
    status, headers = error.http_status, {}
    if isinstance(error, QueueFull):
        status = _QUEUE_FULL_STATUS
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    retry_after_s = error.details.get("retry_after_s")
    if isinstance(retry_after_s, int | float):
        headers["Retry-After"] = str(math.ceil(retry_after_s))
    return json_answer(_ERRORS_SPOKEN.render(JobResult.refused("", error)), status, headers)


def _ran_out_of_time(record: JobRecord) -> bool:
    error = record.result.error if record.result else None
    return error is not None and error.code == JobTimeout.code


def _begun_answer(record: JobRecord, worker_id: str) -> dict[str, JsonValue]:
    answer = {**short_answer(record), **_times(record)}
    return answer if record.started_at is None else {**answer, "workerId": worker_id}


def _times(record: JobRecord) -> dict[str, JsonValue]:
    spent = {"delayTime": record.queue_s, "executionTime": record.execution_s}
    return {name: round(seconds * 1000) for name, seconds in spent.items() if seconds is not None}


def _outcome(word: str, rendered: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return a dialect's answer as RunPod passes it on: its `error` stands beside `output`, and makes the job fail.

    Wire source: RunPod's SDK, `run_job`.
    """
    output = dict(rendered)
    error = output.pop("error", None)
    if word == _COMPLETED and _ERROR_CODE not in output:
        return {"output": output}
    # Where the files could not be put into the answer, the job has succeeded and the answer has not.
    failed: dict[str, JsonValue] = {"status": _FAILED if word == _COMPLETED else word}
    failed["error"] = output.get("message") if error is None else error
    return {**failed, "output": output} if output else failed
