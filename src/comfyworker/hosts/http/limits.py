"""A request's body, read no further than its limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from comfyworker.errors import InvalidRequest, RequestTooLarge
from comfyworker.hosts.http.context import context_of
from comfyworker.hosts.local import parse_json

_IDLE_S = 30.0
"""Seconds for which nothing of a body may come: what is there of it is held in memory, for whom nobody knows yet."""


async def iter_body(request: Request, *, limit_bytes: int, idle_s: float = _IDLE_S) -> AsyncIterator[bytes]:
    """Yield the body as it arrives.

    Raises:
        RequestTooLarge: it has more than `limit_bytes`, or says that it will; no more of it is read.
        InvalidRequest: the client went away in the middle of it, or sent nothing more for `idle_s`.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit_bytes:
        raise _too_large(limit_bytes)
    seen, chunks = 0, request.stream()
    try:
        while True:
            async with asyncio.timeout(idle_s):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            seen += len(chunk)
            if seen > limit_bytes:
                raise _too_large(limit_bytes)
            yield chunk
    except TimeoutError as error:
        message = f"nothing more of the request's body came for {idle_s:g} s"
        raise InvalidRequest(message, hint="Send it again.") from error
    except ClientDisconnect as error:
        raise InvalidRequest("the request ended before its body was complete", hint="Send it again.") from error


async def read_body(request: Request, *, limit_bytes: int | None = None) -> bytes:
    """Return the body; `limit_bytes` None takes REQUEST_MAX_BYTES.

    Raises:
        RequestTooLarge: it is larger than that.
        InvalidRequest: the client went away in the middle of it.
    """
    limit = limit_bytes or context_of(request).settings.http.request_max_bytes
    # Joined once: a bytearray that grows would be copied into bytes at its end.
    return b"".join([chunk async for chunk in iter_body(request, limit_bytes=limit)])


async def read_json(request: Request) -> object:
    """Return what the body says as JSON.

    Raises:
        RequestTooLarge: it is larger than REQUEST_MAX_BYTES.
        InvalidRequest: it is not JSON; the message says where that shows.
    """
    body = await read_body(request)
    return parse_json(body, name="the request's body", hint='It must be one JSON object: {"input": {"workflow": {…}}}.')


def _too_large(limit_bytes: int) -> RequestTooLarge:
    return RequestTooLarge(
        f"the request's body is larger than {limit_bytes} bytes",
        hint="Send input files by URL; the server's owner can raise REQUEST_MAX_BYTES.",
        details={"limit_bytes": limit_bytes},
    )
