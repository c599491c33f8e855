"""Comfy API v2's routes.

Wire source: `comfy-sdk` 0.5.0, whose `comfy_low` has one function for each operation of the contract.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query
from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import Response

from comfyworker._version import __version__
from comfyworker.hosts.http.comfy_v2 import assets
from comfyworker.hosts.http.comfy_v2.answers import PREFIX, job_document, list_item, render_error, sse_events
from comfyworker.hosts.http.comfy_v2.documents import (
    HASH,
    AssetDocument,
    AssetUpload,
    ErrorEnvelope,
    FromHash,
    JobDocument,
    JobList,
    JobSubmission,
    JobWorkflow,
)
from comfyworker.hosts.http.comfy_v2.listing import list_jobs, read_filter
from comfyworker.hosts.http.comfy_v2.submission import API_NAME, KEY_HEADER, submit, workflow_of
from comfyworker.hosts.http.context import context_of, owner_of
from comfyworker.hosts.http.documents import request_body, schema_of
from comfyworker.hosts.http.limits import read_body
from comfyworker.hosts.http.protocol import HttpApi
from comfyworker.hosts.http.rendering import json_answer
from comfyworker.hosts.http.sse import last_event_id, sse_answer
from comfyworker.hosts.local import parse_json
from comfyworker.jobs import JobStatus

Owner = Annotated[str, Depends(owner_of)]
Limit = Annotated[int, Query(ge=1, description="Jobs on a page, at most 100.")]
Cursor = Annotated[
    str | None,
    Query(description="`next_cursor` of the page before.", json_schema_extra={"pattern": "^[0-9a-f]{0,16}$"}),
]
Statuses = Annotated[list[JobStatus] | None, Query(alias="status", description="Only jobs of these.")]
Digest = Annotated[str, Path(pattern=HASH)]

_PAGE = 50
_Routes = tuple[tuple[str, str, Any, dict[str, Any]], ...]  # Any: handlers, and what FastAPI takes beside


async def health() -> Response:
    """Needs no API key. Says nothing about ComfyUI: that is `/ready`."""
    return json_answer({"status": "healthy", "version": __version__})


async def create_job(request: Request, owner: Owner) -> Response:
    """Take a job. A workflow that ComfyUI would refuse is refused at once, with everything that is wrong with it.

    An `Idempotency-Key` is taken once: a second request with it is refused, and told which job the first one made.
    An input may hold an asset: `{"__type": "core/ASSET", "info": {"id": …}}`.
    """
    body = parse_json(await read_body(request), name="the request's body", hint='Send {"workflow": {…}}.')
    record = await submit(request, owner, body)
    document = job_document(request, record)
    return json_answer(document, 200 if record.is_repeat else 201, {"Location": f"{PREFIX}/jobs/{record.id}"})


async def show_jobs(
    request: Request, owner: Owner, limit: Limit = _PAGE, cursor: Cursor = None, statuses: Statuses = None
) -> Response:
    """List jobs, newest first. `metadata[label]=text` leaves only those that have this label."""
    page = await list_jobs(
        context_of(request).service,
        owner,
        labels=read_filter(request.query_params),
        statuses=statuses or (),
        limit=limit,
        cursor=cursor or None,
    )
    jobs: list[JsonValue] = [list_item(request, record) for record in page.jobs]
    return json_answer({"jobs": jobs, **({"next_cursor": page.next_cursor} if page.next_cursor else {})})


async def show_job(request: Request, owner: Owner, job_id: str) -> Response:
    """Tell how a job stands, and what came of it; outputs are there as soon as they are delivered."""
    return json_answer(job_document(request, await context_of(request).service.get(owner, job_id)))


async def show_workflow(request: Request, owner: Owner, job_id: str) -> Response:
    """Return the workflow that a job was submitted with, as it was."""
    return json_answer(await workflow_of(request, owner, job_id))


async def stream_events(request: Request, owner: Owner, job_id: str) -> Response:
    """Send a job's events as they happen, from its first on, up to its end: status, progress, preview, output, log.

    `Last-Event-ID` goes on behind that event. Progress and previews are complete in themselves: a slow reader gets the
    latest.
    """
    record = await context_of(request).service.get(owner, job_id)
    return sse_answer(sse_events(request, record, after=last_event_id(request)))


async def cancel_job(request: Request, owner: Owner, job_id: str) -> Response:
    """Stop a job that waits or runs; one that has ended stays as it is."""
    return json_answer(job_document(request, await context_of(request).service.cancel(owner, job_id)))


async def create_asset(request: Request, owner: Owner) -> Response:
    """Upload a file. With `expected_hash` its bytes are compared."""
    return await assets.upload(request, owner)


async def create_asset_from_hash(request: Request, owner: Owner) -> Response:
    """Make an asset of bytes that were uploaded, or put out by a job, before."""
    return await assets.from_hash(request, owner)


async def probe_hash(request: Request, owner: Owner, digest: Digest) -> Response:
    """Tell whether bytes with this hash are here: 200, or 404."""
    is_here = await context_of(request).service.assets.has(digest, owner=owner)
    return Response(status_code=200 if is_here else 404)


async def show_asset(request: Request, owner: Owner, asset_id: str) -> Response:
    """Tell of an asset, with a fresh URL."""
    return await assets.show(request, owner, asset_id)


async def read_asset(request: Request, owner: Owner, asset_id: str) -> Response:
    """Send an asset's bytes. Ranges are understood."""
    return await assets.content(request, owner, asset_id)


