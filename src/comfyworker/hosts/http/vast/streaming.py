"""A job's life as server-sent events, in the words of Vast's PyWorker.

Wire source: the README of ai-dock/comfyui-api-wrapper, "Streaming (SSE)": progress events, then one `final_result`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

from pydantic import JsonValue
from starlette.requests import Request

from comfyworker.dialects.pyworker import STATUS_WORDS
from comfyworker.errors import WorkerError
from comfyworker.hosts.http.context import context_of
from comfyworker.hosts.http.sse import SseEvent
from comfyworker.hosts.http.vast.answers import message_of, pending, rendered
from comfyworker.jobs import Progress
from comfyworker.service import Event, JobRecord, StatusChange

_FINAL = "final_result"


async def life_of(request: Request, record: JobRecord, *, after: int) -> AsyncGenerator[SseEvent]:
    """Yield what happens to a job, and at last what came of it.

    Args:
        request: Whose it is, and where the client reaches us.
        record: The job.
        after: The id of the last event that the client has.
    """
    service = context_of(request).service
    events = service.events(record.owner, record.id, after=after)
    output_count = 0
    async with contextlib.aclosing(events):
        async for event in events:
            if not isinstance(event.data, StatusChange | Progress):
                output_count += event.kind == "output"
                continue
            if isinstance(event.data, StatusChange) and event.data.status.is_terminal:
                continue
            yield SseEvent(None, _shown(record, event, output_count), event.id)
    ended = await service.get(record.owner, record.id)
    yield SseEvent(None, await _last(request, ended))


def _shown(record: JobRecord, event: Event, output_count: int) -> dict[str, JsonValue]:
    shown: dict[str, JsonValue] = {
        "request_id": record.id,
        "timestamp": datetime.fromtimestamp(event.at, UTC).isoformat(timespec="milliseconds"),
        "elapsed_time": _elapsed_s(record, event.at),
        "output_count": output_count,
    }
    if isinstance(event.data, StatusChange):
        now = record.model_copy(update=event.data._asdict())
        position: JsonValue = None if event.data.queue_position is None else {"position": event.data.queue_position}
        return {**shown, "status": STATUS_WORDS[now.status], "message": message_of(now), "queue_position": position}
    if isinstance(event.data, Progress):
        told: JsonValue = event.data.model_dump(mode="json")
        return {**shown, "status": "generating", "message": event.data.message or "Running.", "progress": told}
    return shown


async def _last(request: Request, record: JobRecord) -> dict[str, JsonValue]:
    last: dict[str, JsonValue] = {"request_id": record.id, "elapsed_time": _elapsed_s(record, time.time())}
    if not record.is_terminal:
        # The server is going down; the job runs at its next start.
        return {**last, **pending(record), "message": "The server is shutting down; ask for the result later."}
    try:
        result, _ = await rendered(request, record)
    except WorkerError as error:
        return {**last, "status": "failed", "message": error.message}
    return {**last, "status": _FINAL, "result": result}


def _elapsed_s(record: JobRecord, now: float) -> float:
    return round(max(now - record.created_at, 0.0), 3)
