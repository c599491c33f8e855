"""The WebSocket: what is handed on, and what happens when it breaks, before a server that does what the test says."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp
import pytest
from aiohttp import web

from comfyworker.comfyui.previews import FEATURES, Preview
from comfyworker.comfyui.socket import EventSocket
from comfyworker.errors import ComfyUICrashed
from comfyworker.settings import ComfyUISettings
from support.eventually import eventually


class Server:
    """Accepts WebSockets, or refuses them."""

    def __init__(self) -> None:
        self.is_refusing = False
        self.attempts: list[str] = []
        """The client id of each attempt."""
        self.sockets: list[web.WebSocketResponse] = []
        self.received: list[str] = []
        """What came over them."""

    async def send(self, text: str) -> None:
        """Send a frame over the newest socket."""
        await self.sockets[-1].send_str(text)

    async def send_bytes(self, frame: bytes) -> None:
        """Send a binary frame over the newest socket."""
        await self.sockets[-1].send_bytes(frame)

    async def close(self) -> None:
        """Close the newest socket."""
        await self.sockets[-1].close()

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_get("/ws", self._accept)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _accept(self, request: web.Request) -> web.StreamResponse:
        self.attempts.append(request.query["clientId"])
        if self.is_refusing:
            return web.Response(status=503)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        async for message in socket:
            self.received.append(message.data)
        return socket


class Watcher:
    """Follows a prompt and keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        self.previews: list[Preview] = []
        self.changes = 0
        self.aborted: list[Exception] = []

    def on_event(self, event_type: str, payload: Mapping[str, Any]) -> None:
        """Keep an event; one of type `break` is more than it can take."""
        if event_type == "break":
            raise ValueError(event_type)
        self.events.append((event_type, payload))

    def on_preview(self, preview: Preview) -> None:
        """Keep a preview."""
        self.previews.append(preview)

    def on_connection_change(self) -> None:
        """Count."""
        self.changes += 1

    def on_abort(self, error: Exception) -> None:
        """Keep the error."""
        self.aborted.append(error)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Return a server for WebSockets."""
    async with Server() as server:
        yield server


@contextlib.asynccontextmanager
async def running(server: Server, **settings: Any) -> AsyncIterator[EventSocket]:
    """Run a socket to the server."""
    chosen = ComfyUISettings(**{"websocket_reconnect_delay_s": 0.0, **settings})
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        socket = EventSocket(server.url, session, chosen)
        task = group.create_task(socket.run())
        try:
            yield socket
        finally:
            task.cancel()


async def test_events_go_to_who_follows_the_prompt(server: Server) -> None:
    """Each event reaches the follower of its prompt, in order, and nobody else; afterwards nobody."""
    one, other = Watcher(), Watcher()
    async with running(server) as socket:
        socket.follow("1", one)
        socket.follow("2", other)
        await socket.wait_usable()
        await server.send('{"type": "a", "data": {"prompt_id": "1", "n": 1}}')
        await server.send('{"type": "b", "data": {"prompt_id": "2"}}')
        await server.send('{"type": "c", "data": {"prompt_id": "1", "n": 2}}')
        await server.send('{"type": "d", "data": {"node": "7"}}')
        await eventually(lambda: len(one.events) == 2)
        socket.unfollow("1")
        await server.send('{"type": "e", "data": {"prompt_id": "1"}}')
        await server.send('{"type": "f", "data": {"prompt_id": "2"}}')
        await eventually(lambda: len(other.events) == 2)
    assert one.events == [("a", {"prompt_id": "1", "n": 1}), ("c", {"prompt_id": "1", "n": 2})]
    assert [name for name, _ in other.events] == ["b", "f"]


@pytest.mark.parametrize(
    "strange",
    ["not json", "[1]", '"text"', '{"type": "a"}', '{"data": {"prompt_id": "1"}, "type": "break"}'],
)
async def test_a_strange_frame_harms_nobody(server: Server, strange: str) -> None:
    """A frame that nobody understands, or that its follower cannot take, is passed over; the next one arrives."""
    watcher = Watcher()
    async with running(server) as socket:
        socket.follow("1", watcher)
        await socket.wait_usable()
        await server.send(strange)
        await server.send('{"type": "a", "data": {"prompt_id": "1"}}')
        await eventually(lambda: watcher.events)
        assert socket.openings == 1
    assert watcher.events == [("a", {"prompt_id": "1"})]


@pytest.mark.parametrize(("text", "value"), [("Infinity", float("inf")), ("-Infinity", float("-inf"))])
async def test_numbers_that_json_does_not_know(server: Server, text: str, value: float) -> None:
    """ComfyUI writes Infinity and NaN where a node reports them; the outputs beside them are not lost."""
    watcher = Watcher()
    async with running(server) as socket:
        socket.follow("1", watcher)
        await socket.wait_usable()
        await server.send(f'{{"type": "executed", "data": {{"prompt_id": "1", "output": {{"score": [{text}]}}}}}}')
        await eventually(lambda: watcher.events)
    assert watcher.events == [("executed", {"prompt_id": "1", "output": {"score": [value]}})]


async def test_it_opens_again_under_the_same_name(server: Server) -> None:
    """A socket that breaks is opened again with the same client id, and followers hear of both."""
    watcher = Watcher()
    async with running(server) as socket:
        await socket.wait_usable()
        socket.follow("1", watcher)
        await server.close()
        await eventually(lambda: socket.openings == 2 and socket.is_open)
        assert watcher.changes == 2
        assert server.attempts == [socket.client_id] * 2


async def test_closed_by_us_it_opens_again(server: Server) -> None:
    """A socket that was asked to be opened anew is."""
    async with running(server) as socket:
        await socket.wait_usable()
        await socket.reopen()
        await eventually(lambda: socket.openings == 2 and socket.is_open)


async def test_none_to_be_had(server: Server) -> None:
    """After as many refusals as the settings allow nobody waits for it any longer; each refusal is told."""
    server.is_refusing = True
    troubles: list[str] = []
    async with running(server, websocket_reconnect_attempts=3) as socket:
        socket.on_trouble = lambda: troubles.append("trouble")
        await socket.wait_usable()
        assert (socket.is_open, socket.openings) == (False, 0)
        assert len(server.attempts) >= 3
        assert len(troubles) >= 3
        server.is_refusing = False
        await eventually(lambda: socket.is_open)


async def test_an_end_is_told_to_followers(server: Server) -> None:
    """Whoever follows a prompt when ComfyUI ends is told why."""
    watcher = Watcher()
    async with running(server) as socket:
        socket.follow("1", watcher)
        await socket.wait_usable()
        error = ComfyUICrashed("it ended")
        socket.abort(error)
    assert watcher.aborted == [error]


async def test_an_end_is_told_to_who_waits_for_the_socket(server: Server) -> None:
    """Who waits for a socket that will never open, because its ComfyUI has ended meanwhile, is told so."""
    server.is_refusing = True
    async with running(server, websocket_reconnect_attempts=1_000_000) as socket:
        waiting = asyncio.ensure_future(socket.wait_usable())
        await eventually(lambda: server.attempts)
        assert not waiting.done()
        socket.abort(ComfyUICrashed("it ended"))
        with pytest.raises(ComfyUICrashed, match="it ended"):
            await waiting


async def test_an_end_is_told_to_who_comes_later(server: Server) -> None:
    """Who comes for a socket whose ComfyUI has ended is told so at once, in place of following nothing."""
    async with running(server) as socket:
        await socket.wait_usable()
        socket.abort(ComfyUICrashed("it ended"))
        with pytest.raises(ComfyUICrashed, match="it ended"):
            await socket.wait_usable()


def preview_of(prompt_id: str) -> bytes:
    """Return a preview as ComfyUI sends it to those who understand its metadata."""
    metadata = b'{"image_type": "image/png", "prompt_id": "%s", "node_id": "3"}' % prompt_id.encode()
    return struct.pack(">II", 4, len(metadata)) + metadata + b"picture"


async def test_previews_go_to_who_follows_the_prompt(server: Server) -> None:
    """They say whose they are, since the socket says at each opening that it understands that."""
    one, other = Watcher(), Watcher()
    async with running(server) as socket:
        socket.follow("1", one)
        socket.follow("2", other)
        await socket.wait_usable()
        await server.send_bytes(preview_of("1"))
        await server.send_bytes(preview_of("nobody"))
        await server.send_bytes(preview_of("2"))
        await eventually(lambda: other.previews)
        await server.close()
        await eventually(lambda: len(server.received) == 2)
    assert one.previews == [Preview("image/png", b"picture", prompt_id="1", node_id="3")]
    assert server.received == [FEATURES, FEATURES]


async def test_a_preview_without_a_name_is_that_of_the_prompt_at_work(server: Server) -> None:
    """An older ComfyUI does not say whose it is; while nothing is known to run, it is nobody's."""
    one, other = Watcher(), Watcher()
    frame = struct.pack(">II", 1, 1) + b"picture"
    async with running(server) as socket:
        socket.follow("1", one)
        socket.follow("2", other)
        await socket.wait_usable()
        await server.send_bytes(frame)
        await server.send('{"type": "executing", "data": {"prompt_id": "2", "node": "3"}}')
        await server.send_bytes(frame)
        await eventually(lambda: other.previews)
        socket.unfollow("2")
        await server.send_bytes(frame)
        await server.send('{"type": "a", "data": {"prompt_id": "1"}}')
        await eventually(lambda: one.events)
    assert (one.previews, other.previews) == ([], [Preview("image/jpeg", b"picture")])


@pytest.mark.parametrize(
    "strange",
    [
        b"",
        b"\0",
        struct.pack(">II", 1, 9),
        struct.pack(">II", 3, 0),
        struct.pack(">II", 4, 2**31),
        b"\0\0\0\4\0\0\0\2[]",
    ],
)
async def test_a_strange_binary_frame_harms_nobody(server: Server, strange: bytes) -> None:
    """What is no preview is passed over, and the next one arrives."""
    watcher = Watcher()
    async with running(server) as socket:
        socket.follow("1", watcher)
        await socket.wait_usable()
        await server.send_bytes(strange)
        await server.send_bytes(preview_of("1"))
        await eventually(lambda: watcher.previews)
    assert len(watcher.previews) == 1
