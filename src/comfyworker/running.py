"""A job while it runs: which stage it is in, how long each took, how far it is, and what it will answer."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from enum import StrEnum

import structlog
from pydantic import JsonValue

from comfyworker.comfyui.execution import Execution
from comfyworker.comfyui.previews import PreviewSink
from comfyworker.delivery.bringing import KEPT_HINT
from comfyworker.errors import JobCanceled, WorkerError
from comfyworker.inputs.prepare import DecodedFile
from comfyworker.jobs import Artifact, Graph, JobError, JobRequest, JobResult, JobStatus, Progress, Timings
from comfyworker.workflow.node_classes import NodeClasses
from comfyworker.workflow.urls import shown_name

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


StandAside = Callable[[], contextlib.AbstractAsyncContextManager[None]]
"""Makes a context within which a job leaves its place to others, since it waits for what needs no ComfyUI.

When the context has been left, it has a place again.
"""


class Stage(StrEnum):
    """The stages of a job, in their order."""

    PREPARE = "prepare"
    WAIT = "wait"
    EXECUTE = "execute"
    COLLECT = "collect"
    DELIVER = "deliver"


_WORDS = {
    Stage.PREPARE: "preparing",
    Stage.WAIT: "waiting for its turn",
    Stage.EXECUTE: "executing",
    Stage.COLLECT: "collecting",
    Stage.DELIVER: "delivering",
}
"""What people are told of each stage."""


class RunningJob:
    """What the pipeline knows of one job between its beginning and its end."""

    def __init__(
        self,
        request: JobRequest,
        on_progress: Callable[[Progress], None] | None,
        on_preview: PreviewSink | None = None,
        stand_aside: StandAside | None = None,
    ) -> None:
        """Begin; the clock runs from here."""
        self.request = request
        self._stand_aside: StandAside = stand_aside or contextlib.nullcontext
        self.on_preview = on_preview
        """Who wants to see what nodes are at; None is nobody."""
        self.graph: Graph = request.workflow or {}
        """The workflow that runs, as far as it is put together."""
        self.used: dict[str, JsonValue] = {}
        """What was drawn or chosen for the request."""
        self.prompt_id = str(uuid.uuid4())
        """ComfyUI's id for the execution: minted here, so that its events can be followed without a race."""
        self.stage = Stage.PREPARE
        self.progress = Progress(message=_WORDS[Stage.PREPARE])
        self.warnings = list(request.warnings)
        self.fetched: tuple[DecodedFile, ...] | None = None
        """The files whose URLs stand in the workflow; None until they were looked for."""
        self.has_fetched = False
        """Whether models that it lacks were fetched for it."""
        self.checked_with: NodeClasses | None = None
        """The node classes that the workflow has been found to fit."""
        self.artifacts: tuple[Artifact, ...] = ()
        """What came out of the delivery, also where some of it did not arrive."""
        self.kept: tuple[str, ...] = ()
        """The names of files that did not arrive and are kept on our disk for a while."""
        self.deadline: asyncio.Timeout | None = None
        """What stops the job when its time is over."""
        self.keeps_outputs = False
        """Whether it was delivered in such a way that its files must stay in ComfyUI's folders."""
        self._on_progress = on_progress
        self._begun_at = time.perf_counter()
        self._spent_s: dict[Stage, float] = {}
        self._waited_s: float | None = None
        self._execution: Execution | None = None

    @property
    def is_overdue(self) -> bool:
        """Whether the job is being stopped because its time is over."""
        return self.deadline is not None and self.deadline.expired()

    @property
    def left_s(self) -> float:
        """Seconds until the platform gives the job up; infinite where it never does."""
        limit_s = self.request.given_up_after_s
        return math.inf if limit_s is None else max(limit_s - (time.perf_counter() - self._begun_at), 0.0)

    def enter(self, stage: Stage) -> None:
        """Say that the job is in `stage` now."""
        if stage is not self.stage:
            self.stage = stage
            self.say(_WORDS[stage])

    def say(self, message: str) -> None:
        """Tell people what the job is at."""
        self._tell(self.progress.model_copy(update={"message": message}))

    @contextlib.contextmanager
    def at(self, stage: Stage) -> Iterator[None]:
        """Count the time within the context as spent on `stage`; the parts of a stage add up."""
        self.enter(stage)
        with self.counted_as(stage):
            yield

    @contextlib.contextmanager
    def counted_as(self, stage: Stage) -> Iterator[None]:
        """Count the time within the context as spent on `stage`, without saying that the job is in it."""
        begun_at = time.perf_counter()
        try:
            yield
        finally:
            self._spent_s[stage] = self._spent_s.get(stage, 0.0) + time.perf_counter() - begun_at

    def report(self, progress: Progress) -> None:
        """Hand on ComfyUI's progress; a second attempt does not begin at nothing again."""
        value = max(progress.value, self.progress.value)
        nodes_done = max(progress.nodes_done, self.progress.nodes_done)
        self._tell(
            progress.model_copy(update={"value": value, "nodes_done": nodes_done, "message": _WORDS[self.stage]})
        )

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time within the context as waited: for ComfyUI to start, or for the job's turn."""
        begun_at = time.perf_counter()
        try:
            yield
        finally:
            self._add_wait(time.perf_counter() - begun_at)

    @contextlib.asynccontextmanager
    async def aside(self) -> AsyncIterator[None]:
        """Within the context, leave the job's place to others, and have its own time stand still.

        What needs no ComfyUI is waited for in it. When it is left, the job has a place again.
        """
        with self.waiting(), self._stopped_clock():
            async with self._stand_aside():
                yield

    @contextlib.contextmanager
    def _stopped_clock(self) -> Iterator[None]:
        when = self.deadline.when() if self.deadline is not None else None
        if self.deadline is None or when is None or self.deadline.expired():
            yield
            return
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        self.deadline.reschedule(None)
        try:
            yield
        finally:
            now = loop.time()
            self.deadline.reschedule(min(when + now - begun_at, now + self.left_s))

    def note_execution(self, execution: Execution) -> None:
        """Keep how the execution went."""
        self._execution = execution
        self._add_wait(execution.wait_s)
        self._spent_s[Stage.EXECUTE] = execution.execute_s
        self.warnings.extend(execution.warnings)

    def warn_unused(self, names: set[str]) -> None:
        """Warn of input files that the workflow does not name."""
        for name in sorted(names):
            warning = f"the input file '{shown_name(name)}' is not named by any node of the workflow"
            if warning not in self.warnings:
                self.warnings.append(warning)

    def succeeded(self) -> JobResult:
        """Return the result of a job that has been delivered."""
        self._tell(self.progress.model_copy(update={"value": 1.0, "message": None}))
        return self._result(JobStatus.SUCCEEDED)

    def failed(self, error: WorkerError) -> JobResult:
        """Return the result of a job that came to nothing."""
        status = JobStatus.CANCELED if isinstance(error, JobCanceled) else JobStatus.FAILED
        return self._result(status, error=self._with_kept(JobError.of(error)))

    def log_end(self, result: JobResult) -> None:
        """Write the one line that every job ends with."""
        timings = {name: round(value, 4) for name, value in result.timings.model_dump(exclude_none=True).items()}
        total_bytes = sum(artifact.size_bytes for artifact in result.artifacts)
        facts = {"artifacts": len(result.artifacts), "total_bytes": total_bytes, "warnings": len(result.warnings)}
        if result.error is None:
            log.info("job.ended", status=str(result.status), **facts, **timings)
        else:
            log.warning(
                "job.ended", status=str(result.status), code=result.error.code, error=result.error.message, **timings
            )

    def _with_kept(self, error: JobError) -> JobError:
        """Return the error with what is kept of the job's files, unless it says so itself."""
        if not self.kept or "kept" in error.details:
            return error
        hint = f"{error.hint} {KEPT_HINT}" if error.hint else KEPT_HINT
        return error.model_copy(update={"hint": hint, "details": {**error.details, "kept": [*self.kept]}})

    def _add_wait(self, seconds: float) -> None:
        self._waited_s = (self._waited_s or 0.0) + seconds

    def _result(self, status: JobStatus, *, error: JobError | None = None) -> JobResult:
        spent = self._spent_s
        return JobResult(
            id=self.request.id,
            status=status,
            artifacts=self.artifacts,
            error=error,
            warnings=tuple(self.warnings),
            used=self.used,
            timings=Timings(
                prepare_s=spent.get(Stage.PREPARE),
                wait_s=self._waited_s,
                execute_s=spent.get(Stage.EXECUTE),
                collect_s=spent.get(Stage.COLLECT),
                deliver_s=spent.get(Stage.DELIVER),
                total_s=time.perf_counter() - self._begun_at,
            ),
            prompt_id=self.prompt_id,
            node_timings_s=self._execution.node_timings_s if self._execution else {},
        )

    def _tell(self, progress: Progress) -> None:
        self.progress = progress
        if self._on_progress is not None:
            self._on_progress(progress)
