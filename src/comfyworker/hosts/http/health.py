"""Whether the server lives, and whether it can run jobs now."""

from __future__ import annotations

import time

from pydantic import JsonValue
from starlette.requests import Request

from comfyworker._version import __version__
from comfyworker.comfyui.instance import ComfyUIInstance
from comfyworker.comfyui.pool import ComfyUIPool
from comfyworker.hosts.http.context import HostContext, context_of
from comfyworker.jobs import JobStatus
from comfyworker.service import Counts


async def alive(request: Request) -> dict[str, JsonValue]:
    """Return what GET /health says: that the server lives, and how much it has to do."""
    context = context_of(request)
    begun: dict[str, JsonValue] = {
        "status": "ok",
        "version": __version__,
        "uptime_s": round(time.time() - context.started_at, 1),
    }
    return begun | await runpod_health(request)


async def runpod_health(request: Request) -> dict[str, JsonValue]:
    """Return what RunPod's clients know as an endpoint's health; a ComfyUI is a worker there.

    Wire source: RunPod's `GET /v2/{endpoint}/health`.
    """
    context = context_of(request)
    counts = context.service.counts_now()  # a probe must not wait for a disk
    return {"jobs": _jobs(counts), "workers": _workers(context.worker.pipeline.pool.instances)}


def _jobs(counts: Counts) -> dict[str, JsonValue]:
    has = counts.by_status.get
    return {
        "completed": has(JobStatus.SUCCEEDED, 0),
        "failed": has(JobStatus.FAILED, 0),
        "inProgress": counts.running,
        "inQueue": counts.queued,
        "retried": counts.retried,
    }


def _workers(instances: tuple[ComfyUIInstance, ...]) -> dict[str, JsonValue]:
    ready = [instance for instance in instances if instance.is_ready]
    busy = sum(instance.in_flight > 0 for instance in ready)
    unhealthy = sum(instance.failure is not None for instance in instances if not instance.is_ready)
    return {
        "idle": len(ready) - busy,
        "initializing": len(instances) - len(ready) - unhealthy,
        "ready": len(ready),
        "running": busy,
        "throttled": 0,
        "unhealthy": unhealthy,
    }


async def readiness(context: HostContext) -> tuple[bool, dict[str, JsonValue]]:
    """Return whether a job that comes now would run, and the answer that says why not."""
    pool = context.worker.pipeline.pool
    instances = pool.instances
    counts = context.service.counts_now()
    reason = context.reason_to_wait()
    is_ready = any(instance.is_ready for instance in instances) and not counts.is_draining and reason is None
    answer: dict[str, JsonValue] = {
        "ready": is_ready,
        "comfyui": [_shown(instance) for instance in instances],
    }
    if not is_ready:
        answer["reason"] = reason or _reason(pool, is_draining=counts.is_draining)
    return is_ready, answer


def _reason(pool: ComfyUIPool, *, is_draining: bool) -> str:
    if is_draining:
        return "the server is shutting down"
    failures = [instance.failure for instance in pool.instances if instance.failure is not None]
    if failures:
        return failures[0].message
    return "custom nodes are being installed" if pool.is_preparing else "ComfyUI is starting"


def _shown(instance: ComfyUIInstance) -> dict[str, JsonValue]:
    shown: dict[str, JsonValue] = {"name": instance.name, "ready": instance.is_ready, "jobs": instance.in_flight}
    if instance.failure is not None:
        shown["error"] = {"code": instance.failure.code, "message": instance.failure.message}
    return shown
