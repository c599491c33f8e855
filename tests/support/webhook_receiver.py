"""A server that takes webhooks, or fails to in the ways that a test asks for."""

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

from support.ports import free_port
from support.web_server import WebServer


@dataclass(frozen=True)
class Arrival:
    """One request that arrived."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The message's id."""
        return self.headers["webhook-id"]

    @property
    def told(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """What one request is answered: a status, nothing until the end (`hang`), or a cut connection."""

    what: int | Literal["hang", "cut"] = 204
    headers: Mapping[str, str] = field(default_factory=dict)


class WebhookReceiver(WebServer):
    """Takes webhooks on every address of this machine; an async context manager.

    It answers with the next of `answers`, and with 204 when there is none left.
    """

    listens_on = "0.0.0.0"

    def __init__(self, *answers: Answer, port: int | None = None) -> None:
        """Prepare it; nothing listens yet."""
        self.port = port or free_port()
        self.arrived: list[Arrival] = []
        self.answers = deque(answers)
        self.ends = asyncio.Event()
        """Ends what hangs."""
        self._news = asyncio.Condition()

    def url(self, path: str = "/hook?token=5ecre7", host: str = "127.0.0.1") -> str:
        """Return the URL of a path."""
        return f"http://{host}:{self.port}{path}"

    async def wait(self, count: int) -> list[Arrival]:
        """Return the first `count` arrivals when there are that many."""
        async with asyncio.timeout(180), self._news:
            await self._news.wait_for(lambda: len(self.arrived) >= count)
        return self.arrived[:count]

    def _application(self) -> web.Application:
        app = web.Application(client_max_size=1024**3)
        app.router.add_route("*", "/{path:.*}", self._take)
        return app

    def _end(self) -> None:
        self.ends.set()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        arrival = Arrival(request.path_qs, request.headers, await request.read())
        answer = self.answers.popleft() if self.answers else Answer()
        async with self._news:
            self.arrived.append(arrival)
            self._news.notify_all()
        if answer.what == "hang":
            await self.ends.wait()
            return web.Response(status=204)
        if answer.what == "cut":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return web.Response(status=answer.what, headers=answer.headers)
