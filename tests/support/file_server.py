"""A server of files on every address of this machine, which counts what it is asked."""

import asyncio
import gzip
from collections import Counter

from aiohttp import web
from aiohttp.typedefs import Handler

from support.ports import free_port
from support.web_server import WebServer


class FileServer(WebServer):
    """Serves `files` by path, and some paths that misbehave; an async context manager.

    - `/redirect?to=URL` leads there, `/loop` to itself.
    - `/endless` never stops sending, `/slow` sends a little and then nothing.
    - `/flaky` answers 500 until it was asked `fails` times, `/status/404` with that status.
    - `/bomb` sends compressed zeros.
    """

    listens_on = "0.0.0.0"

    def __init__(self) -> None:
        """Prepare it; nothing listens yet."""
        self.port = free_port()
        self.files: dict[str, tuple[bytes, str]] = {}
        """Path → body and content type."""
        self.fails = 1
        self.asked: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.together = asyncio.Barrier(1)
        """Where requests for `/together` wait for each other."""
        self.stalled = asyncio.Event()
        """Set when `/slow` has begun."""
        self._ends = asyncio.Event()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """Return the URL of a path."""
        return f"http://{host}:{self.port}{path}"

    def _application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/redirect", self._redirect)
        app.router.add_get("/loop", self._redirect)
        app.router.add_get("/endless", self._endless)
        app.router.add_get("/slow", self._slow)
        app.router.add_get("/flaky", self._flaky)
        app.router.add_get("/bomb", self._bomb)
        app.router.add_get("/together", self._together)
        app.router.add_get("/status/{status}", self._status)
        app.router.add_get("/{path:.*}", self._file)
        app.middlewares.append(self._note)
        return app

    def _end(self) -> None:
        self._ends.set()

    @web.middleware
    async def _note(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.asked[request.path] += 1
        self.headers.append(dict(request.headers))
        return await handler(request)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        if request.path not in self.files:
            raise web.HTTPNotFound
        body, content_type = self.files[request.path]
        return web.Response(body=body, content_type=content_type)

    async def _redirect(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": request.query.get("to", "/loop"), "Set-Cookie": "a=b"})

    async def _endless(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while not self._ends.is_set():
            await response.write(bytes(64 * 1024))
        return response

    async def _slow(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"GIF89a")
        self.stalled.set()
        await self._ends.wait()
        return response

    async def _flaky(self, request: web.Request) -> web.StreamResponse:
        if self.asked[request.path] <= self.fails:
            raise web.HTTPInternalServerError
        return web.Response(body=b"at last")

    async def _bomb(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(body=gzip.compress(bytes(10_000_000)), headers={"Content-Encoding": "gzip"})

    async def _together(self, _request: web.Request) -> web.StreamResponse:
        await self.together.wait()
        return web.Response(body=b"both")

    async def _status(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=int(request.match_info["status"]), body=b"an error page")
