"""Jobs run as RunPod would run them, without RunPod: what `comfyworker test` is for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import structlog
from pydantic import JsonValue

from comfyworker.delivery.choosing import ArtifactSink, Deliveries
from comfyworker.errors import WorkerError
from comfyworker.hosts.runpod.answering import answer_job, answer_of, spoken_for
from comfyworker.hosts.runpod.limits import answer_limit_bytes
from comfyworker.hosts.runpod.submission import job_id_of, read_job
from comfyworker.hosts.startup import Startup
from comfyworker.hosts.worker import Worker, check_request, open_worker
from comfyworker.jobs import JobResult, Progress
from comfyworker.settings import Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

Job = dict[str, Any]  # Any: JSON from outside
"""A job as RunPod hands it over: `{id, input, …}`."""

Document = dict[str, JsonValue]
"""What RunPod tells of a job that has ended."""

COMPLETED: Final = "COMPLETED"
FAILED: Final = "FAILED"


async def try_jobs(
    jobs: Sequence[Job],
    settings: Settings,
    *,
    startup: Startup,
    on_answer: Callable[[Document], None],
    on_progress: Callable[[Progress], None] | None = None,
    on_artifact: ArtifactSink | None = None,
) -> None:
    """Run jobs one after another; `on_answer` gets what RunPod tells of each when it has ended.

    That is `{id, status, delayTime, executionTime, output | error}`, the times in milliseconds: until the worker was
    there and free, and from then on. A job that is wrong in itself is answered before anything is started.

    Args:
        jobs: What to run; each has an id.
        settings: The worker's settings.
        startup: Is told how the worker starts.
        on_answer: Called with each answer.
        on_progress: Called for every change of progress, on the event loop; must not block.
        on_artifact: Called for every file that has been delivered, on the event loop; must not block.
    """
    async with contextlib.AsyncExitStack() as stack:
        worker: Worker | None = None
        for job in jobs:
            asked_at = time.perf_counter()
            begun_at = asked_at
            try:
                check_request(read_job(job, spoken_for(job, settings)), settings)
                if worker is None:
                    worker = await stack.enter_async_context(_opened(settings, startup))
                begun_at = time.perf_counter()
            except WorkerError as error:
                answer = answer_of(job, JobResult.refused(job_id_of(job), error), settings)
            else:
                answer = await answer_job(worker, job, settings, on_progress=on_progress, on_artifact=on_artifact)
            times = {"delayTime": begun_at - asked_at, "executionTime": time.perf_counter() - begun_at}
            on_answer(_document(job_id_of(job), answer, times))


@contextlib.asynccontextmanager
async def _opened(settings: Settings, startup: Startup) -> AsyncIterator[Worker]:
    """Open a worker whose ComfyUI answers, or will not."""
    deliveries = Deliveries(settings, answer_limit_bytes=answer_limit_bytes)
    async with open_worker(settings, deliveries=deliveries, startup=startup) as worker:
        with contextlib.suppress(WorkerError):  # the job will tell why
            await worker.pipeline.pool.any_ready()
        yield worker


def _document(job_id: str, answer: dict[str, JsonValue], times_s: dict[str, float]) -> Document:
    """Return what RunPod makes of an answer.

    Wire source: RunPod's SDK, `run_job`: `error` is taken out of the answer and makes the job fail, `refresh_worker` is
    the platform's own, and what is left is the job's output.
    """
    output = {key: value for key, value in answer.items() if key not in {"error", "refresh_worker"}}
    document: Document = {"id": job_id, "status": FAILED if answer.get("error") else COMPLETED}
    document |= {name: round(seconds * 1000) for name, seconds in times_s.items()}
    if answer.get("error"):
        document["error"] = answer["error"]
    return {**document, "output": output} if output else document
