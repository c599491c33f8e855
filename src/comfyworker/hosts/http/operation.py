"""The routes for whoever runs the server."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from comfyworker.hosts.http.context import context_of, owner_of
from comfyworker.hosts.http.health import alive, readiness
from comfyworker.hosts.http.metrics import CONTENT_TYPE, Metrics
from comfyworker.hosts.http.rendering import json_answer


def router(metrics: Metrics) -> APIRouter:
    """Return the routes; `metrics` is what GET /metrics shows."""
    routes = APIRouter(tags=["Operation"])

    @routes.get("/", include_in_schema=False)
    async def go_to_docs() -> Response:
        return RedirectResponse("docs")

    @routes.get("/health", summary="Whether the server lives", operation_id="health")
    async def show_health(request: Request) -> Response:
        """Needs no API key. Says nothing about ComfyUI: that is `/ready`."""
        return json_answer(await alive(request))

    @routes.get(
        "/ready",
        summary="Whether a job that comes now would run",
        operation_id="ready",
        responses={503: {"description": "Not now; `reason` says why"}},
    )
    async def show_readiness(request: Request) -> Response:
        """Needs no API key. 200 while a ComfyUI takes jobs, else 503 with the reason."""
        is_ready, answer = await readiness(context_of(request))
        return json_answer(answer, 200 if is_ready else 503)

    @routes.get(
        "/metrics",
        summary="Metrics for Prometheus",
        operation_id="metrics",
        dependencies=[Depends(owner_of)],
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def show_metrics(request: Request) -> Response:
        """Needs an API key where there are any."""
        return Response(await metrics.render(context_of(request)), media_type=CONTENT_TYPE)

    return routes
