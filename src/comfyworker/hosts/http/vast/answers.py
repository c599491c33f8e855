"""What Vast's clients are told: `{id, message, status, comfyui_response, output, timings}`, and an HTTP code."""

from __future__ import annotations

import math

from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import Response

from comfyworker.dialects import dialect_named
from comfyworker.dialects.pyworker import STATUS_WORDS
from comfyworker.errors import Unauthorized, WorkerError
from comfyworker.hosts.http.expired import check_not_gone
from comfyworker.hosts.http.rendering import json_answer, shown_result
from comfyworker.hosts.http.vast.codes import NOT_NOW, RETRY_AFTER_S, Code, code_of_error, code_of_record
from comfyworker.jobs import JobError, JobResult, JobStatus
from comfyworker.service import JobRecord

API_NAME = "vast"
DIALECT = "pyworker"
_SPOKEN = dialect_named(DIALECT)
_CANCEL_WORDS = {
    JobStatus.CANCELING: "Cancellation is under way.",
    JobStatus.CANCELED: "The job is cancelled.",
}


async def result_answer(request: Request, record: JobRecord) -> Response:
    """Return how a job stands, and what came of it if it has ended; the HTTP code tells the same.

    Raises:
        NotFound: its result has expired.
    """
    if not record.is_terminal:
        return json_answer(pending(record))
    answer, code = await rendered(request, record)
    return json_answer(answer, code.status, _headers(code))


async def rendered(request: Request, record: JobRecord) -> tuple[dict[str, JsonValue], Code]:
    """Return the answer for a job that has ended, and its code.

    Raises:
        NotFound: its result has expired.
    """
    check_not_gone(record)
    result = await shown_result(request, record)
    try:
        return _SPOKEN.render(result), code_of_record(record, result.error)
    except WorkerError as error:
        failed = result.model_copy(update={"status": JobStatus.FAILED, "error": JobError.of(error)})
        return _SPOKEN.render(failed), code_of_record(record, failed.error)


def not_finished(record: JobRecord) -> Response:
    """Return how a job stands to a client who had wanted to wait for its end."""
    return json_answer(pending(record), NOT_NOW, _headers(Code(NOT_NOW, RETRY_AFTER_S)))


def pending(record: JobRecord) -> dict[str, JsonValue]:
    """Return how a job stands that has not ended."""
    return {
        "id": record.id,
        "message": message_of(record),
        "status": STATUS_WORDS[record.status],
        "comfyui_response": {},
        "output": [],
        "timings": {
            "queued_at_ms": round(record.created_at * 1000),
            "preprocess_ms": None,
            "generation_ms": None,
            "postprocess_ms": None,
            "completed_at_ms": None,
            "total_ms": None,
        },
    }


def message_of(record: JobRecord) -> str:
    """Return in words how a job stands that has not ended."""
    if record.status is JobStatus.QUEUED:
        before = record.queue_position or 0
        return "Queued, next to begin." if before == 0 else f"Queued, {before} before it."
    if record.status is JobStatus.CANCELING:
        return _CANCEL_WORDS[JobStatus.CANCELING]
    return (record.progress and record.progress.message) or "Running."


def cancel_answer(record: JobRecord) -> dict[str, JsonValue]:
    """Return what became of the wish to cancel a job."""
    word = STATUS_WORDS[record.status]
    message = _CANCEL_WORDS.get(record.status, f"The job was {word} already.")
    return {"id": record.id, "message": message, "status": word}


def render_error(error: WorkerError) -> Response:
    """Return the answer for a request that is refused."""
    return refusal("", error)


def refusal(job_id: str, error: WorkerError) -> Response:
    """Return the answer for a request that is refused, with the id that it brought or was given."""
    code = code_of_error(error)
    headers = _headers(code)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    return json_answer(_SPOKEN.render(JobResult.refused(job_id, error)), code.status, headers)


def _headers(code: Code) -> dict[str, str]:
    return {} if code.retry_after_s is None else {"Retry-After": str(math.ceil(code.retry_after_s))}
