"""A proxy before the object store, which makes the faults that a store and its network make.

    fault = store_proxy.cut_body("PUT", "/bucket/*", query="partNumber=2&*", after_bytes=100_000)
    store_proxy.answer_error("POST", "/bucket/*", status=503, code="SlowDown")

Bodies go through as they come, and nothing that a signature covers is changed: the store sees the Host that the client
asked for, and the path and query as they were written.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import ClassVar

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from support.proxy import HOP_HEADERS, Fault, FaultProxy, RequestFault, drop, relay_answer

CHUNK_BYTES = 64 * 1024
AUTOMATIC_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


@dataclass
class BodyFault(RequestFault):
    """A fault on the way of a request's body."""

    after_bytes: int | None = None
    """How much of the body goes on to the store before the connections break."""
    late_answer: tuple[int, bytes] | None = None
    """Status and body that the client gets then, instead of a broken connection."""
    bytes_per_s: int | None = None
    """How fast the body goes through."""


class StoreProxy(FaultProxy):
    """Stands before one object store, on a port of its own. What it recorded has heads only, no bodies."""

    KEPT: ClassVar[set[str]] = HOP_HEADERS - {"host", "content-length"}

    def cut_body(self, method: str, path: str, *, after_bytes: int, query: str = "*", times: int = 1) -> Fault:
        """Break both connections once `after_bytes` of a request's body have come."""
        return self._add(BodyFault(times, method=method, path=path, query=query, after_bytes=after_bytes))

    def answer_in_body(
        self, method: str, path: str, *, after_bytes: int, status: int, code: str, query: str = "*", times: int = 1
    ) -> Fault:
        """Answer with an error of S3's once `after_bytes` of a request's body have come, then close the connection."""
        late_answer = (status, error_body(code))
        return self._add(
            BodyFault(times, method=method, path=path, query=query, after_bytes=after_bytes, late_answer=late_answer)
        )

    def slow_body(self, method: str, path: str, *, bytes_per_s: int, query: str = "*", times: int = 1) -> Fault:
        """Let the bodies of requests through at a pace."""
        return self._add(BodyFault(times, method=method, path=path, query=query, bytes_per_s=bytes_per_s))

    def answer_error(
        self, method: str, path: str, *, status: int, code: str, message: str = "", query: str = "*", times: int = 1
    ) -> Fault:
        """Answer with an error of S3's, without asking the store."""
        return self.answer(method, path, status=status, body=error_body(code, message), query=query, times=times)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self._record(request, b"")
        fault = self._find_fault(request)
        if fault is not None and (answer := await self._answer_instead(request, fault)) is not None:
            return answer
        body = _Body(request, fault if isinstance(fault, BodyFault) else BodyFault(0))
        try:
            return await self._pass_on(request, body, None if fault is None else fault.drop_after_bytes)
        except aiohttp.ClientError:
            if body.is_cut and body.fault.late_answer is not None:
                return _close_with(*body.fault.late_answer)
            return drop(request)

    async def _pass_on(self, request: web.Request, body: "_Body", limit_bytes: int | None) -> web.StreamResponse:
        headers = CIMultiDict((name, value) for name, value in request.headers.items() if name.lower() not in self.KEPT)
        async with self._session.request(
            request.method,
            URL(f"{self.target}{request.raw_path}", encoded=True),
            data=body.chunks() if request.can_read_body else None,
            headers=headers,
            skip_auto_headers=AUTOMATIC_HEADERS,
            allow_redirects=False,
        ) as upstream:
            if limit_bytes is not None and limit_bytes < 0:
                await upstream.read()
                return drop(request)
            return await relay_answer(request, upstream, limit_bytes)


class _Body:
    """A request's body on its way."""

    def __init__(self, request: web.Request, fault: BodyFault) -> None:
        self.fault = fault
        self.is_cut = False
        self._content = request.content

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield what comes, as fast and as far as the fault lets it.

        Raises:
            ClientPayloadError: Here it is cut.
        """
        passed_bytes, limit_bytes = 0, self.fault.after_bytes
        while limit_bytes is None or passed_bytes < limit_bytes:
            left_bytes = CHUNK_BYTES if limit_bytes is None else min(CHUNK_BYTES, limit_bytes - passed_bytes)
            chunk = await self._content.read(left_bytes)
            if not chunk:
                return
            if self.fault.bytes_per_s is not None:
                await asyncio.sleep(len(chunk) / self.fault.bytes_per_s)
            yield chunk
            passed_bytes += len(chunk)
        self.is_cut = True
        raise aiohttp.ClientPayloadError("cut here")


def error_body(code: str, message: str = "") -> bytes:
    """Return the document in which S3 says what was wrong."""
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return text.encode()


def _close_with(status: int, body: bytes) -> web.Response:
    response = web.Response(status=status, body=body, content_type="application/xml")
    response.force_close()
    return response
