"""The SDK's side of the worker: the handler that it calls, and what stands in the place of its own functions.

All of it lives in the SDK's event loop, in the main thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import stamina
import structlog

from comfyworker.errors import broken
from comfyworker.finishing import finish
from comfyworker.hosts.runpod.answering import answer_of
from comfyworker.hosts.runpod.crossing import Crossing
from comfyworker.hosts.runpod.engine import Engine
from comfyworker.hosts.runpod.gate import Gate
from comfyworker.hosts.runpod.outcome import Answer
from comfyworker.hosts.runpod.progress import SendProgress
from comfyworker.hosts.runpod.sdk import Sdk
from comfyworker.hosts.runpod.submission import job_id_of
from comfyworker.hosts.runpod.taking import Job, Session, Stops, Taker
from comfyworker.hosts.runpod.work import Work
from comfyworker.jobs import JobResult
from comfyworker.settings import Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_CANCEL_SLACK_S: Final = 5.0  # beyond the time that ComfyUI gets to let go of a job
_SEND_WITHIN_S: Final = 300.0
_LAST_SEND_WITHIN_S: Final = 60.0  # when no more jobs are taken: the worker's end waits for it
_PASSING: Final = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
_OTHERS_SENT_WITHIN_S: Final = 60.0


class Desk:
    """Takes jobs for the engine, and hands its answers to the SDK."""

    def __init__(
        self,
        settings: Settings,
        *,
        engine: Engine,
        sdk: Sdk,
        gate: Gate,
        crossing: Crossing,
        on_done: Callable[[], None],
    ) -> None:
        """Know both sides.

        Args:
            settings: The worker's settings.
            engine: Runs the jobs.
            sdk: Takes them, and sends their answers.
            gate: Says how many may be taken.
            crossing: Leads from the engine's thread to here.
            on_done: Called once when the gate is closed and every job has its answer.
        """
        self.recycles = settings.runpod.refresh_worker
        """Whether the last answer asks RunPod to start the worker anew."""
        self._settings = settings
        self._engine = engine
        self._sdk = sdk
        self._gate = gate
        self._crossing = crossing
        self._on_done = on_done
        self._streams: dict[str, asyncio.Queue[Answer | None]] = {}
        self._whole: dict[str, Answer] = {}
        if sdk.has_seams:
            self._taker = Taker(gate, sdk.original("get_job"), on_done=self._done)
            self._stops = Stops(gate, sdk.original("get_stop_signals"))

    async def handle(self, job: Job) -> Answer:
        """Run a job; the SDK's handler.

        Raises:
            asyncio.CancelledError: the platform stopped the job; by then it has left ComfyUI.
        """
        job_id = job_id_of(job)
        answer = await self._run(job)
        with self._dropped_unless_sent(job_id):
            if await self._is_last(job_id):
                answer["refresh_worker"] = True
        return answer

    async def stream(self, job: Job) -> AsyncIterator[Answer]:
        """Run a job and yield the pieces of its stream; the SDK's handler where STREAM_OUTPUTS is set.

        Raises:
            asyncio.CancelledError: the platform stopped the job; by then it has left ComfyUI.
        """
        job_id = job_id_of(job)
        pieces = self._streams[job_id] = asyncio.Queue()
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._streams.pop, job_id, None)
            stack.enter_context(self._dropped_unless_sent(job_id))
            # Not `async with`: the SDK may close the generator, and a group would wrap that.
            group = await asyncio.TaskGroup().__aenter__()
            running = group.create_task(self._run(job), name=f"job {job_id}")
            running.add_done_callback(lambda _: pieces.put_nowait(None))
            try:
                while (piece := await pieces.get()) is not None:
                    yield piece
                answer = running.result()
            finally:
                running.cancel()
                await group.__aexit__(None, None, None)
        self._whole[job_id] = answer

    async def take_jobs(self, session: Session, most: int) -> list[Job] | None:
        """Return jobs; in the place of the SDK's `get_job`."""
        return await self._taker.take(session, most)

    async def take_stops(self, session: Session) -> list[str]:
        """Return the ids of jobs to be stopped; in the place of the SDK's `get_stop_signals`."""
        return await self._stops.take(session)

    async def send_result(
        self,
        session: Session,
        job_data: dict[str, Any],  # Any: the SDK's
        job: Mapping[str, Any],
        is_stream: bool = False,  # the SDK's own signature
    ) -> None:
        """Send what came of a job; in the place of the SDK's `send_result`.

        Of a stream the SDK would send the list of its pieces; clients get the same answer with a stream and without.
        """
        job_id = job_id_of(job)
        whole = self._whole.pop(job_id, None)
        if whole is not None:
            is_last = await self._is_last(job_id)
            job_data = {**_split(whole), **({"stopPod": True} if is_last else {})}
        try:
            await self._send(session, job_data, job, is_stream=is_stream)
        finally:
            self._gate.drop(job_id)

    async def _send(
        self, session: Session, job_data: dict[str, Any], job: Mapping[str, Any], *, is_stream: bool
    ) -> None:
        begun_at = time.monotonic()

        def shall_retry(error: Exception) -> bool:
            limit_s = _LAST_SEND_WITHIN_S if self._gate.is_closed else _SEND_WITHIN_S
            return _may_pass(error) and time.monotonic() - begun_at < limit_s

        retries = stamina.retry_context(
            on=shall_retry, attempts=None, timeout=_SEND_WITHIN_S, wait_initial=0.2, wait_max=10.0
        )
        try:
            async for attempt in retries:
                with attempt:
                    await self._sdk.send(session, job_data, job, is_stream=is_stream)
        except Exception as error:  # noqa: BLE001  # the SDK's own would only have logged it, too
            kind = type(error).__name__  # its text has the URL with its tokens
            log.error("runpod.result_lost", job_id=job_id_of(job), error_type=kind)  # noqa: TRY400  # so would the traceback

    def left_comfyui(self, job_id: str) -> None:
        """Hear that ComfyUI is done with a job; called in the engine's thread."""
        self._crossing.call(self._gate.leave_comfyui, job_id)

    def stood_aside(self, job_id: str) -> None:
        """Hear that a job waits for models; called in the engine's thread."""
        self._crossing.call(self._gate.stand_aside, job_id)

    def came_back(self, job_id: str) -> None:
        """Hear that it waits no longer; called in the engine's thread."""
        self._crossing.call(self._gate.come_back, job_id)

    def piece(self, job_id: str, piece: Answer) -> None:
        """Hear of a piece for a job's stream; called in the engine's thread."""
        self._crossing.call(self._put_piece, job_id, piece)

    def reporting(self, job: Mapping[str, Any]) -> contextlib.AbstractAsyncContextManager[SendProgress]:
        """Return what reports a job's progress; called in the engine's thread."""
        return self._sdk.reporting(job)

    @contextlib.contextmanager
    def _dropped_unless_sent(self, job_id: str) -> Iterator[None]:
        """Forget a job that is stopped within the block: its answer is never sent."""
        try:
            yield
        except BaseException:
            self._gate.drop(job_id)
            raise

    def _put_piece(self, job_id: str, piece: Answer) -> None:
        if job_id in self._streams:
            self._streams[job_id].put_nowait(piece)

    def _done(self) -> None:
        self._stops.end()
        self._on_done()

    async def _run(self, job: Job) -> Answer:
        job_id = job_id_of(job)
        self._gate.enter(job_id)
        work: Work | None = None
        try:
            self._check_wanted(job_id)
            work = self._engine.begin(job, self)
            answer = await asyncio.shield(asyncio.wrap_future(work.ended))
        except asyncio.CancelledError:
            if work is not None:
                await self._cancel(work)
            raise
        except Exception:
            # The SDK would send a traceback to the client.
            log.exception("runpod.broke", job_id=job_id)
            answer = answer_of(job, JobResult.refused(job_id, broken()), self._settings)
        finally:
            # Whoever is canceled is never sent; a canceled job gives room for another one.
            self._gate.drop(job_id)
        if answer is None:
            raise asyncio.CancelledError
        self._gate.answer(job_id)
        return answer

    def _check_wanted(self, job_id: str) -> None:
        if self._sdk.has_seams and self._stops.was_early(job_id):
            log.info("runpod.job_stopped", job_id=job_id)
            raise asyncio.CancelledError

    async def _cancel(self, work: Work) -> None:
        log.info("runpod.job_stopped", job_id=work.id)
        self._engine.cancel(work)
        within_s = self._settings.job.cancel_deadline_s + _CANCEL_SLACK_S
        await finish(_ended(work), within_s=within_s, name=f"canceling {work.id}")

    async def _is_last(self, job_id: str) -> bool:
        """Tell whether a job's answer is the worker's last one; then the others' are sent when this returns.

        RunPod stops the worker at once when it gets the answer that asks for it.
        """
        if not self.recycles or not self._gate.is_closed or not self._sdk.has_seams:
            return self.recycles and not self._sdk.has_seams
        await self._taker.wait_settled()
        if self._gate.running or job_id != self._gate.last_answered:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_OTHERS_SENT_WITHIN_S):
                await self._gate.wait_sent(but=job_id)
        return True


def _may_pass(error: Exception) -> bool:
    """Tell whether a result that was not taken may be taken later."""
    status = error.status if isinstance(error, aiohttp.ClientResponseError) else None
    return status is None or status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _PASSING


async def _ended(work: Work) -> None:
    await asyncio.wrap_future(work.ended)


def _split(answer: Answer) -> dict[str, Any]:
    """Return an answer as the SDK sends it: `error` beside `output`.

    Wire source: RunPod's SDK, `run_job`.
    """
    output = Answer(answer)
    error = output.pop("error", None)
    return {"output": output, **({"error": error} if error else {})}
