"""The road of a job: prepare → execute → collect → deliver → result. The order of the stages is written only here."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import structlog
from pydantic import JsonValue

from comfyworker.comfyui.client import NotConnected
from comfyworker.comfyui.collecting import Collected, collect_outputs, find_outputs, remove_outputs
from comfyworker.comfyui.crashes import CrashRecord
from comfyworker.comfyui.instance import ComfyUIInstance, CrashedBeforeBegin
from comfyworker.comfyui.pool import ComfyUIPool
from comfyworker.comfyui.previews import PreviewSink
from comfyworker.comfyui.tracker import PromptTracker
from comfyworker.delivery.bringing import Bringer, delivery_failed
from comfyworker.delivery.choosing import ArtifactSink, Deliveries
from comfyworker.delivery.protocol import Delivery
from comfyworker.delivery.spool import Spool
from comfyworker.delivery.undelivered import Undelivered
from comfyworker.errors import (
    ComfyUICrashed,
    ComfyUIUnavailable,
    InvalidWorkflow,
    JobTimeout,
    WorkerError,
    broken,
)
from comfyworker.finishing import finish
from comfyworker.inputs.prepare import DecodedFile, prepare_files
from comfyworker.inputs.store import InputStore
from comfyworker.jobs import Artifact, JobRequest, JobResult, Progress
from comfyworker.provision.arrivals import Arrivals
from comfyworker.readiness import Readiness
from comfyworker.running import RunningJob, Stage, StandAside
from comfyworker.settings import Settings
from comfyworker.workflow.files import find_url_inputs, rename_files
from comfyworker.workflow.fresh import mark_outputs
from comfyworker.workflow.models import model_files
from comfyworker.workflow.modifiers import Modifiers
from comfyworker.workflow.node_classes import NodeClasses
from comfyworker.workflow.output_nodes import output_nodes
from comfyworker.workflow.weights import node_weights

if TYPE_CHECKING:  # few workers prefetch, and it takes a while to import
    from comfyworker.prefetch.prefetch import ModelPrefetch

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

ProgressSink = Callable[[Progress], None]

_SWEEP_EVERY_S = 600.0
_CLEAN_UP_WITHIN_S = 10.0
_KEEP_BYTES_PER_S = 10e6  # which a slow disk takes
_ATTEMPTS = 3  # of a job whose ComfyUI ended before it had begun with it


class Pipeline:
    """Runs jobs on a pool of ComfyUIs; one for all jobs of a worker, which may overlap.

    An async context manager, whose end waits until all that the jobs left on the disk is removed.
    """

    def __init__(  # noqa: PLR0913  # made in one place
        self,
        pool: ComfyUIPool,
        settings: Settings,
        modifiers: Modifiers | None = None,
        *,
        deliveries: Deliveries | None = None,
        cwd: Path | None = None,
        arrivals: Arrivals | None = None,
        prefetch: ModelPrefetch | None = None,
    ) -> None:
        """Run jobs on a pool of ComfyUIs.

        Args:
            pool: The ComfyUIs.
            settings: The worker's settings.
            modifiers: What a job may name instead of a workflow of its own; None is none.
            deliveries: The ways in which artifacts leave this host, opened and closed with the pipeline; None takes
                those that every host has.
            cwd: Where relative places lie; None is the current folder.
            arrivals: Models that are being brought while jobs run already; None is none.
            prefetch: Brings jobs' models nearer while they wait and run; None is nobody.
        """
        self.pool = pool
        self._settings = settings
        self._deliveries = deliveries or Deliveries(settings)
        self._bringer = Bringer(settings.delivery)
        self._undelivered = Undelivered(
            settings.state.path / "undelivered", keep_s=settings.delivery.keep_failed_outputs_s
        )
        self._crashes = CrashRecord()
        self._spool = Spool(settings.delivery.spool_dir)
        self._swept_at = time.monotonic()
        self._stores: dict[str, InputStore] = {}
        self.prefetch = prefetch
        self._clean_ups = asyncio.TaskGroup()
        self.modifiers = modifiers or Modifiers()
        self._readiness = Readiness(settings, self.modifiers, cwd=cwd or Path.cwd(), arrivals=arrivals)

    async def __aenter__(self) -> Self:
        """Be ready for jobs."""
        await self._deliveries.__aenter__()
        await self._readiness.__aenter__()
        await self._clean_ups.__aenter__()
        self._sweep()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the clean-ups."""
        # Not told of an error: a job that failed is no reason to leave the others' files where they are.
        try:
            await self._readiness.__aexit__(kind, error, trace)
            await self._clean_ups.__aexit__(None, None, None)
        finally:
            await self._deliveries.__aexit__(kind, error, trace)

    async def run(
        self,
        request: JobRequest,
        *,
        delivery: Delivery | None = None,
        on_progress: ProgressSink | None = None,
        on_artifact: ArtifactSink | None = None,
        on_preview: PreviewSink | None = None,
        stand_aside: StandAside | None = None,
    ) -> JobResult:
        """Run one job to its end; a failure is a result too.

        Args:
            request: The job.
            delivery: Where its artifacts go; None chooses by the request and the settings.
            on_progress: Called for every change of progress, on the event loop; must not block.
            on_artifact: Called for every file that has been delivered, on the event loop; must not block.
            on_preview: Called for every preview that ComfyUI makes while a node samples, on the event loop.
            stand_aside: Leaves the job's place to others while it waits for models; None has it keep its place.

        Raises:
            asyncio.CancelledError: the caller was cancelled; by then the job has left ComfyUI and the disk.
        """
        job = RunningJob(request, on_progress, on_preview, stand_aside)
        with structlog.contextvars.bound_contextvars(job_id=request.id, prompt_id=job.prompt_id):
            log.debug("job.started", nodes=len(job.graph), files=len(request.files))
            try:
                result = await self._run_within_deadline(job, delivery, on_artifact)
            except asyncio.CancelledError:
                log.info("job.canceled", stage=job.stage)
                raise
            except WorkerError as error:
                result = job.failed(error)
            except Exception:
                log.exception("job.broke", stage=job.stage)
                result = job.failed(broken())
            job.log_end(result)
            if time.monotonic() - self._swept_at > _SWEEP_EVERY_S:
                self._sweep()
            return result

    async def check(self, request: JobRequest) -> None:
        """Refuse a job that would be refused when its turn comes, as far as can be told without running it.

        While no ComfyUI answers, nothing can be told, and nothing is refused.

        Raises:
            InvalidRequest: something is wrong with the modifier's parameters or with how the files are wanted.
            InvalidWorkflow: with everything that is wrong with the workflow.
            ProvisioningFailed: a model that config.yml asks for could not be had.
        """
        self._bringer.check(request.output)
        ready = next((instance for instance in self.pool.instances if instance.is_ready), None)
        if ready is not None:
            with contextlib.suppress(ComfyUIUnavailable):
                await self._readiness.foresee(RunningJob(request, None), ready)

    async def _run_within_deadline(
        self, job: RunningJob, delivery: Delivery | None, on_artifact: ArtifactSink | None
    ) -> JobResult:
        timeout_s = job.request.timeout_s or self._settings.job.timeout_s
        job.deadline = deadline = asyncio.timeout(timeout_s)
        try:
            async with deadline:
                return await self._run_stages(job, delivery, on_artifact)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise JobTimeout(
                f"the job was not done within {timeout_s:g} s and was stopped in the stage '{job.stage}'",
                hint="Give it more time (`timeout` in the request, JOB_TIMEOUT_S for all) or less to do.",
                details={"stage": str(job.stage), "timeout_s": timeout_s, "progress": job.progress.value},
            ) from error

    async def _run_stages(
        self, job: RunningJob, wanted: Delivery | None, on_artifact: ArtifactSink | None
    ) -> JobResult:
        clean_up = contextlib.AsyncExitStack()
        async with contextlib.AsyncExitStack() as on_failure:
            on_failure.push_async_exit(clean_up)
            with job.at(Stage.PREPARE):
                # First of all: what cannot be delivered is not even begun.
                self._bringer.check(job.request.output)
                delivery = wanted or self._deliveries.choose(job.request, on_artifact)
                files = await prepare_files(job.request.files, self._settings.inputs)
            async with contextlib.AsyncExitStack() as nearer:
                if not any(instance.is_ready for instance in self.pool.instances):
                    # The workflow is not put together yet, but most models stand in it: they are read meanwhile.
                    await nearer.enter_async_context(self._models_wanted(job, is_early=True))
                ready = await self._any_ready(job)
                with contextlib.suppress(NotConnected):
                    # One that has just gone is no fault of the job: it is checked again on the one that it gets.
                    classes = await self._readiness.make(job, ready)
                    with job.counted_as(Stage.PREPARE):
                        await self._fetch(job, classes)
                await nearer.enter_async_context(self._models_wanted(job))
                instance, tracker = await self._execute_somewhere(job, files, clean_up)
            with job.at(Stage.COLLECT):
                spool = await clean_up.enter_async_context(self._spool.folder())
                collected = await self._collect(job, instance, tracker, spool)
                job.warnings.extend(collected.warnings)
            with job.at(Stage.DELIVER):
                await self._deliver(job, delivery, collected.artifacts, spool)
            on_failure.pop_all()
        # The answer does not wait until the disk has let go of the job's files; a failed job's files go first.
        self._clean_ups.create_task(clean_up.aclose(), name=f"cleaning up after {job.prompt_id}")
        return job.succeeded()

    def _models_wanted(
        self, job: RunningJob, *, is_early: bool = False
    ) -> contextlib.AbstractAsyncContextManager[None]:
        if self.prefetch is None:
            return contextlib.nullcontext()
        return self.prefetch.wanted(job.graph, is_early=is_early)

    async def _collect(
        self, job: RunningJob, instance: ComfyUIInstance, tracker: PromptTracker, spool: Path
    ) -> Collected:
        """Bring the outputs within reach; where one is not, the others are kept."""
        try:
            return await collect_outputs(instance, tracker.outputs, spool=spool)
        except BaseException as error:
            await self._keep_unless_canceled(job, error, find_outputs(instance, tracker.outputs))
            raise

    async def _deliver(self, job: RunningJob, delivery: Delivery, artifacts: tuple[Artifact, ...], spool: Path) -> None:
        """Bring the artifacts to where they belong; what does not arrive is kept, and fails the job."""
        try:
            brought = await self._bringer.bring(artifacts, job.request.output, delivery=delivery, spool=spool)
        except BaseException as error:
            await self._keep_unless_canceled(job, error, artifacts)
            raise
        job.artifacts = brought.artifacts
        job.warnings.extend(brought.warnings)
        lost = [artifact for artifact in brought.artifacts if artifact.failure is not None]
        if lost:
            kept = await self._keep(job, lost)
            raise delivery_failed(brought.artifacts, kept=kept, are_left=job.keeps_outputs)
        job.keeps_outputs = delivery.keeps_outputs

    async def _keep_unless_canceled(self, job: RunningJob, error: BaseException, artifacts: Sequence[Artifact]) -> None:
        # A job that somebody canceled is not wanted any more; one that ran out of time may be.
        if not isinstance(error, asyncio.CancelledError) or job.is_overdue:
            await self._keep(job, artifacts)

    async def _keep(self, job: RunningJob, artifacts: Sequence[Artifact]) -> tuple[str, ...]:
        """Keep files that did not arrive, also while the job is being cancelled; return the names of those kept."""

        async def keep() -> None:
            job.kept = await asyncio.to_thread(self._undelivered.keep, job.request.id, artifacts)

        size_bytes = sum(artifact.size_bytes for artifact in artifacts)
        within_s = _CLEAN_UP_WITHIN_S + size_bytes / _KEEP_BYTES_PER_S
        await finish(keep(), within_s=within_s, name="undelivered files")
        if len(job.kept) < sum(artifact.path is not None for artifact in artifacts):
            # Where they cannot be kept, they are at least not removed.
            job.keeps_outputs = self._settings.delivery.keep_failed_outputs_s > 0
        return job.kept

    def _sweep(self) -> None:
        """Remove in the background what has been left or kept long enough."""
        self._swept_at = time.monotonic()
        for sweep in (self._undelivered.sweep, self._spool.sweep):
            self._clean_ups.create_task(asyncio.to_thread(sweep), name="sweeping what is left")

    async def _any_ready(self, job: RunningJob) -> ComfyUIInstance:
        if not any(instance.is_ready for instance in self.pool.instances):
            job.say("waiting for ComfyUI")
        with job.waiting():
            return await self.pool.any_ready()

    async def _execute_somewhere(
        self, job: RunningJob, files: tuple[DecodedFile, ...], clean_up: contextlib.AsyncExitStack
    ) -> tuple[ComfyUIInstance, PromptTracker]:
        """Execute the job; again, elsewhere if there is another, when ComfyUI cannot have begun with it."""
        models = model_files(job.graph)
        attempt = 1
        while True:
            job.enter(Stage.WAIT)
            try:
                async with contextlib.AsyncExitStack() as lease:
                    with job.waiting():
                        instance = await lease.enter_async_context(self.pool.lease(models))
                    try:
                        return instance, await self._execute(job, instance, files, clean_up)
                    except InvalidWorkflow as error:
                        refusal = error
                # Outside of the lease: others run meanwhile.
                job.enter(Stage.PREPARE)
                await self._readiness.mend(job, instance, refusal)
            except (CrashedBeforeBegin, NotConnected) as error:
                if attempt == _ATTEMPTS:
                    raise
                attempt += 1
                log.warning("job.requeued", error=error.message)
            except ComfyUICrashed as error:
                judged = await asyncio.to_thread(self._crashes.judge, job.request, error)
                raise judged from error

    async def _execute(
        self,
        job: RunningJob,
        instance: ComfyUIInstance,
        files: tuple[DecodedFile, ...],
        clean_up: contextlib.AsyncExitStack,
    ) -> PromptTracker:
        """Execute the job on one ComfyUI; its outputs stay until `clean_up`, its input files until its end."""
        with job.counted_as(Stage.PREPARE):
            classes = await self._readiness.check(job, instance)
            files = (*files, *await self._fetch(job, classes))
            placed = await self._store(instance).place(files)
        try:
            graph, used = rename_files(job.graph, classes, placed.names)
            job.warn_unused({file.name for file in files} - used)
            tracker = PromptTracker(graph, node_weights(graph, classes), job.on_preview)
            nodes = frozenset(output_nodes(graph, classes))
            clean_up.push_async_callback(self._remove_outputs, job, instance, tracker, nodes, since=time.time())
            job.enter(Stage.EXECUTE)
            execution = await instance.execute(
                mark_outputs(graph, classes, job.prompt_id),
                prompt_id=job.prompt_id,
                tracker=tracker,
                extra_data=self._extra_data(job),
                withdraw_within_s=self._settings.job.cancel_deadline_s,
                on_progress=job.report,
            )
        finally:
            if files:
                await finish(placed.release(), within_s=_CLEAN_UP_WITHIN_S, name="input files")
        job.note_execution(execution)
        return tracker

    async def _fetch(self, job: RunningJob, classes: NodeClasses) -> tuple[DecodedFile, ...]:
        """Return the files whose URLs stand in the workflow's nodes; they are fetched once a job."""
        if job.fetched is None:
            brought = {file.name for file in job.request.files}
            wanted = [found for found in find_url_inputs(job.graph, classes) if found.url not in brought]
            job.fetched = await prepare_files((), self._settings.inputs, url_inputs=wanted) if wanted else ()
        return job.fetched

    async def _remove_outputs(
        self,
        job: RunningJob,
        instance: ComfyUIInstance,
        tracker: PromptTracker,
        nodes: frozenset[str],
        *,
        since: float,
    ) -> None:
        if job.keeps_outputs or self._settings.delivery.keep_outputs:
            return
        if instance.folders is None or not tracker.outputs:
            return
        remove = asyncio.to_thread(remove_outputs, instance.folders, dict(tracker.outputs), nodes, since=since)
        await finish(remove, within_s=_CLEAN_UP_WITHIN_S, name="outputs")

    def _store(self, instance: ComfyUIInstance) -> InputStore:
        store = self._stores.get(instance.name)
        if store is None:
            folder = instance.folders.input if instance.folders is not None else None
            store = self._stores[instance.name] = InputStore(folder, upload=instance.upload)
        return store

    def _extra_data(self, job: RunningJob) -> dict[str, JsonValue]:
        key = job.request.comfy_org_api_key or self._settings.job.comfy_org_api_key
        extra: dict[str, JsonValue] = {} if key is None else {"api_key_comfy_org": key.get_secret_value()}
        method = self._settings.comfyui.preview_method
        if job.on_preview is not None and method is not None:
            extra["preview_method"] = method  # from 0.4 on ComfyUI reads it for each prompt
        return extra
