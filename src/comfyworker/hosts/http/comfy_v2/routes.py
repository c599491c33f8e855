"""Comfy API v2's routes.

Wire source: `comfy-sdk` 0.5.0, whose `comfy_low` has one function for each operation of the contract.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field, JsonValue
from starlette.requests import Request
from starlette.responses import Response

from comfyworker._version import __version__
from comfyworker.hosts.http.comfy_v2 import assets
from comfyworker.hosts.http.comfy_v2.answers import PREFIX, job_document, job_path, list_item, render_error, sse_events
from comfyworker.hosts.http.comfy_v2.listing import list_jobs, read_filter
from comfyworker.hosts.http.comfy_v2.multipart import HASH
from comfyworker.hosts.http.comfy_v2.submission import API_NAME, submit, workflow_of
from comfyworker.hosts.http.context import context_of
from comfyworker.hosts.http.limits import read_body
from comfyworker.hosts.http.protocol import HttpApi
from comfyworker.hosts.http.rendering import json_answer
from comfyworker.hosts.http.routing import Owner, Router
from comfyworker.hosts.http.sse import last_event_id, sse_answer
from comfyworker.hosts.local import parse_json
from comfyworker.jobs import JobStatus

Limit = Annotated[int, Field(ge=1, description="Jobs on a page, at most 100.")]
Cursor = Annotated[
    str | None,
    Field(description="`next_cursor` of the page before.", json_schema_extra={"pattern": "^[0-9a-f]{0,16}$"}),
]
Statuses = Annotated[list[JobStatus] | None, Field(alias="status", description="Only jobs of these.")]
Digest = Annotated[str, Field(pattern=HASH)]

_PAGE = 50


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
    return json_answer(document, 200 if record.is_repeat else 201, {"Location": job_path(request, record)})


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


_ROUTES: Final = (
    ("GET", "/health", health),
    ("POST", "/jobs", create_job),
    ("GET", "/jobs", show_jobs),
    ("GET", "/jobs/{job_id}", show_job),
    ("GET", "/jobs/{job_id}/workflow", show_workflow),
    ("GET", "/jobs/{job_id}/events", stream_events),
    ("POST", "/jobs/{job_id}/cancel", cancel_job),
    ("POST", "/assets", create_asset),
    ("POST", "/assets/from-hash", create_asset_from_hash),
    ("HEAD", "/assets/by-hash/{digest}", probe_hash),
    ("GET", "/assets/{asset_id}", show_asset),
    ("GET", "/assets/{asset_id}/content", read_asset),
    ("DELETE", "/assets/{asset_id}", delete_asset),
)


def router() -> Router:
    """Return the routes."""
    made = Router(tag="Comfy API v2", prefix=PREFIX, operations=_operations)
    for method, path, handler in _ROUTES:
        made.add(path, handler, methods=(method,), operation_id=f"{API_NAME}_{handler.__name__}")
    return made


def _operations() -> Mapping[str, Mapping[str, Any]]:  # Any: what FastAPI takes
    from comfyworker.hosts.http.comfy_v2.operations import OPERATIONS  # noqa: PLC0415  # for the document only

    return OPERATIONS


API: Final = HttpApi(name=API_NAME, prefixes=(PREFIX,), router=router, render_error=render_error)
"""Comfy API v2's clients."""
