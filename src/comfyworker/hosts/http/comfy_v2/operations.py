"""What the OpenAPI document has of Comfy API v2's routes."""

from __future__ import annotations

from typing import Any, Final

from comfyworker.hosts.http.comfy_v2.documents import (
    AssetDocument,
    AssetUpload,
    ErrorEnvelope,
    FromHash,
    JobDocument,
    JobList,
    JobSubmission,
    JobWorkflow,
)
from comfyworker.hosts.http.comfy_v2.submission import KEY_HEADER
from comfyworker.hosts.http.documents import request_body, schema_of

_Told = dict[str, Any]  # Any: what FastAPI takes


def _says(summary: str, answers: dict[int, _Told], *refusals: int, **beside: object) -> _Told:
    """Return a route's summary, what it answers, and which refusals its clients should expect."""
    refused: dict[int, _Told] = {status: {"model": ErrorEnvelope} for status in (401, *refusals)}
    return {"summary": summary, "responses": {**answers, **refused}, "status_code": min(answers), **beside}


_JOB: Final = {200: {"model": JobDocument}}
_ASSET: Final[dict[int, _Told]] = {
    201: {"model": AssetDocument},
    200: {"model": AssetDocument, "description": "The bytes were here."},
}
_KEY: Final = {
    "name": KEY_HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
_LAST_EVENT: Final = {"name": "Last-Event-ID", "in": "header", "required": False, "schema": {"type": "string"}}
_FILTER: Final = {
    "name": "metadata",
    "in": "query",
    "required": False,
    "style": "deepObject",
    "schema": {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "propertyNames": {"minLength": 1},
        "maxProperties": 16,
    },
}
_NO_BODY: Final = {
    200: {},
    400: {"description": "No hash"},
    401: {"description": "No key"},
    404: {"description": "They are not."},
}
_FORM: Final = {"multipart/form-data": {"schema": schema_of(AssetUpload)}}
_EVENTS: Final[dict[int, _Told]] = {200: {"content": {"text/event-stream": {"schema": {}}}}}
_BYTES: Final[dict[int, _Told]] = {200: {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}}
OPERATIONS: Final[dict[str, _Told]] = {
    "comfy_v2_health": {"summary": "Whether the server lives"},
    "comfy_v2_create_job": _says(
        "Submit a job",
        {201: {"model": JobDocument}},
        *(400, 413, 422, 429, 507),
        openapi_extra={**request_body(JobSubmission), "parameters": [_KEY]},
    ),
    "comfy_v2_show_jobs": _says("List jobs", {200: {"model": JobList}}, 400, openapi_extra={"parameters": [_FILTER]}),
    "comfy_v2_show_job": _says("A job", _JOB, 404),
    "comfy_v2_show_workflow": _says("A job's workflow", {200: {"model": JobWorkflow}}, 404),
    "comfy_v2_stream_events": _says("A job's events", _EVENTS, 404, openapi_extra={"parameters": [_LAST_EVENT]}),
    "comfy_v2_cancel_job": _says("Cancel a job", _JOB, 404),
    "comfy_v2_create_asset": _says(
        "Upload a file",
        _ASSET,
        *(400, 409, 413, 507),
        openapi_extra={"requestBody": {"required": True, "content": _FORM}},
    ),
    "comfy_v2_create_asset_from_hash": _says(
        "Make an asset of known bytes", _ASSET, 400, 404, 413, 507, openapi_extra=request_body(FromHash)
    ),
    "comfy_v2_probe_hash": {"summary": "Whether bytes are here", "responses": _NO_BODY},
    "comfy_v2_show_asset": _says("An asset", {200: {"model": AssetDocument}}, 404),
    "comfy_v2_read_asset": _says("An asset's bytes", _BYTES, 404),
    "comfy_v2_delete_asset": _says("Delete an asset", {204: {}}, 404),
}
"""By operation id."""
