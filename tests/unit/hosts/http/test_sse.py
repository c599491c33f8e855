"""Server-sent events as they go over the wire."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.requests import Request
from starlette.types import Message

from comfyworker.hosts.http.sse import SseEvent, last_event_id, sse_answer
from support.eventually import eventually


class Reader:
    """A client that reads what is sent, and can go."""

    def __init__(self) -> None:
        self.body = b""
        self.status = 0
        self.is_over = False
        self.gone = asyncio.Event()

    async def send(self, message: Message) -> None:
        """Take what the server sends."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.body += message["body"]
            self.is_over = not message["more_body"]

    async def receive(self) -> Message:
        """Tell the server that the client has gone, once it has."""
        await self.gone.wait()
        return {"type": "http.disconnect"}


async def read(events: AsyncGenerator[SseEvent], reader: Reader, *, heartbeat_s: float = 60) -> None:
    """Send `events` to a reader."""
    await sse_answer(events, heartbeat_s=heartbeat_s)({"type": "http"}, reader.receive, reader.send)


async def test_events_are_sent_as_they_come() -> None:
    """Type, id and data stand on lines of their own; the data is one line of JSON whatever it holds."""

    async def events() -> AsyncGenerator[SseEvent]:
        yield SseEvent("status", {"text": "two\nlines"}, 1)
        yield SseEvent(None, None)

    reader = Reader()
    await read(events(), reader)
    assert reader.body == b'event: status\nid: 1\ndata: {"text":"two\\nlines"}\n\ndata: null\n\n'
    assert (reader.status, reader.is_over) == (200, True)


async def test_silence_is_broken_by_comments() -> None:
    """While nothing happens, comments keep the connection."""
    go_on = asyncio.Event()

    async def events() -> AsyncGenerator[SseEvent]:
        await go_on.wait()
        yield SseEvent("status", 1)

    reader = Reader()
    async with asyncio.TaskGroup() as group:
        group.create_task(read(events(), reader, heartbeat_s=0.01))
        await eventually(lambda: reader.body.count(b": still here\n\n") >= 3)
        go_on.set()
    assert reader.body.endswith(b"event: status\ndata: 1\n\n")


async def test_the_events_are_closed_when_the_reader_goes() -> None:
    """Whoever makes the events is told, also in the middle of waiting for the next one."""
    closed, begun = asyncio.Event(), asyncio.Event()

    async def events() -> AsyncGenerator[SseEvent]:
        try:
            begun.set()
            await asyncio.Event().wait()
            yield SseEvent(None, None)
        finally:
            closed.set()

    reader = Reader()
    async with asyncio.TaskGroup() as group:
        group.create_task(read(events(), reader))
        await begun.wait()
        reader.gone.set()
    assert closed.is_set()


async def test_a_fault_in_the_events_is_raised_alone() -> None:
    """What fails while the events are made reaches the host's log as itself, not in a group."""

    async def events() -> AsyncGenerator[SseEvent]:
        yield SseEvent("status", 1)
        message = "the disk is gone"
        raise OSError(message)

    with pytest.raises(OSError, match="the disk is gone"):
        await read(events(), Reader())


@pytest.mark.parametrize(
    ("header", "expected"), [("7", 7), (" 12 ", 12), ("", 0), ("-1", 0), ("x", 0), ("٣", 0), ("9" * 40, 0)]
)
def test_the_last_event_of_the_client(header: str, expected: int) -> None:
    """The header is a number of ours, or the client has seen nothing."""
    headers = [(b"last-event-id", header.encode())]
    assert last_event_id(Request({"type": "http", "headers": headers})) == expected
