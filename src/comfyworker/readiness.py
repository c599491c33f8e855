"""What a workflow must have before ComfyUI can run it: checked, and what it lacks waited for or fetched."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Self

from comfyworker.comfyui.instance import ComfyUIInstance
from comfyworker.errors import InvalidWorkflow, JobTimeout, WorkerError
from comfyworker.provision.arrivals import Arrivals
from comfyworker.provision.on_demand import OnDemandModels, Wanted
from comfyworker.running import RunningJob, Stage
from comfyworker.settings import Settings
from comfyworker.workflow.assembly import assemble
from comfyworker.workflow.modifiers import Modifiers
from comfyworker.workflow.node_classes import NodeClasses
from comfyworker.workflow.preflight import check_workflow, raise_problems


class Readiness:
    """Makes the workflows of a worker's jobs ready for its ComfyUIs; an async context manager."""

    def __init__(self, settings: Settings, modifiers: Modifiers, *, cwd: Path, arrivals: Arrivals | None) -> None:
        """Check workflows as they come, or as `modifiers` make them.

        Args:
            settings: The worker's settings.
            modifiers: What a job may name instead of a workflow of its own.
            cwd: Where relative places lie.
            arrivals: Models that are being brought while jobs run already; None is none.
        """
        self._modifiers = modifiers
        self._wait_s = settings.provision.model_wait_timeout_s
        self._models = OnDemandModels(settings, cwd=cwd)
        self._arrivals = arrivals

    async def __aenter__(self) -> Self:
        """Be ready for jobs."""
        await self._models.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the downloads that are under way; what has come is kept for another time."""
        await self._models.__aexit__(kind, error, trace)

    async def foresee(self, job: RunningJob, instance: ComfyUIInstance) -> None:
        """Refuse what will be refused when its turn comes; models that come by then count as there. Waits for nothing.

        Raises:
            InvalidWorkflow: with everything that is wrong.
            ProvisioningFailed: a model that config.yml asks for could not be had.
        """
        try:
            await self.check(job, instance)
        except InvalidWorkflow as refusal:
            classes = await instance.node_classes()
            if not self._arriving(job, classes, refusal):
                await self._fetchable(job, instance, classes, refusal)

    async def check(self, job: RunningJob, instance: ComfyUIInstance) -> NodeClasses:
        """Put the workflow together, refuse what ComfyUI would refuse, all at once; return the node classes.

        Waits for nothing and fetches nothing: what `mend` may help with is refused like all else.

        Raises:
            InvalidWorkflow: with everything that is wrong.
        """
        classes = await instance.node_classes()
        if job.checked_with is classes:
            return classes
        try:
            self._assemble(job, classes)
        except WorkerError as error:
            # A model may have been put there since ComfyUI was asked: look again before refusing.
            named = _classes_of(error)
            if not named:
                raise
            classes = await instance.refresh_classes(named)
            self._assemble(job, classes)
        job.checked_with = classes
        return classes

    async def make(self, job: RunningJob, instance: ComfyUIInstance) -> NodeClasses:
        """Check the workflow, and wait for or fetch the models that are all it lacks; return the node classes.

        Raises:
            InvalidWorkflow: with everything that is wrong, and what would mend it.
            ProvisioningFailed: a model that config.yml asks for cannot be had, or one that is fetched.
            JobTimeout: the models were not there in time.
        """
        while True:  # until all is there, or `mend` says why not: it fetches once, and no model comes twice
            try:
                with job.counted_as(Stage.PREPARE):
                    return await self.check(job, instance)
            except InvalidWorkflow as refusal:
                await self.mend(job, instance, refusal)

    async def mend(self, job: RunningJob, instance: ComfyUIInstance, refusal: InvalidWorkflow) -> None:
        """Wait for the models that a refused workflow lacks, or fetch them; what custom nodes load, only ComfyUI knows.

        Raises:
            InvalidWorkflow: `refusal` itself, with what would mend it: that is not all, or not allowed.
            ProvisioningFailed: a model that config.yml asks for cannot be had, or one that is fetched.
            JobTimeout: they were not there in time.
        """
        classes = await instance.node_classes()
        arriving = self._arriving(job, classes, refusal)
        wanted = () if arriving else await self._fetchable(job, instance, classes, refusal)
        async with self._waiting(job):
            for destination, name in arriving:
                job.say(f"waiting for {name}, which is being downloaded")
                await self._arrived(destination, name)
            if wanted:
                job.has_fetched = True
                await self._models.fetch(wanted, job.say)
        await instance.refresh_classes(_classes_of(refusal))

    @contextlib.asynccontextmanager
    async def _waiting(self, job: RunningJob) -> AsyncIterator[None]:
        """Let a job wait for models: neither in the way of others, nor for ever."""
        limit_s = min(self._wait_s, job.left_s)
        async with job.aside():
            limit = asyncio.timeout(limit_s)
            try:
                async with limit:
                    yield
            except TimeoutError as error:
                if not limit.expired():
                    raise
                raise JobTimeout(
                    f"the models that the workflow lacks were not there within {limit_s:g} s",
                    hint="They go on coming, or go on where they stopped: send the job again later. "
                    "MODEL_WAIT_TIMEOUT_S is how long a job waits for them.",
                    details={"stage": str(job.stage), "timeout_s": limit_s, "progress": job.progress.value},
                ) from error

    def _arriving(
        self, job: RunningJob, classes: NodeClasses, refusal: InvalidWorkflow
    ) -> tuple[tuple[str | None, str], ...]:
        """Return destination and name of what a refused workflow lacks and config.yml asks for.

        Raises:
            ProvisioningFailed: one of them could not be had.
        """
        if self._arrivals is None:
            return ()
        # What reads a config.yml takes its time to import, and few jobs need it.
        from comfyworker.provision.proposal import find_missing  # noqa: PLC0415  # as above

        missing = find_missing(refusal, job.request, job.graph, classes)
        places = [(model.destination, model.filename) for model in missing.models] if missing is not None else []
        for place in places:
            self._arrivals.raise_failure(*place)
        return tuple(place for place in places if self._arrivals.expects(*place))

    async def _arrived(self, destination: str | None, name: str) -> None:
        if self._arrivals is not None:
            await self._arrivals.wait(destination, name)

    async def _fetchable(
        self, job: RunningJob, instance: ComfyUIInstance, classes: NodeClasses, error: InvalidWorkflow
    ) -> tuple[Wanted, ...]:
        """Return what is missing, if that is all that is wrong and all of it may be fetched.

        Raises:
            InvalidWorkflow: otherwise, `error` itself, with what would mend it.
        """
        # What reads a config.yml takes its time to import, and few jobs need it.
        from comfyworker.provision.proposal import explain_missing, find_missing  # noqa: PLC0415  # as above

        missing = find_missing(error, job.request, job.graph, classes)
        if missing is None or "config_yml" in error.details:  # explained already
            raise error
        wanted, reasons = await self._models.judge(missing, instance.folders)
        if reasons or not missing.is_all or not wanted or job.has_fetched:
            raise explain_missing(error, missing, reasons) from error
        return wanted

    def _assemble(self, job: RunningJob, classes: NodeClasses) -> None:
        if job.checked_with is None:  # what was drawn for one ComfyUI holds for the next
            made = assemble(job.request, classes, self._modifiers, draw=lambda: secrets.randbits(32))
            job.graph, job.used = made.graph, made.used
        raise_problems(check_workflow(job.graph, classes))


def _classes_of(error: WorkerError) -> frozenset[str]:
    """Return the node classes that an error names."""
    return frozenset(problem.class_type for problem in error.problems if problem.class_type is not None)
