"""The server's routes, put together: three APIs and what belongs to none of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from comfyworker._version import __version__
from comfyworker.errors import InvalidRequest, NotFound, Problem, RequestTooLarge, WorkerError
from comfyworker.hosts.http import artifacts, comfy_v2, operation, runpod, vast
from comfyworker.hosts.http.browsers import check_origin
from comfyworker.hosts.http.context import HostContext
from comfyworker.hosts.http.metrics import Metrics
from comfyworker.hosts.http.modifier_schemas import add_modifiers
from comfyworker.hosts.http.protocol import HttpApi
from comfyworker.hosts.http.request_log import RequestLog
from comfyworker.hosts.http.turns import Turns
from comfyworker.settings import HttpSettings
from comfyworker.workflow.modifiers import Modifiers

APIS: tuple[HttpApi, ...] = (comfy_v2.API, vast.API, runpod.API)
"""The first that has a path tells its errors; the last has all."""
_METHOD_NOT_ALLOWED = 405
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_PREFLIGHT_MAX_AGE_S = 600
_DESCRIPTION = (
    "Runs ComfyUI workflows. The same jobs are reached in three ways: as RunPod's clients ask, as Vast's do, and as "
    "Comfy API v2's do."
)


Gate = Callable[[Request], None]
"""Lets a request come to its route, or raises a WorkerError; does not read its body."""


def create_app(
    context: HostContext,
    metrics: Metrics,
    modifiers: Modifiers,
    *,
    apis: tuple[HttpApi, ...] = APIS,
    gate: Gate | None = None,
) -> FastAPI:
    """Return the app that serves `context`.

    Args:
        context: What the routes work with.
        metrics: What GET /metrics shows, and where requests are counted.
        modifiers: Whose schemas the OpenAPI document has.
        apis: What is served; the first that has a path tells its errors, and the last has all.
        gate: Stands before all routes; None is nobody.
    """
    app = FastAPI(
        title="comfyworker",
        version=__version__,
        description=_DESCRIPTION,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.context, app.state.apis = context, apis
    for router in (operation.router(metrics), artifacts.router(), *(api.router() for api in apis)):
        app.include_router(router)
    app.add_exception_handler(WorkerError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_framework)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    _describe(app, modifiers)
    _guard(app, context.settings.http, metrics, gate)
    return app


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
    # A new scope for each: in the request's own, FastAPI has written down which route it came to.
    path, routes = request.url.path, request.app.router.routes
    asked = [{"type": "http", "method": method, "path": path} for method in _METHODS]
    return [scope["method"] for scope in asked if any(route.matches(scope)[0] is Match.FULL for route in routes)]


async def _answer_invalid(request: Request, error: Exception) -> Response:
    """Answer for query and path parameters that do not fit."""
    if not isinstance(error, RequestValidationError):
        raise error
    problems = [
        Problem(message=f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}", code="invalid_parameter")
        for item in error.errors()
    ]
    refusal = InvalidRequest("; ".join(problem.message for problem in problems), problems=problems)
    return render_error(request.scope, refusal)


def _describe(app: FastAPI, modifiers: Modifiers) -> None:
    """Add the modifiers to the OpenAPI document, once, when somebody asks for it."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        is_first = app.openapi_schema is None
        document = plain()
        if is_first:
            add_modifiers(document, modifiers)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _guard(app: FastAPI, settings: HttpSettings, metrics: Metrics, gate: Gate | None) -> None:
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
