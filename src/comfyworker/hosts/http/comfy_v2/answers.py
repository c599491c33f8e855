"""What Comfy API v2's clients are told of jobs and assets."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple

import pybase64
from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import Response

from comfyworker.dialects import comfy_api_v2 as dialect
from comfyworker.errors import NotFound, Unauthorized, WorkerError
from comfyworker.hosts.http.context import base_url_of, context_of, path_of, url_for_asset
from comfyworker.hosts.http.rendering import json_answer
from comfyworker.hosts.http.sse import SseEvent
from comfyworker.jobs import Progress
from comfyworker.service import AssetRecord, Event, JobRecord, KeptArtifact, LogLine, Preview, StatusChange

PREFIX = "/api/v2"
LABELS = "labels"
"""Where a job's labels stand in its record's `meta`."""


class TextId(NamedTuple):
    """The id of a text that a node reported: it is no file, so the job's record is where it is found."""

    job_id: str
    place: int
    """Its place among the job's artifacts."""

    def __str__(self) -> str:
        return f"{self.job_id}.text-{self.place}"

    @classmethod
    def read(cls, asset_id: str) -> TextId | None:
        """Return what an id says; None if it is not one of a text."""
        job_id, found, index = asset_id.rpartition(".text-")
        is_one = found and index.isascii() and index.isdigit() and len(index) < 6
        return cls(job_id, int(index)) if is_one else None


def job_document(request: Request, record: JobRecord) -> dict[str, JsonValue]:
    """Return a job as it stands."""
    result, spent = record.result, (record.queue_s, record.execution_s)
    queue_ms, execution_ms = (None if seconds is None else round(seconds * 1000) for seconds in spent)
    outputs = record.outputs if result is None else result.artifacts
    error = None if result is None or result.error is None else dialect.render_job_error(result.error)
    return {
        **_times(request, record),
        "queue_position": record.queue_position,
        "progress": dialect.render_progress(record.progress),
        "outputs": [
            _output(request, record, artifact, index)
            for index, artifact in enumerate(outputs)
            if artifact.failure is None
        ],
        "error": error,
        "metrics": {"queue_ms": queue_ms, "execution_ms": execution_ms},
        **({} if result is None else dialect.render_notes(result)),
    }


def list_item(request: Request, record: JobRecord) -> dict[str, JsonValue]:
    """Return a job as lists have it: what came of it is asked for by its id."""
    changed_at = record.completed_at or record.started_at or record.created_at
    return {
        **_times(request, record),
        "create_time": dialect.as_time(record.created_at),
        "update_time": dialect.as_time(changed_at),
    }


def asset_document(request: Request, asset: AssetRecord, *, tells_new: bool = False) -> dict[str, JsonValue]:
    """Return an asset; `tells_new` says whether its bytes were new, which is known only when it is made."""
    signed = url_for_asset(request, asset.id, asset.name, until=asset.expires_at)
    document: dict[str, JsonValue] = {
        "id": asset.id,
        "hash": asset.hash,
        "size_bytes": asset.size_bytes,
        "content_type": asset.content_type,
        "file_path": asset.name,
        "created_at": dialect.as_time(asset.created_at),
        "url": signed.url,
        "url_expires_at": dialect.as_time(signed.expires_at),
        "expires_at": dialect.as_time(asset.expires_at),
        "job_id": asset.job_id,
    }
    return {**document, "created_new": asset.created_new} if tells_new else document


def text_document(request: Request, record: JobRecord, artifact: KeptArtifact, text_id: TextId) -> dict[str, JsonValue]:
    """Return a text that a node reported as an asset."""
    output = _output(request, record, artifact, text_id.place)
    document = {key: output[key] for key in ("id", "hash", "size_bytes", "content_type", "url", "url_expires_at")}
    return {
        **document,
        "file_path": artifact.name,
        "created_at": dialect.as_time(record.completed_at),
        "expires_at": dialect.as_time(record.expires_at),
        "job_id": record.id,
    }


