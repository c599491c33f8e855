"""One job of RunPod's, from what the platform hands over to what the SDK is handed back. Needs no SDK."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager

import structlog

from comfyworker.delivery.choosing import ArtifactSink
from comfyworker.dialects import Dialect, choose_dialect, dialect_named
from comfyworker.errors import WorkerError, broken
from comfyworker.hosts.runpod.limits import limit_for_id
from comfyworker.hosts.runpod.outcome import Answer, make_answer
from comfyworker.hosts.runpod.submission import job_id_of, read_job
from comfyworker.hosts.worker import Worker
from comfyworker.jobs import JobResult, Progress
from comfyworker.settings import Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


async def answer_job(
    worker: Worker,
    job: Mapping[str, object],
    settings: Settings,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    on_artifact: ArtifactSink | None = None,
    stand_aside: Callable[[], AbstractAsyncContextManager[None]] | None = None,
) -> Answer:
    """Run one job and return what a handler of RunPod's SDK returns: the dialect's answer, `error` at its top if any.

    Args:
        worker: Runs it; its deliveries should have been made with this host's `answer_limit_bytes`.
        job: What the platform hands over.
        settings: The worker's settings.
        on_progress: Called for every change of progress, on the event loop; must not block.
        on_artifact: Called for every file that has been delivered, on the event loop; must not block.
        stand_aside: Leaves the job's place to others while it waits for models; None has it keep its place.

    Raises:
        asyncio.CancelledError: the caller was cancelled; by then the job has left ComfyUI and the disk.
    """
    created_at, job_id = time.time(), job_id_of(job)
    spoken = spoken_for(job, settings)
    try:
        request = read_job(job, spoken)
        result = await worker.run(
            request,
            created_at=created_at,
            on_progress=on_progress,
            on_artifact=on_artifact,
            stand_aside=stand_aside,
        )
    except WorkerError as error:
        log.info("runpod.refused", job_id=job_id, code=error.code, error=error.message)
        result = JobResult.refused(job_id, error)
    except Exception:
        # The SDK would send a traceback to the client.
        log.exception("runpod.broke", job_id=job_id)
        result = JobResult.refused(job_id, broken())
    return answer_of(job, result, settings)


def answer_of(job: Mapping[str, object], result: JobResult, settings: Settings) -> Answer:
    """Return the answer for what came of a job, no larger than the platform takes."""
    limit_bytes = settings.delivery.answer_max_bytes or limit_for_id(job_id_of(job))
    return make_answer(spoken_for(job, settings), result, limit_bytes=limit_bytes)


def spoken_for(job: Mapping[str, object], settings: Settings) -> Dialect:
    """Return the dialect that a job is answered in."""
    try:
        return choose_dialect(job, default=settings.job.response_format)
    except WorkerError:
        return dialect_named(settings.job.response_format)
