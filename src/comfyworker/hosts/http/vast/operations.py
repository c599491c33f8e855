"""What the OpenAPI document has of Vast's routes."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from comfyworker.hosts.http.documents import schema_of
from comfyworker.hosts.http.vast.documents import GenerateRequest, QueueInfo, ResultAnswer, WrappedRequest

_Told = dict[str, Any]  # Any: what FastAPI takes
_Answers = dict[int, _Told]

_BODIES: Final = [schema_of(GenerateRequest), schema_of(WrappedRequest)]
_BODY: Final[_Told] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": {"anyOf": _BODIES}}}}
}
_REFUSALS: Final[_Answers] = {status: {"model": ResultAnswer} for status in (401, 413, 422, 500, 503)}
_ENDED: Final[_Answers] = {status: {"model": ResultAnswer} for status in (200, 499, 502)}
_EVENTS: Final[_Told] = {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
_ACCEPTED: Final = int(HTTPStatus.ACCEPTED)
OPERATIONS: Final[dict[str, _Told]] = {
    "vast_generate": {
        "summary": "Submit a job",
        "responses": {_ACCEPTED: {"model": ResultAnswer}, **_REFUSALS},
        "status_code": _ACCEPTED,
        "openapi_extra": _BODY,
    },
    "vast_generate_sync": {
        "summary": "Submit a job and wait for it",
        "responses": {**_ENDED, **_REFUSALS},
        "openapi_extra": _BODY,
    },
    "vast_generate_stream": {
        "summary": "Submit a job and watch it",
        "responses": {200: _EVENTS, **_REFUSALS},
        "openapi_extra": _BODY,
    },
    "vast_result": {
        "summary": "A job's result",
        "responses": {**_ENDED, **_REFUSALS, 404: {"model": ResultAnswer}},
    },
    "vast_queue_info": {
        "summary": "How much there is to do",
        "responses": {200: {"model": QueueInfo}, 401: {"model": ResultAnswer}},
    },
}
"""By operation id."""
