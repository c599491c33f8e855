"""A request's body, read as far as it is allowed to go."""

import asyncio
from collections.abc import Sequence

import pytest
from starlette.requests import Request
from starlette.types import Message

from comfyworker.errors import InvalidRequest, RequestTooLarge
from comfyworker.hosts.http.limits import iter_body


def sent(chunks: Sequence[bytes], *, is_whole: bool = True) -> Request:
    """Return a request whose body comes in `chunks`, and then ends or goes on without anything more coming."""
    waiting = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if is_whole:
        waiting.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    return Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)


async def read(request: Request, *, limit_bytes: int = 100, idle_s: float = 30.0) -> bytes:
    """Return the body."""
    return b"".join([chunk async for chunk in iter_body(request, limit_bytes=limit_bytes, idle_s=idle_s)])


async def test_a_body_is_read_to_its_end() -> None:
    """However many pieces it comes in."""
    assert await read(sent([b"ab", b"", b"cd"])) == b"abcd"


async def test_no_more_than_the_limit_is_read() -> None:
    """Also where nobody has said how much would come."""
    with pytest.raises(RequestTooLarge):
        await read(sent([b"x" * 60, b"x" * 60], is_whole=False))


async def test_what_does_not_go_on_is_given_up() -> None:
    """Half a body would be held for as long as its connection lives, of people whom nobody knows."""
    with pytest.raises(InvalidRequest, match="nothing more of the request's body came for"):
        await read(sent([b"ab"], is_whole=False), idle_s=0.01)
