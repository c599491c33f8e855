"""Jobs from the line to their ends: as many at once as there are places, each with exactly one end that is durable."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import structlog

from comfyworker.errors import InsufficientStorage, InternalError, WorkerError, broken
from comfyworker.jobs import JobResult, JobStatus
from comfyworker.service.endings import canceled
from comfyworker.service.events import Event, EventKind, StatusChange
from comfyworker.service.job_table import files_of
from comfyworker.service.keeping import keeping_in
from comfyworker.service.live import LiveJob
from comfyworker.service.protocol import EndTeller, Runner
from comfyworker.service.records import JobRecord, KeptResult
from comfyworker.service.settling import settle_result, unstorable
from comfyworker.service.store import JobStore
from comfyworker.service.waiting import WaitingLine

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_MOST_ASIDE = 64
"""Jobs that may wait for something else and hold no place; each is in memory, with its input files."""


class HeldPlace:
    """A place that is kept for one job."""

    def __init__(self, *, is_held: bool, on_release: Callable[[], None]) -> None:
        """Keep it, unless there is none."""
        self.is_held = is_held
        self._on_release = on_release

    def release(self) -> None:
        """Keep it no longer."""
        if self.is_held:
            self.is_held = False
            self._on_release()


class Running:
    """Runs the jobs that wait. Its tasks live in the group that it is given."""

    def __init__(  # noqa: PLR0913  # made in one place, of what that place owns
        self,
        runner: Runner,
        store: JobStore,
        group: asyncio.TaskGroup,
        *,
        places: int,
        result_ttl_s: float,
        copies: bool,
        on_end: Callable[[LiveJob], None],
        tell_end: EndTeller | None,
    ) -> None:
        """Run jobs by `runner`.

        Args:
            runner: Runs one job.
            store: Where all is written down.
            group: Where the tasks are.
            places: How many jobs may run at the same time.
            result_ttl_s: Seconds that results are kept.
            copies: Whether finished files are copied where a hard link would do.
            on_end: Called for each job that is over.
            tell_end: Called for each job before its end is written down.
        """
        self._runner = runner
        self._store = store
        self._group = group
        self._places = places
        self._result_ttl_s = result_ttl_s
        self._copies = copies
        self._on_end = on_end
        self._tell_end = tell_end
        self.waiting = WaitingLine()
        self._running: set[LiveJob] = set()
        self._held = 0
        self._aside: set[LiveJob] = set()
        self._returning: deque[tuple[LiveJob, asyncio.Event]] = deque()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = asyncio.Event()
        self._handing_back = False

    @property
    def count(self) -> int:
        """How many jobs run."""
        return len(self._running)

    def longest_s(self) -> float:
        """Return for how many seconds the job runs that has run for longest; 0 if none does."""
        now = time.time()
        return max((now - (job.record.started_at or now) for job in self._running), default=0.0)

    @contextlib.contextmanager
    def held_place(self) -> Iterator[HeldPlace]:
        """Within the context, keep a place for a job that is being taken, if one is free that nobody waits for."""
        is_free = self._taken + len(self._returning) + len(self.waiting) < self._places
        place = HeldPlace(is_held=is_free and not self._stopping.is_set(), on_release=self._release)
        self._held += place.is_held
        try:
            yield place
        finally:
            place.release()
            self._start_waiting()

    @contextlib.asynccontextmanager
    async def aside(self, job: LiveJob) -> AsyncIterator[None]:
        """Within the context, the place of `job`, which runs, is for others; it has one again when it is left.

        Those that come back are before those that have not begun. Too many at once would fill the memory: one more
        keeps its place.
        """
        if len(self._aside) >= _MOST_ASIDE:
            yield
            return
        self._aside.add(job)
        self._start_waiting()
        try:
            yield
            if self._taken >= self._places:
                await self._turn_of(job)
        finally:
            self._aside.discard(job)

    async def _turn_of(self, job: LiveJob) -> None:
        """Wait until there is a place for a job that has begun."""
        turn = job, asyncio.Event()
        self._returning.append(turn)
        try:
            await turn[1].wait()
        finally:
            if turn in self._returning:
                self._returning.remove(turn)

    @property
    def is_stopping(self) -> bool:
        """Whether no job begins any more."""
        return self._stopping.is_set()

    def join(self, job: LiveJob) -> None:
        """Have `job` wait, or begin at once if there is a place."""
        self.waiting.join(job)
        self._start_waiting()
        if job.is_begin_written and job not in self._running:
            # Others were before it, or the service stops.
            job.is_begin_written, job.request = False, None
            self._store.note_not_begun(job)

    async def cancel(self, job: LiveJob) -> None:
        """Have `job` end as canceled; when this returns, neither a crash nor a loss of power makes it run again.

        Where the disk takes nothing now it is canceled too, and is `canceling` until that can be written down.

        Raises:
            InsufficientStorage: the disk fails.
        """
        if job.is_ending or job.cancel_wanted:
            return
        job.cancel_wanted = True
        if self.waiting.leave(job):
            self.end_unrun(job, canceled(job.record.id))
            await job.over_or_held_up.wait()
            await self._store.all_durable()
            return
        job.change_status(JobStatus.CANCELING)
        if job.runner is not None:
            job.runner.cancel()
        try:
            await self._store.set_status(job, JobStatus.CANCELING)
        except InsufficientStorage as error:
            log.warning("service.not_written", job_id=job.record.id, error=error.message)

    async def cancel_waiting(self, owner: str) -> int:
        """Have all of an owner's jobs that wait end as canceled; return how many."""
        jobs = [job for job in self.waiting if job.record.owner == owner]
        for job in jobs:
            # All of them before anything else happens: a place that is free meanwhile is for none of them.
            job.cancel_wanted = True
            self.waiting.leave(job)
            self.end_unrun(job, canceled(job.record.id))
        for job in jobs:
            await job.over_or_held_up.wait()
        await self._store.all_durable()
        return len(jobs)

    def end_unrun(self, job: LiveJob, result: JobResult) -> None:
        """Have `job`, which has just left the line, end with `result`."""
        # In a task of ours: who asked for it may be gone, or have other things to do, before the disk has taken it.
        job.is_ending = True
        self._group.create_task(self.end(job, result), name=f"ending {job.record.id}")

    async def end(self, job: LiveJob, result: JobResult) -> None:
        """Write down what came of `job`, however long the disk takes for it, and tell everybody."""
        job.is_ending = True
        kept = await settle_result(result, self._store.outputs_folder(job.key), job.record.created_at)
        try:
            await self._end(job, kept)
        except ValueError:
            log.exception("service.not_storable", job_id=job.record.id)
            await self._end(job, unstorable(kept))

    async def _end(self, job: LiveJob, kept: KeptResult) -> None:
        now = time.time()
        kept = kept.model_copy(update={"completed_at": kept.completed_at or now})
        for warning in kept.warnings:
            job.tell_log("warning", warning)
        record = job.record.model_copy(
            update={
                "status": kept.status,
                "completed_at": now,
                "expires_at": now + self._result_ttl_s,
                "result": kept,
                "outputs": files_of(kept),
            }
        )

        async def write() -> None:
            # Anew for each time: what happens meanwhile is told, too.
            last = job.events.draft(EventKind.STATUS, StatusChange(kept.status))
            told = functools.partial(self._told, job, record, last)
            await self._store.end(job, record, [*job.events.kept(), last], then=told)

        if self._tell_end is not None:
            await self._tell(job, record, self._tell_end)
        await self._insist(write, job)

    def _told(self, job: LiveJob, record: JobRecord, last: Event, _: None) -> None:
        """Have everybody know how a job ended, which is written down."""
        job.record = record
        job.let_go(last)
        if job.runner is None:  # The runner tells of the others.
            error = record.result.error if record.result else None
            code = error.code if error else None
            log.info("service.ended_unrun", job_id=record.id, status=str(record.status), code=code)
        self._on_end(job)

    async def _tell(self, job: LiveJob, record: JobRecord, tell_end: EndTeller) -> None:
        try:
            if not job.is_webhook_known:
                job.note_webhook(await self._store.needed_request(job.key, job.secret_parts))
            await tell_end(record, job.webhook)
        except Exception:
            # A job does not end otherwise because somebody could not be told.
            log.exception("service.not_told", job_id=record.id)

    async def stop(self, within_s: float) -> None:
        """Begin with no more jobs, wait for those that run, then hand them back to the line of the next start."""
        self._stopping.set()
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            self._handing_back = True
            for job in tuple(self._running):
                if job.runner is not None:
                    job.runner.cancel()
            await self._idle.wait()

    def _release(self) -> None:
        self._held -= 1

    @property
    def _taken(self) -> int:
        """How many places are taken."""
        return len(self._running) - len(self._aside) + self._held

    def _start_waiting(self) -> None:
        while self._taken < self._places:
            if self._returning:
                back, turn = self._returning.popleft()
                self._aside.discard(back)
                turn.set()
                continue
            job = None if self._stopping.is_set() else self.waiting.next()
            if job is None:
                return
            self._running.add(job)
            self._idle.clear()
            self._group.create_task(self._run(job), name=f"job {job.record.id}")

    async def _run(self, job: LiveJob) -> None:
        try:
            await self._run_to_its_end(job)
        finally:
            self._running.discard(job)
            self._aside.discard(job)
            if not self._running:
                self._idle.set()
            self._start_waiting()

    async def _run_to_its_end(self, job: LiveJob) -> None:
        job.change_status(
            JobStatus.RUNNING, queue_position=None, started_at=time.time(), attempts=job.record.attempts + 1
        )
        if not job.is_begin_written and not await self._insist(lambda: self._store.begin(job), job):
            return
        job.is_begin_written = False  # It may wait once more.
        result = await self._outcome(job)
        if result is not None:
            await self.end(job, result)
        elif await self._insist(lambda: self._store.hand_back(job), job):
            job.change_status(JobStatus.QUEUED, attempts=job.record.attempts - 1, started_at=None)
            self.waiting.join(job)

    async def _outcome(self, job: LiveJob) -> JobResult | None:
        """Return what came of a job; None if it is handed back."""
        async with asyncio.TaskGroup() as group:
            # A task of its own: to cancel the job is not to cancel what writes down how it ended.
            job.runner = runner = group.create_task(self._call(job), name=f"running {job.record.id}")
            if job.cancel_wanted or self._handing_back:
                runner.cancel()
        if not runner.cancelled():
            return runner.result()
        if job.cancel_wanted:
            return canceled(job.record.id)
        if self._handing_back:
            return None
        return JobResult.refused(job.record.id, InternalError("the job was stopped, and nobody had asked for it"))

    async def _call(self, job: LiveJob) -> JobResult:
        record = job.record
        try:
            request = job.request or await self._store.needed_request(job.key, job.secret_parts)
            job.note_webhook(request)
            job.request = None  # Its files need not be in memory twice.
            with keeping_in(self._store.outputs_folder(job.key), record, copies=self._copies):
                return await self._runner(
                    request,
                    created_at=record.created_at,
                    on_progress=job.tell_progress,
                    on_artifact=job.tell_output,
                    on_preview=job.tell_preview,
                    stand_aside=functools.partial(self.aside, job),
                )
        except WorkerError as error:
            return JobResult.refused(record.id, error)
        except Exception:
            log.exception("service.runner_broke", job_id=record.id)
            return JobResult.refused(record.id, broken())

    async def _insist(self, write: Callable[[], Awaitable[None]], job: LiveJob) -> bool:
        """Write until the disk takes it; return False if it did not before the service stopped."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                await write()
            except WorkerError as error:
                log.warning("service.not_written", job_id=job.record.id, error=error.message)
                job.hold_up()
                if self._stopping.is_set():
                    return False
            else:
                return True
            # Nothing tells us when the disk has room again.
            try:
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
            except TimeoutError:
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
