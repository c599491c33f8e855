"""What the OpenAPI document has of RunPod's routes."""

from __future__ import annotations

from typing import Any, Final

from comfyworker.hosts.http.documents import request_body
from comfyworker.hosts.http.runpod.documents import ErrorAnswer, PurgeAnswer, RunRequest, StatusAnswer, StreamAnswer

_Told = dict[str, Any]  # Any: what FastAPI takes


def _answers(summary: str, model: type, *statuses: int) -> _Told:
    """Return what a route does and answers, and which refusals its clients should expect."""
    refusals: dict[int, _Told] = {status: {"model": ErrorAnswer} for status in (*statuses, 401)}
    return {"summary": summary, "responses": {200: {"model": model}, **refusals}}


_BODY: Final = {"openapi_extra": request_body(RunRequest)}
_TAKEN: Final = (400, 413, 422, 429, 507)
_STATUS: Final = _answers("A job's status", StatusAnswer, 404)
_STREAM: Final = _answers("A job's new files", StreamAnswer, 404)
OPERATIONS: Final = {
    "runpod_run": {**_answers("Submit a job", StatusAnswer, *_TAKEN), **_BODY},
    "runpod_run_and_wait": {**_answers("Submit a job and wait for it", StatusAnswer, *_TAKEN), **_BODY},
    "runpod_status": _STATUS,
    "runpod_status_by_post": _STATUS,
    "runpod_stream": _STREAM,
    "runpod_stream_by_post": _STREAM,
    "runpod_cancel": _answers("Cancel a job", StatusAnswer, 404),
    "runpod_retry": _answers("Run a failed job again", StatusAnswer, 400, 404, 429),
    "runpod_purge_queue": _answers("Empty the queue", PurgeAnswer),
}
"""By operation id."""