async def delete_asset(request: Request, owner: Owner, asset_id: str) -> Response:
    """Forget an asset; its bytes go, unless something else has the same."""
    await context_of(request).service.assets.delete(asset_id, owner=owner)
    return Response(status_code=204)


def router() -> APIRouter:
    """Return the routes."""
    made = APIRouter(prefix=PREFIX, tags=["Comfy API v2"])
    for method, path, handler, beside in _ROUTES:
        name = f"{API_NAME}_{handler.__name__}"
        made.add_api_route(path, handler, methods=[method], operation_id=name, response_model=None, **beside)
    return made


def _says(summary: str, answers: dict[int, dict[str, Any]], *refusals: int, **beside: object) -> dict[str, Any]:
    """Return a route's summary, what it answers, and which refusals its clients should expect."""
    refused: dict[int, dict[str, Any]] = {status: {"model": ErrorEnvelope} for status in (401, *refusals)}
    return {"summary": summary, "responses": {**answers, **refused}, "status_code": min(answers), **beside}


_JOB: Final = {200: {"model": JobDocument}}
_ASSET: Final[dict[int, dict[str, Any]]] = {
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
_EVENTS: Final[dict[int, dict[str, Any]]] = {200: {"content": {"text/event-stream": {"schema": {}}}}}
_BYTES: Final[dict[int, dict[str, Any]]] = {
    200: {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}
}
_ROUTES: Final[_Routes] = (
    ("GET", "/health", health, {"summary": "Whether the server lives"}),
    (
        "POST",
        "/jobs",
        create_job,
        _says(
            "Submit a job",
            {201: {"model": JobDocument}},
            *(400, 413, 422, 429, 507),
            openapi_extra={**request_body(JobSubmission), "parameters": [_KEY]},
        ),
    ),
    (
        "GET",
        "/jobs",
        show_jobs,
        _says("List jobs", {200: {"model": JobList}}, 400, openapi_extra={"parameters": [_FILTER]}),
    ),
    ("GET", "/jobs/{job_id}", show_job, _says("A job", _JOB, 404)),
    ("GET", "/jobs/{job_id}/workflow", show_workflow, _says("A job's workflow", {200: {"model": JobWorkflow}}, 404)),
    (
        "GET",
        "/jobs/{job_id}/events",
        stream_events,
        _says("A job's events", _EVENTS, 404, openapi_extra={"parameters": [_LAST_EVENT]}),
    ),
    ("POST", "/jobs/{job_id}/cancel", cancel_job, _says("Cancel a job", _JOB, 404)),
    (
        "POST",
        "/assets",
        create_asset,
        _says(
            "Upload a file",
            _ASSET,
            *(400, 409, 413, 507),
            openapi_extra={"requestBody": {"required": True, "content": _FORM}},
        ),
    ),
    (
        "POST",
        "/assets/from-hash",
        create_asset_from_hash,
        _says("Make an asset of known bytes", _ASSET, 400, 404, 413, 507, openapi_extra=request_body(FromHash)),
    ),
    ("HEAD", "/assets/by-hash/{digest}", probe_hash, {"summary": "Whether bytes are here", "responses": _NO_BODY}),
    ("GET", "/assets/{asset_id}", show_asset, _says("An asset", {200: {"model": AssetDocument}}, 404)),
    ("GET", "/assets/{asset_id}/content", read_asset, _says("An asset's bytes", _BYTES, 404)),
    ("DELETE", "/assets/{asset_id}", delete_asset, _says("Delete an asset", {204: {}}, 404)),
)

API: Final = HttpApi(name=API_NAME, prefixes=(PREFIX,), router=router, render_error=render_error)
"""Comfy API v2's clients."""
