"""A real proxy between our client and the real ComfyUI, which makes the faults that ComfyUI cannot be made to show.

    async with FaultProxy(comfyui.url) as proxy:
        fault = proxy.drop_answer("POST", "/prompt")     # ComfyUI has the job, the client never hears of it
        proxy.cut_socket(frame("executing", node=None))  # just before the end
        ...
        await fault.met.wait()

Everything else goes through unchanged, chunk by chunk. Each fault happens once unless `times` says otherwise.
"""

import asyncio
import fnmatch
import io
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

Frame = Mapping[str, Any]
FrameTest = Callable[[Frame], bool]

ALWAYS = 1_000_000_000
HOP_HEADERS = {"connection", "host", "keep-alive", "transfer-encoding", "upgrade", "content-length"}
FORWARD_LIMIT = aiohttp.ClientTimeout(total=None, sock_connect=10)


def frame(event_type: str, **data: object) -> FrameTest:
    """Return a test for frames of `event_type` whose data have these values: `frame("executing", node=None)`."""

    def matches(message: Frame) -> bool:
        payload = message.get("data") or {}
        if message.get("type") != event_type:
            return False
        return all(name in payload and payload[name] == value for name, value in data.items())

    return matches


@dataclass(frozen=True)
class Recorded:
    """One request that came to the proxy."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes = field(repr=False)
    headers: CIMultiDict[str] = field(default_factory=CIMultiDict, repr=False)
    query_string: str = ""
    """The query as it was written."""

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


@dataclass
class Fault:
    """What the proxy does wrong, where, and how often still."""

    times: int
    met: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the fault has happened (or, for a held request, once it waits)."""
    hits: int = 0

    def take(self) -> bool:
        """Use the fault up by one; False if it has happened as often as it should."""
        if self.hits >= self.times:
            return False
        self.hits += 1
        self.met.set()
        return True

    def stop(self) -> None:
        """Make no more of it."""
        self.times = self.hits


@dataclass
class RequestFault(Fault):
    """A fault of requests; `path` and `query` may hold wildcards, as in `/history/*` and `partNumber=2&*`."""

    method: str = "*"
    path: str = "*"
    query: str = "*"
    instead: tuple[int, bytes] | None = None
    """Status and body to answer with, without asking ComfyUI."""
    drop_before: bool = False
    drop_after_bytes: int | None = None
    """Forward the request, send so much of the answer's body, then drop the connection; negative: not even a head."""
    released: asyncio.Event | None = None
    """Wait for this before the request is forwarded."""

    def fits(self, request: web.Request) -> bool:
        """Whether the fault is for this request."""
        return (
            self.method in ("*", request.method)
            and fnmatch.fnmatchcase(request.path, self.path)
            and fnmatch.fnmatchcase(request.rel_url.raw_query_string, self.query)
        )

    def release(self) -> None:
        """Let held requests go on."""
        if self.released is not None:
            self.released.set()


@dataclass
class FrameFault(Fault):
    """A fault of frames that come from ComfyUI."""

    test: FrameTest = lambda _message: True
    is_cut: bool = False
    """Cut the WebSocket, or else only lose the frame."""
    is_delivered: bool = False
    """Deliver the frame before the cut."""


