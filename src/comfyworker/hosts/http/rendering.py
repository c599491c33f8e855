"""Answers: a job's result with its files inside or under signed URLs, and JSON of any size."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from comfyworker.delivery import iter_json
from comfyworker.dialects import dialect_named
from comfyworker.errors import WorkerError
from comfyworker.hosts.http.context import context_of, url_for_asset
from comfyworker.jobs import Artifact, JobError, JobResult, JobStatus, UrlType
from comfyworker.service import JobRecord, KeptArtifact

JSON = "application/json"
_SEND_BYTES = 64 * 1024


def json_answer(value: JsonValue, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return `value` as the answer; what holds large artifacts is written to the client piece by piece."""
    pieces = iter_json(value)
    first, second = next(pieces), next(pieces, None)
    if second is None:
        return Response(first, status, headers, JSON)
    return _PiecesResponse(itertools.chain((first, second), pieces), status, headers)


class _PiecesResponse(Response):
    """Not a StreamingResponse: that goes to a thread and back for each piece, however small."""

    media_type = JSON

    def __init__(self, pieces: Iterator[bytes], status: int, headers: Mapping[str, str] | None) -> None:
        super().__init__(status_code=status, headers=headers)
        del self.headers["content-length"]
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        held, held_bytes = list[bytes](), 0
        for piece in self._pieces:
            held.append(piece)
            held_bytes += len(piece)
            if held_bytes >= _SEND_BYTES:
                await send({"type": "http.response.body", "body": b"".join(held), "more_body": True})
                held, held_bytes = [], 0
        await send({"type": "http.response.body", "body": b"".join(held)})


async def shown_result(request: Request, record: JobRecord) -> JobResult:
    """Return the result of a job that has ended as its client gets it: no path of ours, each file inside or as a URL.

    What cannot be put into the answer, because it is too large or gone, comes back as a failed result.
    """
    context = context_of(request)
    result = record.result or JobResult(id=record.id, status=record.status)
    if not record.wants_inline:
        return _shown(result, tuple(_with_url(request, record, artifact) for artifact in result.artifacts))
    try:
        result = await context.service.inline(result, limit_bytes=context.settings.delivery.answer_max_bytes)
    except WorkerError as error:
        return _failed(_shown(result, ()), error)
    return _shown(result, result.artifacts)


async def render_record(request: Request, record: JobRecord) -> dict[str, JsonValue]:
    """Return the answer for a job that has ended, in the dialect that it was asked in."""
    spoken, result = dialect_named(record.dialect), await shown_result(request, record)
    try:
        return spoken.render(result)
    except WorkerError as error:
        return spoken.render(_failed(result, error))


def _with_url(request: Request, record: JobRecord, artifact: Artifact) -> Artifact:
    if artifact.path is None or not isinstance(artifact, KeptArtifact):
        return artifact
    signed = url_for_asset(request, artifact.asset_id, artifact.name, until=record.expires_at)
    return artifact.model_copy(update={"url": signed.url, "url_type": UrlType.COMFYUI_URL})


def _shown(result: JobResult, artifacts: tuple[Artifact, ...]) -> JobResult:
    bare = tuple(artifact.model_copy(update={"path": None}) for artifact in artifacts)
    return result.model_copy(update={"artifacts": bare})


def _failed(result: JobResult, error: WorkerError) -> JobResult:
    return result.model_copy(update={"status": JobStatus.FAILED, "error": JobError.of(error)})
