"""The worker that every host drives: ComfyUIs, the pipeline upon them, and those who want to hear of jobs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from comfyworker.comfyui.model_sources import ModelSources
from comfyworker.comfyui.pool import ComfyUIPool
from comfyworker.comfyui.previews import PreviewSink
from comfyworker.comfyui.succession import Succession
from comfyworker.delivery.choosing import ArtifactSink, Deliveries
from comfyworker.errors import WorkerError
from comfyworker.finishing import beside, finish
from comfyworker.hosts.notices import Notices
from comfyworker.hosts.prefetching import prefetching
from comfyworker.hosts.provisioning import provisioning
from comfyworker.hosts.startup import COMFYUI, Startup
from comfyworker.jobs import JobRequest, JobResult, JobStatus
from comfyworker.modifiers import load_modifiers
from comfyworker.settings import Settings
from comfyworker.webhooks import Webhooks

if TYPE_CHECKING:  # see open_pipeline
    from comfyworker.pipeline import Pipeline, ProgressSink
    from comfyworker.running import StandAside

_LAST_WORDS_WITHIN_S = 5.0
_Told = TypeVar("_Told")


@contextlib.asynccontextmanager
async def open_pipeline(
    settings: Settings,
    *,
    cwd: Path | None = None,
    deliveries: Deliveries | None = None,
    hold: asyncio.Event | None = None,
    startup: Startup | None = None,
) -> AsyncIterator[Pipeline]:
    """Start the ComfyUIs that the settings lead to, and run jobs on them until the context ends.

    Raises:
        ComfyUINotFound: there is no ComfyUI.
        InvalidSettings: a modifier file, the default workflow, the object storage or PREFETCH_MODELS is wrong.
    """
    modifiers = load_modifiers(settings.modifiers)
    deliveries = deliveries or Deliveries(settings)
    succession = Succession(settings.state.path / "comfyui-clients", keeps_outputs=settings.delivery.keep_outputs)
    cwd = cwd or Path.cwd()
    async with (
        provisioning(settings, cwd=cwd, startup=startup) as made_ready,
        prefetching(settings, cwd=cwd) as prefetch,
    ):
        models = ModelSources(settings.volume, folder=settings.state.path / "comfyui", cwd=cwd, nearer=prefetch)
        pool = ComfyUIPool(
            settings.comfyui,
            settings.shutdown,
            cwd=cwd,
            succession=succession,
            models=models,
            hold=hold,
            before_start=made_ready.make_nodes if made_ready is not None else None,
        )
        arrivals = made_ready.arrivals if made_ready is not None else None
        async with pool:
            # Loaded only now: ComfyUI starts meanwhile.
            from comfyworker.pipeline import Pipeline  # noqa: PLC0415  # as said above

            pipeline = Pipeline(
                pool, settings, modifiers, deliveries=deliveries, cwd=cwd, arrivals=arrivals, prefetch=prefetch
            )
            async with pipeline:
                yield pipeline


class Worker:
    """Runs jobs and tells of them."""

    def __init__(self, pipeline: Pipeline, webhooks: Webhooks, *, startup: Startup | None = None) -> None:
        """Run jobs on `pipeline`, tell of them through `webhooks`, and of `startup` in the first result."""
        self.pipeline = pipeline
        self.webhooks = webhooks
        self.startup = startup

    async def run(
        self,
        request: JobRequest,
        *,
        created_at: float | None = None,
        on_progress: ProgressSink | None = None,
        on_artifact: ArtifactSink | None = None,
        on_preview: PreviewSink | None = None,
        stand_aside: StandAside | None = None,
    ) -> JobResult:
        """Run one job to its end; a failure is a result too.

        When it returns, whoever is to be told of the end will be, also if the worker ends before that.

        Args:
            request: The job.
            created_at: When it came in, in seconds of Unix time; None is now.
            on_progress: Called for every change of progress, on the event loop; must not block.
            on_artifact: Called for every file that has been delivered, on the event loop; must not block.
            on_preview: Called for every preview that ComfyUI makes while a node samples, on the event loop.
            stand_aside: Leaves the job's place to others while it waits for models; None has it keep its place.

        Raises:
            asyncio.CancelledError: the caller was cancelled; by then the job has left ComfyUI and the disk.
        """
        created_at = time.time() if created_at is None else created_at
        begun_s = self._now_s()
        try:
            hook = self.webhooks.hook_for(request)
        except WorkerError as error:
            return _dated(JobResult.refused(request.id, error), created_at)
        if hook is None:
            result = await self.pipeline.run(
                request,
                on_progress=on_progress,
                on_artifact=on_artifact,
                on_preview=on_preview,
                stand_aside=stand_aside,
            )
            return _dated(self._with_start(result, begun_s), created_at)
        notices = Notices(self.webhooks, hook)
        try:
            result = await self.run_and_tell(
                request,
                notices,
                created_at=created_at,
                on_progress=on_progress,
                on_artifact=on_artifact,
                on_preview=on_preview,
                stand_aside=stand_aside,
            )
        except asyncio.CancelledError:
            notices.ended(_dated(JobResult(id=request.id, status=JobStatus.CANCELED), created_at))
            notices.close()
            await finish(notices.tell_all(), within_s=_LAST_WORDS_WITHIN_S, name="telling of a canceled job")
            raise
        return result

    async def run_and_tell(  # noqa: PLR0913  # `run` with two more
        self,
        request: JobRequest,
        notices: Notices,
        *,
        created_at: float,
        on_progress: ProgressSink | None = None,
        on_artifact: ArtifactSink | None = None,
        on_preview: PreviewSink | None = None,
        stand_aside: StandAside | None = None,
        tells_end: bool = True,
    ) -> JobResult:
        """Run one job as `run` does, and tell `notices` of it; of its end only if `tells_end`.

        Raises:
            asyncio.CancelledError: the caller was cancelled; the notices have not heard of it.
        """
        begun_s = self._now_s()
        notices.started()
        async with asyncio.TaskGroup() as group:
            group.create_task(notices.tell_all(), name=f"telling of {request.id}")
            result = await self.pipeline.run(
                request,
                on_progress=_both(notices.progress, on_progress),
                on_artifact=_both(notices.artifact, on_artifact),
                on_preview=on_preview,
                stand_aside=stand_aside,
            )
            result = _dated(self._with_start(result, begun_s), created_at)
            if tells_end:
                notices.ended(result)
            notices.close()
        return result

    def _now_s(self) -> float:
        return 0.0 if self.startup is None else self.startup.now_s()

    def _with_start(self, result: JobResult, begun_s: float) -> JobResult:
        """Return `result` with how the worker started, if it is the first one after that."""
        if self.startup is None:
            return result
        if result.timings.execute_s is not None:  # a ComfyUI ran it, also one that had been given up before
            self.startup.end(COMFYUI)
            self.startup.ready()
        cold_start = self.startup.take_for_answer(job_begun_s=begun_s)
        return result if cold_start is None else result.model_copy(update={"cold_start": cold_start})


def check_request(request: JobRequest, settings: Settings) -> None:
    """Look whether a job's artifacts and notices have somewhere to go, before anything is started for it.

    Raises:
        InvalidRequest: its store or its webhook cannot be.
        InvalidSettings: the worker's cannot be.
    """
    Deliveries(settings).choose(request)
    _webhooks(settings).hook_for(request)


def _webhooks(settings: Settings) -> Webhooks:
    return Webhooks(
        settings.webhook,
        folder=settings.state.path / "webhooks",
        allow_private_urls=settings.inputs.allow_private_urls,
    )


@contextlib.asynccontextmanager
async def open_worker(
    settings: Settings,
    *,
    cwd: Path | None = None,
    deliveries: Deliveries | None = None,
    startup: Startup | None = None,
    hold: asyncio.Event | None = None,
) -> AsyncIterator[Worker]:
    """Open all that a worker needs, webhooks that are still on their way included.

    Args:
        settings: The worker's settings.
        cwd: Where relative places are looked for; None is the current folder.
        deliveries: Where artifacts go; None takes what the settings lead to.
        startup: Is told when ComfyUI is started and when the first one answers, then that all is ready but the phases
            that the host expects; nothing waits for that.
        hold: Until it is set, ComfyUI is started but not spoken to, for a host that can take jobs before; None waits
            for nothing.

    Raises:
        ComfyUINotFound: there is no ComfyUI.
        InvalidSettings: a setting does not fit what it leads to.
    """
    async with (
        _webhooks(settings) as webhooks,
        open_pipeline(settings, cwd=cwd, deliveries=deliveries, hold=hold, startup=startup) as pipeline,
        _noted(pipeline.pool, startup),
    ):
        yield Worker(pipeline, webhooks, startup=startup)


def _noted(pool: ComfyUIPool, startup: Startup | None) -> contextlib.AbstractAsyncContextManager[None]:
    """Tell `startup` when the first ComfyUI answers, if one does before the context ends."""
    if startup is None:
        return contextlib.nullcontext()
    return beside(_note_comfyui(pool, startup), name="noting when ComfyUI is up")


async def _note_comfyui(pool: ComfyUIPool, startup: Startup) -> None:
    # One that was given up may still come back; then the first job that it takes tells.
    with contextlib.suppress(WorkerError):
        await pool.any_ready()
        startup.end(COMFYUI)
        startup.ready()


def _dated(result: JobResult, created_at: float) -> JobResult:
    return result.model_copy(update={"created_at": created_at, "completed_at": time.time()})


def _both(first: Callable[[_Told], None], second: Callable[[_Told], None] | None) -> Callable[[_Told], None]:
    def tell(told: _Told) -> None:
        first(told)
        if second is not None:
            second(told)

    return tell