def job_path(request: Request, record: JobRecord) -> str:
    """Return where a job is on the host that its client asks."""
    return path_of(request, f"{PREFIX}/jobs/{record.id}")


async def find_text(request: Request, owner: str, text_id: TextId) -> tuple[JobRecord, KeptArtifact]:
    """Return a text that a node reported, and its job.

    Raises:
        NotFound: there is none.
    """
    record = await context_of(request).service.get(owner, text_id.job_id)
    artifacts = record.result.artifacts if record.result is not None else ()
    if text_id.place >= len(artifacts) or artifacts[text_id.place].text is None:
        raise NotFound(f"there is no asset {text_id}", hint="It was never there, or has expired.")
    return record, artifacts[text_id.place]


async def sse_events(request: Request, record: JobRecord, *, after: int) -> AsyncGenerator[SseEvent, None]:
    """Give a job's events as the stream has them."""
    async with aclosing(context_of(request).service.events(record.owner, record.id, after=after)) as news:
        async for event in news:
            yield SseEvent(event.kind.value, _event_data(request, record, event), event.id)


def render_error(error: WorkerError) -> Response:
    """Return the answer for a request that is refused."""
    status, envelope = dialect.render_error(error)
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthorized) else {}
    retry_after_s = error.details.get("retry_after_s")
    if isinstance(retry_after_s, int | float):
        headers["Retry-After"] = str(math.ceil(retry_after_s))
    return json_answer(envelope, status, headers)


def _times(request: Request, record: JobRecord) -> dict[str, JsonValue]:
    # While it is not over nobody knows when it expires; this is the earliest that it can.
    result_ttl_s = context_of(request).settings.queue.result_ttl_s
    expires_at = record.expires_at or record.created_at + result_ttl_s
    own = job_path(request, record)
    return {
        "id": record.id,
        "status": record.status.value,
        "created_at": dialect.as_time(record.created_at),
        "started_at": dialect.as_time(record.started_at),
        "completed_at": dialect.as_time(record.completed_at),
        "expires_at": dialect.as_time(expires_at),
        "metadata": record.meta.get(LABELS) or {},
        "urls": {"self": own, "events": f"{own}/events", "cancel": f"{own}/cancel"},
    }


def _output(request: Request, record: JobRecord, artifact: KeptArtifact, index: int) -> dict[str, JsonValue]:
    return dialect.render_output(artifact, _find(request, record, artifact, index), job_id=record.id)


def _find(request: Request, record: JobRecord, artifact: KeptArtifact, index: int) -> dialect.Whereabouts:
    if artifact.text is not None:
        text_id = str(TextId(record.id, index))
        url = f"{base_url_of(request)}{PREFIX}/assets/{text_id}/content"
        return dialect.Whereabouts(text_id, url, record.expires_at)
    if artifact.url is not None:  # in object storage, whose URLs have a life of their own
        settings = context_of(request).settings.store
        begun_at = record.completed_at or record.created_at
        return dialect.Whereabouts(artifact.asset_id, artifact.url, begun_at + settings.url_expires_s)
    signed = url_for_asset(request, artifact.asset_id, artifact.name, until=record.expires_at)
    return dialect.Whereabouts(artifact.asset_id, signed.url, signed.expires_at, artifact.hash)


def _event_data(request: Request, record: JobRecord, event: Event) -> JsonValue:
    data = event.data
    if isinstance(data, StatusChange):
        return {"status": data.status.value, "queue_position": data.queue_position}
    if isinstance(data, Progress):
        return dialect.render_progress(data)
    if isinstance(data, Preview):
        encoded = pybase64.b64encode(data.data).decode()
        return {"node_id": data.node_id, "content_type": data.content_type, "data_base64": encoded}
    if isinstance(data, LogLine):
        return {"level": data.level, "message": data.message}
    return _output(request, record, data, 0)
