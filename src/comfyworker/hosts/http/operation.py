"""The routes for whoever runs the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from comfyworker.hosts.http.context import context_of
from comfyworker.hosts.http.health import alive, readiness
from comfyworker.hosts.http.metrics import CONTENT_TYPE, Metrics
from comfyworker.hosts.http.rendering import json_answer
from comfyworker.hosts.http.routing import Owner, Router


def router(metrics: Metrics) -> Router:
    """Return the routes; `metrics` is what GET /metrics shows."""
    routes = Router(tag="Operation", operations=_operations)

    async def show_metrics(request: Request, owner: Owner) -> Response:
        """Needs an API key where there are any."""
        del owner  # who has no key learns nothing
        return Response(await metrics.render(context_of(request)), media_type=CONTENT_TYPE)

    routes.add("/", go_to_docs)
    routes.add("/health", show_health, operation_id="health")
    routes.add("/ready", show_readiness, operation_id="ready")
    routes.add("/metrics", show_metrics, operation_id="metrics")
    return routes


async def go_to_docs() -> Response:
    """Lead to the document."""
    return RedirectResponse("docs")


async def show_health(request: Request) -> Response:
    """Needs no API key. Says nothing about ComfyUI: that is `/ready`."""
    return json_answer(await alive(request))


async def show_readiness(request: Request) -> Response:
    """Needs no API key. 200 while a ComfyUI takes jobs, else 503 with the reason."""
    is_ready, answer = await readiness(context_of(request))
    return json_answer(answer, 200 if is_ready else 503)


def _operations() -> Mapping[str, Mapping[str, Any]]:  # Any: what FastAPI takes
    return {
        "health": {"summary": "Whether the server lives"},
        "ready": {
            "summary": "Whether a job that comes now would run",
            "responses": {503: {"description": "Not now; `reason` says why"}},
        },
        "metrics": {
            "summary": "Metrics for Prometheus",
            "response_class": Response,
            "responses": {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
        },
    }
