"""One line in the log for each request, and an answer also for faults of our own."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from comfyworker.errors import InternalError

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_QUIET = frozenset({"/health", "/ready", "/metrics"})
_ID_NAMES = ("job_id", "id", "request_id", "asset_id")

Answer = Callable[[Scope, InternalError], ASGIApp]
Observer = Callable[[str, str, int, float], None]


class RequestLog:
    """Middleware: logs every request by its route; neither query strings nor tokens within paths are written.

    What nobody has caught is logged with its traceback, once, and answered as `internal_error`.
    """

    def __init__(self, app: ASGIApp, *, answer: Answer, observe: Observer) -> None:
        """Stand before `app`.

        Args:
            app: What answers.
            answer: Makes the answer for a fault of our own, in the shape of the path's API.
            observe: Called with method, route, status and seconds, for each request.
        """
        self._app = app
        self._answer = answer
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun_at = time.perf_counter()
        sent = _Sent(send)
        try:
            await self._app(scope, receive, sent)
        except Exception as error:  # noqa: BLE001  # the top of the host
            await self._fail(error, scope, receive, sent)
        finally:
            self._note(scope, sent.status, time.perf_counter() - begun_at)

    async def _fail(self, error: Exception, scope: Scope, receive: Receive, sent: _Sent) -> None:
        log.error("http.failed", method=scope["method"], route=_route(scope), exc_info=error)
        if sent.status is None:
            fault = InternalError("the server failed at this request", hint="The server's log has the cause.")
            await self._answer(scope, fault)(scope, receive, sent)

    def _note(self, scope: Scope, status: int | None, duration_s: float) -> None:
        route, shown = _route(scope), status or 499  # nothing was sent: the client went before it could be
        self._observe(scope["method"], route, shown, duration_s)
        note = log.debug if route in _QUIET else log.info
        ids = {name: value for name, value in scope.get("path_params", {}).items() if name in _ID_NAMES}
        note("http.answered", method=scope["method"], route=route, status=shown, duration_s=round(duration_s, 4), **ids)


class _Sent:
    """Hands on what is sent, and remembers the status."""

    def __init__(self, send: Callable[[Message], Awaitable[None]]) -> None:
        self.status: int | None = None
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


def _route(scope: Scope) -> str:
    """Return the route's template: a path itself may hold a token, and has no end of values for metrics."""
    return str(getattr(scope.get("route"), "path", "") or "unknown")
