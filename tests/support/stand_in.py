"""A server in ComfyUI's place that starts in milliseconds, for tests that start and stop it."""

import json
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from support.ports import free_port

PROGRAM = """
import http.server, json, os, sys
port = int(sys.argv[sys.argv.index("--port") + 1])

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"
    def do_GET(self):
        body = json.dumps({"pid": os.getpid()}).encode()
        self.send_response(200 if self.path in ("/system_stats", "/object_info") else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
"""A main.py that serves what a start asks for, in the standard library alone."""


class StandIn:
    """Serves the routes that a connection to ComfyUI begins with; may go away and come back on its port."""

    def __init__(self) -> None:
        """Prepare; it does not listen yet."""
        self.port = free_port()
        self.object_info: dict[str, Any] = {}
        self.counts: dict[str, int] = {}
        """How often each route was asked for."""
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it listens, when it does."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen."""
        application = web.Application()
        application.router.add_get("/ws", self._socket)
        application.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def stop(self) -> None:
        """Go away, connections and all."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        """Listen."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Go away."""
        await self.stop()

    async def _answer(self, request: web.Request) -> web.Response:
        self.counts[request.path] = self.counts.get(request.path, 0) + 1
        body = self.object_info if request.path == "/object_info" else {}
        return web.Response(text=json.dumps(body), content_type="application/json")

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        self.counts["/ws"] = self.counts.get("/ws", 0) + 1
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for _ in socket:
            pass
        return socket
