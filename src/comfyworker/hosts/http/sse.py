"""Server-sent events: one answer that goes on as long as something happens.

Wire source: https://html.spec.whatwg.org/multipage/server-sent-events.html.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import NamedTuple

from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from comfyworker.delivery import iter_json

_HEARTBEAT_S = 15.0
_DIGITS = 19
_HEARTBEAT = b": still here\n\n"
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # nginx would hold events back


class SseEvent(NamedTuple):
    """One event for a client."""

    event: str | None
    """Its type; None is the client's `message`."""
    data: JsonValue
    id: str | int | None = None
    """What the client sends as Last-Event-ID when it comes back; must hold no line break."""

    def encoded(self) -> bytes:
        """Return it as it goes over the wire."""
        head = f"event: {self.event}\n" if self.event is not None else ""
        head += f"id: {self.id}\n" if self.id is not None else ""
        return b"".join((head.encode(), b"data: ", *iter_json(self.data), b"\n\n"))


def sse_answer(events: AsyncGenerator[SseEvent], *, heartbeat_s: float = _HEARTBEAT_S) -> Response:
    """Return an answer that sends `events` as they come, and a comment after every `heartbeat_s` without one.

    `events` is closed when it has ended, or the client has gone.
    """
    return _EventResponse(events, heartbeat_s)


def last_event_id(request: Request) -> int:
    """Return the id of the last event that the client has; 0 where it has none, or sends none of ours."""
    text = request.headers.get("last-event-id", "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < _DIGITS else 0


class _EventResponse(Response):
    """Not a StreamingResponse: that leaves its generator open when the client goes while something is being sent."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[SseEvent], heartbeat_s: float) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._events = events
        self._heartbeat_s = heartbeat_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async with contextlib.aclosing(self._events), asyncio.TaskGroup() as group:
                tasks = {
                    group.create_task(self._send_all(group, send), name="sending events"),
                    group.create_task(_wait_gone(receive), name="whether the reader of events is there"),
                }
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    task.cancel()
        except* Exception as failed:  # noqa: BLE001  # raised again, alone
            raise failed.exceptions[0] from None

    async def _send_all(self, group: asyncio.TaskGroup, send: Send) -> None:
        while True:
            coming = group.create_task(_next(self._events), name="next event")
            try:
                while not (await asyncio.wait({coming}, timeout=self._heartbeat_s))[0]:
                    await send({"type": "http.response.body", "body": _HEARTBEAT, "more_body": True})
            finally:
                coming.cancel()
            event = coming.result()
            body = b"" if event is None else event.encoded()
            await send({"type": "http.response.body", "body": body, "more_body": event is not None})
            if event is None:
                return


async def _next(events: AsyncGenerator[SseEvent]) -> SseEvent | None:
    return await anext(events, None)


async def _wait_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
