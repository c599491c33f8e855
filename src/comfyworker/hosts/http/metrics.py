"""What Prometheus reads: counted as it happens, or looked up when it asks."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from comfyworker.comfyui.gpus import list_nvidia_gpus
from comfyworker.hosts.http.context import HostContext
from comfyworker.hosts.startup import Startup
from comfyworker.jobs import Artifact, JobStatus
from comfyworker.service import JobRecord

if TYPE_CHECKING:  # few workers prefetch
    from comfyworker.prefetch.prefetch import ModelPrefetch

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_STAGE_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_REQUEST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 120)
_NOW = (JobStatus.QUEUED, JobStatus.RUNNING)


class Metrics:
    """All metrics of one server, in a registry of its own."""

    def __init__(self) -> None:
        """Begin at nothing."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types; a second series beside each, which nobody asks for
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._count_jobs()
        self._look_up()

    def _count_jobs(self) -> None:
        registry = self.registry
        self._ended = Counter(
            "comfyworker_jobs_ended",
            "Jobs that have ended since the start; `code` is the error's, if there was one.",
            ("api", "status", "code"),
            registry=registry,
        )
        self._queue_wait = Histogram(
            "comfyworker_job_queue_seconds",
            "Seconds between taking a job and beginning with it.",
            buckets=_STAGE_S,
            registry=registry,
        )
        self._stages = Histogram(
            "comfyworker_job_stage_seconds",
            "Seconds that jobs spent on each stage: prepare, wait, execute, collect, deliver, total.",
            ("stage",),
            buckets=_STAGE_S,
            registry=registry,
        )
        self._delivered = Counter(
            "comfyworker_delivered_bytes",
            "Bytes of artifacts delivered: to object `store`, or kept by this `host` for its clients.",
            ("to",),
            registry=registry,
        )
        self._requests = Histogram(
            "comfyworker_http_request_seconds",
            "Seconds that requests took, waits of /runsync and event streams included.",
            ("method", "route", "status"),
            buckets=_REQUEST_S,
            registry=registry,
        )

    def _look_up(self) -> None:
        registry = self.registry
        self._jobs = Gauge("comfyworker_jobs", "Jobs that wait or run now.", ("status",), registry=registry)
        self._queue_max = Gauge("comfyworker_queue_max", "Jobs that may wait at most.", registry=registry)
        self._oldest = Gauge(
            "comfyworker_queue_oldest_seconds", "Seconds that the oldest waiting job has waited.", registry=registry
        )
        self._ready = Gauge(
            "comfyworker_comfyui_ready", "1 while this ComfyUI takes jobs.", ("instance",), registry=registry
        )
        self._in_flight = Gauge(
            "comfyworker_comfyui_jobs",
            "Jobs on this ComfyUI, those in its own queue included.",
            ("instance",),
            registry=registry,
        )
        self._restarts = Gauge(
            "comfyworker_comfyui_restarts",
            "How often this ComfyUI was started anew, or came back.",
            ("instance",),
            registry=registry,
        )
        self._gpu = Gauge(
            "comfyworker_gpu_memory_bytes",
            "Memory of each NVIDIA GPU, `used` and `total`.",
            ("gpu", "kind"),
            registry=registry,
        )
        self._disk = Gauge(
            "comfyworker_disk_bytes",
            "Disk of STATE_DIR and of ComfyUI's outputs, `free` and `total`.",
            ("place", "kind"),
            registry=registry,
        )
        self._startup = Gauge(
            "comfyworker_startup_seconds",
            "When each phase of the start `begun` and `ended`, after the start of the process; `total`: until ready.",
            ("phase", "moment"),
            registry=registry,
        )

        self._look_up_models()

    def _look_up_models(self) -> None:
        registry = self.registry
        self._copies = Gauge("comfyworker_model_copies", "Models with a copy on the local disk.", registry=registry)
        self._copies_bytes = Gauge(
            "comfyworker_model_copies_bytes", "What these copies take of the disk.", registry=registry
        )
        self._models_used = Gauge(
            "comfyworker_model_uses",
            "Models of jobs since the start, by where they were when the job came: `copy`, `memory`, `disk`.",
            ("place",),
            registry=registry,
        )
        self._models_brought = Gauge(
            "comfyworker_model_brought_bytes",
            "Bytes since the start that were copied (`copy`), or only read ahead (`memory`).",
            ("to",),
            registry=registry,
        )
        self._copies_evicted = Gauge(
            "comfyworker_model_copies_evicted",
            "Copies since the start that made room for others.",
            registry=registry,
        )

    def job_ended(self, record: JobRecord) -> None:
        """Count a job that has ended."""
        result = record.result
        code = result.error.code if result is not None and result.error is not None else ""
        self._ended.labels(record.api, str(record.status), code).inc()
        if record.queue_s is not None:
            self._queue_wait.observe(record.queue_s)
        if result is None:
            return
        for name, seconds in result.timings.model_dump(exclude_none=True).items():
            self._stages.labels(name.removesuffix("_s")).observe(seconds)
        for artifact in result.artifacts:
            if artifact.failure is None:
                self._delivered.labels(_place(artifact)).inc(artifact.size_bytes)

    def request_answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request; `route` is its template."""
        self._requests.labels(method, route, str(status)).observe(seconds)

    async def render(self, context: HostContext) -> bytes:
        """Return all of it in Prometheus's text format."""
        counts = context.service.counts_now()
        for status, number in zip(_NOW, (counts.queued, counts.running), strict=True):
            self._jobs.labels(str(status)).set(number)
        self._queue_max.set(counts.max_queued)
        self._oldest.set(0 if counts.oldest_queued_at is None else max(time.time() - counts.oldest_queued_at, 0))
        folders = {"state": context.settings.state.path}
        for instance in context.worker.pipeline.pool.instances:
            self._ready.labels(instance.name).set(instance.is_ready)
            self._in_flight.labels(instance.name).set(instance.in_flight)
            self._restarts.labels(instance.name).set(instance.restarts)
            if instance.folders is not None:
                folders["comfyui"] = instance.folders.output
        for gpu in await list_nvidia_gpus():
            for kind, size_bytes in (("used", gpu.used_bytes), ("total", gpu.memory_bytes)):
                if size_bytes is not None:
                    self._gpu.labels(str(gpu.index), kind).set(size_bytes)
        await asyncio.to_thread(self._look_at_disks, folders)
        self._look_at_start(context.worker.startup)
        await self.look_at_models(context.worker.pipeline.prefetch)
        return generate_latest(self.registry)

    def _look_at_start(self, startup: Startup | None) -> None:
        if startup is None:
            return
        start = startup.so_far()
        moments = [(phase.name, phase.begun_s, phase.ended_s) for phase in start.phases]
        if startup.is_ready:
            moments.append(("total", 0.0, start.total_s))
        for name, begun_s, ended_s in moments:
            self._startup.labels(name, "begun").set(begun_s)
            self._startup.labels(name, "ended").set(ended_s)

    async def look_at_models(self, prefetch: ModelPrefetch | None) -> None:
        """Look up how near models are, and what has been brought; None is a worker that brings none nearer."""
        if prefetch is None:
            return
        figures = prefetch.figures
        for place, number in figures.uses.items():
            self._models_used.labels(str(place)).set(number)
        self._models_brought.labels("copy").set(figures.copied_bytes)
        self._models_brought.labels("memory").set(figures.read_bytes)
        if prefetch.copies is not None:
            contents = await asyncio.to_thread(prefetch.copies.contents)
            self._copies.set(contents.files)
            self._copies_bytes.set(contents.size_bytes)
            self._copies_evicted.set(figures.evicted_files)

    def _look_at_disks(self, folders: dict[str, Path]) -> None:
        for place, folder in folders.items():
            try:
                usage = shutil.disk_usage(folder)
            except OSError:  # a folder that is gone has no figure
                continue
            self._disk.labels(place, "free").set(usage.free)
            self._disk.labels(place, "total").set(usage.total)


def _place(artifact: Artifact) -> str:
    return "store" if artifact.url is not None else "host"