class FaultProxy:
    """Stands before one ComfyUI, on a port of its own."""

    def __init__(self, target: str) -> None:
        """Stand before the ComfyUI at `target`."""
        self.target = target.rstrip("/")
        self.port = 0
        self.requests: list[Recorded] = []
        """Every request that came, WebSockets included, in order."""
        self.frames: list[dict[str, Any]] = []
        """Every text frame that was delivered, in order."""
        self.refuse_sockets = False
        """Answer new WebSockets with HTTP 503."""
        self._request_faults: list[RequestFault] = []
        self._frame_faults: list[FrameFault] = []
        self._sockets: set[asyncio.Transport] = set()

    @property
    def url(self) -> str:
        """Where the client finds the proxy."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def open_sockets(self) -> int:
        """How many WebSockets are open."""
        return len(self._sockets)

    def answer(
        self, method: str, path: str, *, status: int, body: bytes | str = b"", query: str = "*", times: int = 1
    ) -> Fault:
        """Answer with `status` and `body` instead of ComfyUI."""
        content = body.encode() if isinstance(body, str) else body
        return self._add(RequestFault(times, method=method, path=path, query=query, instead=(status, content)))

    def drop_request(self, method: str, path: str, *, query: str = "*", times: int = 1) -> Fault:
        """Drop the connection without asking ComfyUI."""
        return self._add(RequestFault(times, method=method, path=path, query=query, drop_before=True))

    def drop_answer(self, method: str, path: str, *, after_bytes: int = -1, query: str = "*", times: int = 1) -> Fault:
        """Drop the connection after ComfyUI has answered: nothing of it is sent, or head and `after_bytes` of body."""
        return self._add(RequestFault(times, method=method, path=path, query=query, drop_after_bytes=after_bytes))

    def hold(self, method: str, path: str, *, query: str = "*", times: int = 1) -> RequestFault:
        """Let requests wait at the proxy until `.release()`; `.met` is set when the first one is there."""
        return self._add(RequestFault(times, method=method, path=path, query=query, released=asyncio.Event()))

    def cut_socket(self, test: FrameTest, *, is_delivered: bool = False, times: int = 1) -> Fault:
        """Cut the WebSocket when a frame passes `test`: before it is delivered, or after."""
        fault = FrameFault(times, test=test, is_cut=True, is_delivered=is_delivered)
        self._frame_faults.append(fault)
        return fault

    def swallow(self, test: FrameTest, *, times: int = ALWAYS) -> Fault:
        """Lose frames that pass `test`, with the WebSocket left open."""
        fault = FrameFault(times, test=test)
        self._frame_faults.append(fault)
        return fault

    def cut_sockets_now(self) -> None:
        """Cut every WebSocket that is open."""
        for transport in tuple(self._sockets):
            transport.abort()

    def count(self, method: str, path: str) -> int:
        """Return how many requests came to `path`, which may hold wildcards."""
        return sum(item.method == method and fnmatch.fnmatch(item.path, path) for item in self.requests)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=FORWARD_LIMIT, auto_decompress=False)
        application = web.Application(client_max_size=1 << 30)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Go away: from now on nobody listens on the port. Twice is as good as once."""
        for fault in self._request_faults:
            fault.release()
        self.cut_sockets_now()
        await self._runner.cleanup()
        await self._session.close()

    def _add(self, fault: RequestFault) -> RequestFault:
        self._request_faults.append(fault)
        return fault

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self._record(request, body)
        fault = self._find_fault(request)
        if fault is not None and (answer := await self._answer_instead(request, fault)) is not None:
            return answer
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return web.Response(status=503) if self.refuse_sockets else await self._relay_socket(request)
        try:
            return await self._forward(request, body, None if fault is None else fault.drop_after_bytes)
        except aiohttp.ClientError:
            return drop(request)  # ComfyUI is not there

    def _record(self, request: web.Request, body: bytes) -> None:
        headers, query = CIMultiDict(request.headers), dict(request.query)
        self.requests.append(
            Recorded(request.method, request.path, query, body, headers, request.rel_url.raw_query_string)
        )

    def _find_fault(self, request: web.Request) -> RequestFault | None:
        return next((item for item in self._request_faults if item.fits(request) and item.take()), None)

    async def _answer_instead(self, request: web.Request, fault: RequestFault) -> web.StreamResponse | None:
        """Wait where the fault says so; return what is answered without asking ComfyUI, if that is the fault."""
        if fault.released is not None:
            await fault.released.wait()
        if fault.instead is not None:
            return web.Response(status=fault.instead[0], body=fault.instead[1])
        return drop(request) if fault.drop_before else None

    async def _forward(self, request: web.Request, body: bytes, limit_bytes: int | None) -> web.StreamResponse:
        headers = CIMultiDict(
            (name, value) for name, value in request.headers.items() if name.lower() not in HOP_HEADERS
        )
        url = f"{self.target}{request.rel_url}"
        data = io.BytesIO(body) if body else None  # aiohttp warns of large bytes
        async with self._session.request(request.method, url, data=data, headers=headers) as upstream:
            if limit_bytes is not None and limit_bytes < 0:
                await upstream.read()
                return drop(request)
            return await relay_answer(request, upstream, limit_bytes)

    async def _relay_socket(self, request: web.Request) -> web.StreamResponse:
        near = web.WebSocketResponse(max_msg_size=0)
        await near.prepare(request)
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        self._sockets.add(transport)
        try:
            async with (
                self._session.ws_connect(f"{self.target}{request.rel_url}", max_msg_size=0) as far,
                asyncio.TaskGroup() as group,
            ):
                down = group.create_task(self._relay_down(far, near, transport), name="frames to the client")
                async for message in near:
                    if message.type is aiohttp.WSMsgType.TEXT:
                        await far.send_str(message.data)
                down.cancel()
        except aiohttp.ClientError:
            transport.abort()  # ComfyUI is not there
        finally:
            self._sockets.discard(transport)
        return near

    async def _relay_down(
        self, far: aiohttp.ClientWebSocketResponse, near: web.WebSocketResponse, transport: asyncio.Transport
    ) -> None:
        """Deliver ComfyUI's frames until either side ends; then the client's end of the socket ends too."""
        with suppress(ConnectionError):
            async for message in far:
                if message.type is aiohttp.WSMsgType.BINARY:
                    await near.send_bytes(message.data)
                elif message.type is aiohttp.WSMsgType.TEXT and not await self._deliver(message.data, near):
                    break
        transport.abort()

    async def _deliver(self, text: str, near: web.WebSocketResponse) -> bool:
        """Deliver one frame unless a fault is for it; return False to cut the socket."""
        content = json.loads(text)
        fault = next((item for item in self._frame_faults if item.test(content) and item.take()), None)
        if fault is None or fault.is_delivered:
            await near.send_str(text)
            self.frames.append(content)
        return fault is None or not fault.is_cut


async def relay_answer(
    request: web.Request, upstream: aiohttp.ClientResponse, limit_bytes: int | None
) -> web.StreamResponse:
    """Pass an answer on, chunk by chunk; after `limit_bytes` of its body, if given, drop the connection."""
    response = web.StreamResponse(status=upstream.status, reason=upstream.reason)
    for name, value in upstream.headers.items():
        if name.lower() not in HOP_HEADERS - {"content-length"}:
            response.headers.add(name, value)
    await response.prepare(request)
    async for chunk in _limited(upstream.content.iter_any(), limit_bytes):
        await response.write(chunk)
    if limit_bytes is not None:
        return drop(request)
    await response.write_eof()
    return response


def drop(request: web.Request) -> web.Response:
    """Cut the connection as a machine that vanishes does; the response goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _limited(chunks: AsyncIterator[bytes], limit_bytes: int | None) -> AsyncIterator[bytes]:
    """Yield `chunks` until `limit_bytes` of them have been yielded."""
    left = limit_bytes
    async for chunk in chunks:
        if left is None:
            yield chunk
            continue
        if left <= 0:
            return
        yield chunk[:left]
        left -= len(chunk)
