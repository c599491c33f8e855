"""Where the worker is, and which host it therefore runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Final

import structlog
from pydantic import BaseModel, ConfigDict

from comfyworker.errors import InvalidSettings, Problem
from comfyworker.settings import HttpSettings, PlatformSettings, Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_CONTAINER_MARKS: Final = (".dockerenv", "run/.containerenv")  # Docker's, and Podman's
_MODES: Final = {"serverless": "runpod", "pod": "http"}


class HostKind(StrEnum):
    """Where jobs come from."""

    RUNPOD = "runpod"
    """RunPod Serverless, which the worker asks for jobs."""
    VAST = "vast"
    """Vast.ai's autoscaler, which sends clients to the worker."""
    HTTP = "http"
    """Whoever reaches the worker's own server."""


class HostChoice(BaseModel):
    """Which host to run, and what it was chosen by."""

    model_config = ConfigDict(frozen=True)

    kind: HostKind
    chosen_by: str
    """The names of the variables that decided, or what was not there."""
    doubts: tuple[str, ...] = ()
    """What speaks against it, for the log."""

    def log(self) -> None:
        """Log the choice, and each doubt."""
        log.info("start.host_chosen", host=str(self.kind), chosen_by=self.chosen_by)
        for doubt in self.doubts:
            log.warning("start.host_doubtful", host=str(self.kind), doubt=doubt)


def choose_host(settings: Settings) -> HostChoice:
    """Return the host that fits where the worker is.

    WORKER_HOST decides, else MODE_TO_RUN. Else RunPod gives its serverless workers, and no pod, a URL to take jobs
    from (RUNPOD_WEBHOOK_GET_JOB); Vast gives its serverless workers, and no other instance, an autoscaler to report to
    (REPORT_ADDR, MASTER_TOKEN). Else it is HTTP.

    Raises:
        InvalidSettings: it looks like both platforms.
    """
    platform, is_runpod, is_vast = settings.platform, _is_on_runpod(settings), _is_on_vast(settings)
    if platform.host != "auto":
        return HostChoice(kind=HostKind(platform.host), chosen_by="WORKER_HOST", doubts=_contrary(settings))
    if platform.mode in _MODES:
        return HostChoice(kind=HostKind(_MODES[platform.mode]), chosen_by="MODE_TO_RUN", doubts=_contrary(settings))
    if is_runpod and is_vast:
        message = "RUNPOD_WEBHOOK_GET_JOB says that this is RunPod, REPORT_ADDR and MASTER_TOKEN that it is Vast.ai"
        raise InvalidSettings(
            message,
            hint="Unset those of the platform that it is not, or set WORKER_HOST to runpod, vast or http.",
            problems=[Problem(message=message, code="two_platforms", path="WORKER_HOST")],
        )
    doubts = _local_doubts(platform) if is_runpod or is_vast else ()
    if is_runpod:
        return HostChoice(kind=HostKind.RUNPOD, chosen_by="RUNPOD_WEBHOOK_GET_JOB", doubts=doubts)
    if is_vast:
        return HostChoice(kind=HostKind.VAST, chosen_by="REPORT_ADDR, MASTER_TOKEN", doubts=doubts)
    return _http(settings)


def local_http(settings: Settings, *, root: Path = Path("/")) -> Settings:
    """Return `settings` so that HTTP is served as SERVE_API_LOCALLY asks for it, if it does.

    In a container on somebody's own machine the server listens on all addresses, since a mapped port reaches no other,
    and asks for no keys. It is the mapping that says who reaches it. What SERVE_HOST, SERVE_PORT and API_KEYS say goes
    before; on RunPod and Vast.ai, where strangers reach mapped ports, nothing is opened.

    Args:
        settings: The worker's settings.
        root: Where the marks of a container are looked for.
    """
    if not settings.platform.serve_api_locally or _is_in_cloud(settings):
        return settings
    is_in_container = any((root / mark).exists() for mark in _CONTAINER_MARKS)
    if not is_in_container or "host" in settings.http.model_fields_set:
        return settings
    if not settings.http.api_keys:
        log.warning("start.serves_without_keys", meant_for="this machine", map_port=_mapping(settings.http))
    opened = {"host": "0.0.0.0", "allow_anybody": True}  # noqa: S104  # this container's own, as said above
    return settings.model_copy(update={"http": settings.http.model_copy(update=opened)})


def _mapping(settings: HttpSettings) -> str:
    return f"127.0.0.1:{settings.port}:{settings.port}"


def _http(settings: Settings) -> HostChoice:
    platform = settings.platform
    if platform.serve_api_locally:
        return HostChoice(kind=HostKind.HTTP, chosen_by="SERVE_API_LOCALLY")
    if platform.runpod_endpoint_id and platform.runpod_pod_id:
        chosen_by = "RUNPOD_ENDPOINT_ID without RUNPOD_WEBHOOK_GET_JOB: no queue to take jobs from"
    elif platform.runpod_pod_id:
        chosen_by = "RUNPOD_POD_ID without RUNPOD_WEBHOOK_GET_JOB: a pod, no serverless worker"
    elif platform.vast_label:
        chosen_by = "VAST_CONTAINERLABEL without REPORT_ADDR and MASTER_TOKEN: an instance, no serverless worker"
    else:
        chosen_by = "no platform's variables"
    return HostChoice(kind=HostKind.HTTP, chosen_by=chosen_by, doubts=_half_vast(settings))


def _is_on_runpod(settings: Settings) -> bool:
    return settings.runpod.job_take_url is not None


def _is_on_vast(settings: Settings) -> bool:
    return bool(settings.vast.report_addresses) and settings.vast.master_token is not None


def _is_in_cloud(settings: Settings) -> bool:
    platform = settings.platform
    told = (platform.runpod_pod_id, platform.vast_label, settings.vast.public_ip)
    return any(told) or _is_on_runpod(settings) or _is_on_vast(settings)


def _half_vast(settings: Settings) -> tuple[str, ...]:
    """Say what is missing where Vast's variables are there by half."""
    named = {"REPORT_ADDR": bool(settings.vast.report_addresses), "MASTER_TOKEN": settings.vast.master_token}
    missing = [name for name, value in named.items() if not value]
    if len(missing) != 1:
        return ()
    there = next(name for name in named if name not in missing)
    return (f"{there} is set, but {missing[0]} is not: a serverless worker of Vast.ai has both",)


def _contrary(settings: Settings) -> tuple[str, ...]:
    """Say which platforms' variables are there although somebody has decided for a host."""
    platform = settings.platform
    kind = platform.host if platform.host != "auto" else _MODES[platform.mode or ""]
    found = []
    if kind != HostKind.RUNPOD and _is_on_runpod(settings):
        found.append("RUNPOD_WEBHOOK_GET_JOB is set: RunPod waits for this worker to take jobs")
    if kind != HostKind.VAST and _is_on_vast(settings):
        found.append("REPORT_ADDR and MASTER_TOKEN are set: Vast.ai waits for this worker to report")
    if platform.host != "auto" and platform.mode in _MODES and _MODES[platform.mode] != kind:
        found.append(f"MODE_TO_RUN is {platform.mode}")
    return (*found, *(_local_doubts(platform) if kind != HostKind.HTTP else ()))


def _local_doubts(platform: PlatformSettings) -> tuple[str, ...]:
    return ("SERVE_API_LOCALLY is for one's own machine: nothing is served here",) if platform.serve_api_locally else ()
