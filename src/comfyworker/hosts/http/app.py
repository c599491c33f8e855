"""The server's routes, put together: three APIs and what belongs to none of them."""

from __future__ import annotations

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


def create_app(context: HostContext, metrics: Metrics, modifiers: Modifiers) -> FastAPI:
    """Return the app that serves `context`.

    Args:
        context: What the routes work with.
        metrics: What GET /metrics shows, and where requests are counted.
        modifiers: Whose schemas the OpenAPI document has.
    """
    app = FastAPI(
        title="comfyworker",
        version=__version__,
        description=_DESCRIPTION,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.context = context
    for router in (operation.router(metrics), artifacts.router(), *(api.router() for api in APIS)):
        app.include_router(router)
    app.add_exception_handler(WorkerError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_framework)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    _describe(app, modifiers)
    _guard(app, context.settings.http, metrics)
    return app


def api_of(path: str) -> HttpApi:
    """Return the API whose clients use `path`."""
    return next((api for api in APIS if api.has(path)), APIS[-1])


def render_error(path: str, error: WorkerError) -> Response:
    """Return the answer for an error, in the shape that the clients of `path` know."""
    response = api_of(path).render_error(error)
    if isinstance(error, RequestTooLarge):
        response.headers["Connection"] = "close"  # the rest of the body is not waited for
    return response


async def _answer_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, WorkerError):  # starlette's types do not tell which one it hands in
        raise error
    return render_error(request.url.path, error)


async def _answer_framework(request: Request, error: Exception) -> Response:
    """Answer for paths and methods that nobody knows."""
    if not isinstance(error, HTTPException):
        raise error
    refusal = NotFound(
        f"there is no {request.method} {request.url.path}", hint="GET /docs lists what this server answers."
    )
    response = render_error(request.url.path, refusal)
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
    return render_error(request.url.path, refusal)


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


def _guard(app: FastAPI, settings: HttpSettings, metrics: Metrics) -> None:
    """Put before the routes what holds for all of them; the last one added stands first."""
    app.add_middleware(_Browsers, settings=settings)
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
        answer=lambda scope, error: render_error(scope["path"], error),
        observe=metrics.request_answered,
    )
    app.add_middleware(Turns)


class _Browsers:
    """Middleware: refuses what web pages may not do (`browsers.check_origin`)."""

    def __init__(self, app: ASGIApp, *, settings: HttpSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._app
        if scope["type"] == "http":
            try:
                check_origin(scope["method"], Request(scope).headers, self._settings)
            except WorkerError as error:
                answer = render_error(scope["path"], error)
        await answer(scope, receive, send)
