"""One job in the engine's thread, and what the SDK's thread hears of it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

import structlog

from comfyworker.errors import WorkerError, WorkerRestarted, broken
from comfyworker.hosts.runpod.answering import answer_job, answer_of, spoken_for
from comfyworker.hosts.runpod.outcome import Answer
from comfyworker.hosts.runpod.pieces import Pieces
from comfyworker.hosts.runpod.progress import ProgressReports, SendProgress
from comfyworker.hosts.runpod.submission import job_id_of
from comfyworker.hosts.worker import Worker
from comfyworker.jobs import JobResult, Progress
from comfyworker.settings import Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class WorkListener(Protocol):
    """Who hears of a job; all of it is called in the engine's thread."""

    def left_comfyui(self, job_id: str) -> None:
        """ComfyUI is done with the job; called once, also where the job never came there."""

    def stood_aside(self, job_id: str) -> None:
        """The job waits for models, and needs no ComfyUI until `came_back`."""

    def came_back(self, job_id: str) -> None:
        """The job waits for models no longer."""

    def piece(self, job_id: str, piece: Answer) -> None:
        """There is a piece for the job's stream; never called where STREAM_OUTPUTS is off."""

    def reporting(self, job: Mapping[str, Any]) -> contextlib.AbstractAsyncContextManager[SendProgress]:
        """Return what reports the job's progress to the platform; called once a job."""


class Work:
    """A job that was handed over."""

    def __init__(self, job: Mapping[str, Any], settings: Settings, listener: WorkListener) -> None:
        """Prepare a job as the platform hands it over."""
        self.job = job
        self.id = job_id_of(job)
        self.ended: concurrent.futures.Future[Answer | None] = concurrent.futures.Future()
        """Done when the job has left ComfyUI, with its answer; None if it was canceled."""
        self._settings = settings
        self._listener = listener
        self._task: asyncio.Task[None] | None = None
        self._is_canceled = False
        self._has_left = False

    def start(self, group: asyncio.TaskGroup, worker: Worker) -> None:
        """Run the job in `group`."""
        if self._is_canceled:
            self._end(None)
            return
        self._task = group.create_task(self._run(worker), name=f"job {self.id}")

    def cancel(self) -> None:
        """Stop it; a second time changes nothing."""
        if not self._is_canceled:
            self._is_canceled = True
            if self._task is not None:
                self._task.cancel()

    def take_back(self) -> None:
        """Answer it at once with an error that may be tried again, and stop it: the worker is at its end."""
        error = WorkerRestarted(
            "the worker was stopped before the job was done",
            hint="Send it again; another worker takes it. DRAIN_TIMEOUT_S is how long jobs get at a worker's end.",
        )
        self._end(self._answer_for(error))
        self.cancel()

    async def _run(self, worker: Worker) -> None:
        answer: Answer | None = None
        try:
            answer = await self._answer(worker)
        except Exception:
            log.exception("runpod.broke", job_id=self.id)
            answer = self._answer_for(broken())
        finally:
            self._end(answer)

    def _answer_for(self, error: WorkerError) -> Answer:
        return answer_of(self.job, JobResult.refused(self.id, error), self._settings)

    async def _answer(self, worker: Worker) -> Answer:
        settings = self._settings
        pieces = None
        if settings.runpod.stream_outputs:
            pieces = Pieces(spoken_for(self.job, settings), lambda piece: self._listener.piece(self.id, piece))
        async with self._listener.reporting(self.job) as send:
            reports = ProgressReports(_also(pieces, send), interval_s=settings.runpod.progress_interval_s)

            def note(progress: Progress) -> None:
                reports.note(progress)
                if 0 < progress.nodes_total == progress.nodes_done:
                    self._leave_comfyui()

            async with reports.reporting():
                answer = await answer_job(
                    worker,
                    self.job,
                    settings,
                    on_progress=note,
                    on_artifact=None if pieces is None else pieces.artifact,
                    stand_aside=self._aside,
                )
        if pieces is not None:
            pieces.answer(answer)
        return answer

    @contextlib.asynccontextmanager
    async def _aside(self) -> AsyncIterator[None]:
        self._listener.stood_aside(self.id)
        try:
            yield
        finally:
            self._listener.came_back(self.id)

    def _end(self, answer: Answer | None) -> None:
        self._leave_comfyui()
        if not self.ended.done():
            self.ended.set_result(answer)

    def _leave_comfyui(self) -> None:
        if not self._has_left:
            self._has_left = True
            self._listener.left_comfyui(self.id)


def _also(pieces: Pieces | None, send: SendProgress) -> SendProgress:
    if pieces is None:
        return send

    async def send_both(progress: Progress) -> None:
        pieces.progress(progress)
        await send(progress)

    return send_both
