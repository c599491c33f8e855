"""The server's routes, put together: three APIs and what belongs to none of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from comfyworker.errors import NotFound, RequestTooLarge, WorkerError
from comfyworker.hosts.http import artifacts, comfy_v2, operation, runpod, vast
from comfyworker.hosts.http.browsers import check_origin
from comfyworker.hosts.http.context import HostContext
from comfyworker.hosts.http.metrics import Metrics
from comfyworker.hosts.http.protocol import HttpApi
from comfyworker.hosts.http.request_log import RequestLog
from comfyworker.hosts.http.routing import HttpRoute, ServedRoute
from comfyworker.hosts.http.turns import Turns
from comfyworker.settings import HttpSettings
from comfyworker.workflow.modifiers import Modifiers

APIS: tuple[HttpApi, ...] = (comfy_v2.API, vast.API, runpod.API)
"""The first that has a path tells its errors; the last has all."""
_METHOD_NOT_ALLOWED = 405
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_PREFLIGHT_MAX_AGE_S = 600
_DOCUMENTS = ("/openapi.json", "/docs", "/docs/oauth2-redirect")

Gate = Callable[[Request], None]
"""Lets a request come to its route, or raises a WorkerError; does not read its body."""


def create_app(
    context: HostContext,
    metrics: Metrics,
    modifiers: Modifiers,
    *,
    apis: tuple[HttpApi, ...] = APIS,
    gate: Gate | None = None,
) -> Starlette:
    """Return the app that serves `context`.

    Args:
        context: What the routes work with.
        metrics: What GET /metrics shows, and where requests are counted.
        modifiers: Whose schemas the OpenAPI document has.
        apis: What is served; the first that has a path tells its errors, and the last has all.
        gate: Stands before all routes; None is nobody.
    """
    routes = routes_of(apis, metrics)
    documents = _Documents(routes, modifiers, needs_keys=bool(context.keys))
    app = Starlette(
        routes=[
            *(Route(path, documents, methods=["GET"]) for path in _DOCUMENTS),
            *(ServedRoute(route) for route in routes),
        ]
    )
    app.router.redirect_slashes = False
    app.state.context, app.state.apis = context, apis
    app.add_exception_handler(WorkerError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_framework)
    _guard(app, context.settings.http, metrics, gate)
    return app


def routes_of(apis: tuple[HttpApi, ...], metrics: Metrics) -> list[HttpRoute]:
    """Return all routes of a server with these APIs, but those of the OpenAPI document."""
    routers = (operation.router(metrics), artifacts.router(), *(api.router() for api in apis))
    return [route for router in routers for route in router.routes]


def render_error(scope: Scope, error: WorkerError) -> Response:
    """Return the answer for an error, in the shape that the clients of the request's path know."""
    path, apis = scope["path"], scope["app"].state.apis
    response: Response = next((api for api in apis if api.has(path)), apis[-1]).render_error(error)
    if isinstance(error, RequestTooLarge):
        response.headers["Connection"] = "close"  # the rest of the body is not waited for
    return response


async def _answer_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, WorkerError):  # starlette's types do not tell which one it hands in
        raise error
    return render_error(request.scope, error)


async def _answer_framework(request: Request, error: Exception) -> Response:
    """Answer for paths and methods that nobody knows."""
    if not isinstance(error, HTTPException):
        raise error
    refusal = NotFound(
        f"there is no {request.method} {request.url.path}", hint="GET /docs lists what this server answers."
    )
    response = render_error(request.scope, refusal)
    response.headers.update(error.headers or {})
    if error.status_code == _METHOD_NOT_ALLOWED:
        response.status_code = _METHOD_NOT_ALLOWED
        response.headers["Allow"] = ", ".join(_methods(request))
    return response


def _methods(request: Request) -> list[str]:
    """Return what the path can be asked with: starlette knows the methods of the first route only that has it."""
    path, routes = request.url.path, request.app.router.routes
    asked = [{"type": "http", "method": method, "path": path} for method in _METHODS]
    return [scope["method"] for scope in asked if any(route.matches(scope)[0] is Match.FULL for route in routes)]


def _guard(app: Starlette, settings: HttpSettings, metrics: Metrics, gate: Gate | None) -> None:
    """Put before the routes what holds for all of them; the last one added stands first."""
    if gate is not None:
        app.add_middleware(_Gated, gate=gate)
    app.add_middleware(_Gated, gate=lambda request: check_origin(request.method, request.headers, settings))
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"],
            expose_headers=["Retry-After", "Location"],
            max_age=_PREFLIGHT_MAX_AGE_S,
        )
    app.add_middleware(
        RequestLog,
        answer=render_error,
        observe=metrics.request_answered,
    )
    app.add_middleware(Turns)


class _Documents:
    """Shows the OpenAPI document. FastAPI makes it, which is loaded for that when somebody asks, and not before."""

    def __init__(self, routes: list[HttpRoute], modifiers: Modifiers, *, needs_keys: bool) -> None:
        self._needs_keys = needs_keys
        self._routes = routes
        self._modifiers = modifiers
        self._turn = asyncio.Lock()
        self._shown: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._turn:
            if self._shown is None:
                self._shown = await asyncio.to_thread(self._make)
        await self._shown({**scope}, receive, send)  # in ours, it would write down that the request is its own

    def _make(self) -> ASGIApp:
        from comfyworker.hosts.http.documentation import describe  # noqa: PLC0415  # as said

        return describe(self._routes, self._modifiers, needs_keys=self._needs_keys)


class _Gated:
    """Middleware: refuses what the gate does not let in."""

    def __init__(self, app: ASGIApp, *, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._app
        if scope["type"] == "http":
            try:
                self._gate(Request(scope))
            except WorkerError as error:
                answer = render_error(scope, error)
        await answer(scope, receive, send)
