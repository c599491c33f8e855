"""The job service below all APIs: submit, get, wait, cancel, events, list; durable, whatever ends the process."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from comfyworker.errors import InvalidRequest, Problem
from comfyworker.finishing import finish, in_thread
from comfyworker.jobs import JobRequest, JobResult, JobStatus
from comfyworker.service.answering import inline_files
from comfyworker.service.assets import Assets
from comfyworker.service.database import Database, Transaction
from comfyworker.service.endings import outcome_after_restart
from comfyworker.service.events import Event, EventKind, EventLog, StatusChange
from comfyworker.service.expiry import Expiry
from comfyworker.service.job_table import JobRow
from comfyworker.service.live import LiveJob
from comfyworker.service.protocol import Runner
from comfyworker.service.records import Counts, JobPage, JobRecord, Submission
from comfyworker.service.running import Running
from comfyworker.service.state_folder import StateFolder, remove
from comfyworker.service.store import JobStore, Taken, not_found
from comfyworker.service.stored_request import store_request, wants_inline
from comfyworker.service.tally import Tally
from comfyworker.settings import QueueSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_IN_THREAD_ABOVE = 100
"""Nodes above which a request is made ready for the disk in a thread."""
_CLOSE_WITHIN_S = 60.0
_MOST_AT_ONCE = 100


class JobService:
    """Takes jobs, runs them, and remembers what came of them; an async context manager that owns its tasks."""

    def __init__(
        self,
        runner: Runner,
        settings: QueueSettings,
        *,
        folder: Path,
        places: int,
        copies: bool = False,
        on_end: Callable[[JobRecord], None] | None = None,
    ) -> None:
        """Run jobs by `runner`.

        Args:
            runner: Runs one job.
            settings: How many jobs wait, and how long all is kept.
            folder: The worker's state folder; no other server may have it.
            places: How many jobs are given to the runner at the same time.
            copies: Whether finished files are copied where a hard link would do: true where their originals stay.
            on_end: Called for each job that is over, on the event loop; must not block.
        """
        self._settings = settings
        self._folder = StateFolder(folder)
        self._database = Database(self._folder.database)
        self._store = JobStore(self._database, self._folder)
        self.assets = Assets(self._database, self._folder, settings)
        """The files that owners can name."""
        self._group = asyncio.TaskGroup()
        self._running = Running(
            runner,
            self._store,
            self._group,
            places=places,
            result_ttl_s=settings.result_ttl_s,
            copies=copies,
            on_end=self._ended,
        )
        self._expiry = Expiry(self._database, self._folder, self._store, self._running, settings)
        self._tally = Tally(self._running, settings, places=places)
        self._on_end = on_end
        self._live: dict[tuple[str, str], LiveJob] = {}
        self._exit = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Take the folder, and go on with the jobs that the last server left.

        Raises:
            InvalidSettings: another server has the folder, or it cannot be used.
            InsufficientStorage: the disk is full.
        """
        async with contextlib.AsyncExitStack() as exit_stack:
            await in_thread(self._folder.take)
            exit_stack.callback(self._folder.release)
            await exit_stack.enter_async_context(self._database)
            rows = await self._database.run(self._store.jobs.unfinished)
            strays = await self._database.run(self._find_strays)
            await exit_stack.enter_async_context(self._group)
            exit_stack.push_async_callback(self._close)
            self._group.create_task(in_thread(functools.partial(_remove_all, strays)), name="removing stray files")
            await self._go_on_with(rows)
            expiry = self._group.create_task(self._expiry.run(), name="expiring")
            exit_stack.callback(expiry.cancel)
            self._exit = exit_stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the jobs that run, and hand them back to the next start."""
        await self._exit.__aexit__(kind, error, trace)

    async def submit(self, submission: Submission) -> JobRecord:
        """Take a job; it is durable when this returns.

        One that is there already, by its id or its idempotency key, is returned as it is if it asks for the same.

        Raises:
            QueueFull: as many jobs wait as may, or the service stops; `details` has `retry_after_s`.
            IdempotencyKeyReused: the id or the key belongs to a job that asks for something else.
            InvalidRequest: the request cannot be written down.
            InsufficientStorage: the disk is full.
        """
        request = submission.request
        if len(request.workflow or ()) > _IN_THREAD_ABOVE or request.files or request.gui_workflow:
            stored = await in_thread(lambda: store_request(request))
        else:
            stored = store_request(request)
        now = time.time()
        record = JobRecord(
            **submission.model_dump(include={"owner", "api", "dialect", "priority", "meta"}),
            id=request.id,
            status=JobStatus.QUEUED,
            created_at=now,
            wants_inline=wants_inline(request),
        )
        if self._tally.is_full:
            row = await self._store.find_repeated(submission, stored, record)
            if row is None or row.record.status is JobStatus.EXPIRED:
                raise self._tally.queue_full()
            return self._shown(row).model_copy(update={"is_repeat": True})

        def taken(taken: Taken) -> None:
            if not taken.is_repeat:
                job = self._admit(taken.row)
                job.secret_parts = stored.secret_parts
                # One that begins at once need not be read again; those that wait take no memory.
                begins_now = self._running.has_free_place and not stored.pinned
                job.request = request if begins_now else None
                self._running.join(job)

        ttl_s = self._settings.ttl_s if submission.ttl_s is None else submission.ttl_s
        with self._tally.one_more():
            done = await self._store.add(submission, stored, record, queue_until=now + ttl_s, then=taken)
        shown = self._shown(done.row)
        return shown.model_copy(update={"is_repeat": True}) if done.is_repeat else shown

    async def get(self, owner: str, job_id: str) -> JobRecord:
        """Return a job as it stands.

        Raises:
            NotFound: the owner has none of this id.
        """
        job = self._live.get((owner, job_id))
        return self._shown_live(job) if job is not None else (await self._store.find(owner, job_id)).record

    async def wait(self, owner: str, job_id: str, *, timeout_s: float) -> JobRecord:
        """Return a job when it is over, or as it stands after `timeout_s` or when the service stops.

        Raises:
            NotFound: the owner has none of this id.
        """
        job = self._live.get((owner, job_id))
        if job is None:
            return (await self._store.find(owner, job_id)).record
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await job.over.wait()
        return self._shown_live(job)

    async def cancel(self, owner: str, job_id: str) -> JobRecord:
        """Have a job end as canceled: at once if it waits, soon if it runs; one that is over stays as it is.

        Raises:
            NotFound: the owner has none of this id.
        """
        job = self._live.get((owner, job_id))
        if job is None:
            return (await self._store.find(owner, job_id)).record
        await self._running.cancel(job)
        return self._shown_live(job)

    async def retry(self, owner: str, job_id: str) -> JobRecord:
        """Have a job that came to nothing wait once more, under the same id.

        Raises:
            NotFound: the owner has none of this id.
            InvalidRequest: the job is not over, succeeded, had keys that are not kept, or its request has expired.
            QueueFull: as many jobs wait as may, or the service stops.
        """
        if (owner, job_id) in self._live:
            raise _not_retryable(job_id, "is not over", "Wait for its end.")
        row = await self._store.find(owner, job_id)
        if row.record.status is JobStatus.SUCCEEDED:
            raise _not_retryable(job_id, "has succeeded", "Send it as a new job to run it again.")
        if row.has_secrets or await self._store.request(row.key) is None:
            raise _not_retryable(job_id, "came with keys that are not kept, or has expired", "Send it as a new job.")
        if self._tally.is_full:
            raise self._tally.queue_full()
        now = time.time()
        fresh = JobRecord(
            **row.record.model_dump(include={"owner", "id", "api", "dialect", "priority", "wants_inline", "meta"}),
            status=JobStatus.QUEUED,
            created_at=now,
        )
        again = row._replace(record=fresh, queue_until=now + self._settings.ttl_s)

        def queued(was_over: bool) -> None:  # what the store says
            if was_over:
                self._tally.retried += 1
                self._running.join(self._admit(again))

        with self._tally.one_more():
            await self._store.queue_again(again, then=queued)
        return await self.get(owner, job_id)

    async def purge(self, owner: str) -> int:
        """Cancel all of an owner's jobs that wait; return how many."""
        jobs = [job for job in self._running.waiting if job.record.owner == owner]
        for job in jobs:
            await self._running.cancel(job)
        return len(jobs)

    async def list(
        self,
        owner: str,
        *,
        limit: int = 20,
        cursor: str | None = None,
        statuses: Collection[JobStatus] = (),
        api: str | None = None,
    ) -> JobPage:
        """Return some of an owner's jobs, newest first.

        Args:
            owner: Whose.
            limit: How many at most; never more than 100.
            cursor: Where an earlier page ended.
            statuses: Only jobs of these; none is all.
            api: Only jobs that this API took.

        Raises:
            InvalidRequest: `cursor` is none of ours.
        """
        before = None if cursor is None else _read_cursor(cursor)
        most = max(1, min(limit, _MOST_AT_ONCE))
        rows = await self._store.page(owner, before=before, limit=most + 1, statuses=statuses, api=api)
        next_cursor = f"{rows[most - 1].seq:x}" if len(rows) > most else None
        return JobPage(jobs=tuple(self._shown(row) for row in rows[:most]), next_cursor=next_cursor)

    async def events(self, owner: str, job_id: str, *, after: int = 0) -> AsyncGenerator[Event, None]:
        """Give a job's events as they come, to its end or to that of the service; a slow reader holds nothing up.

        Args:
            owner: Whose job.
            job_id: Which job.
            after: The id of the last event that the reader has seen; only newer ones are given.

        Raises:
            NotFound: the owner has none of this id.
        """
        job = self._live.get((owner, job_id))
        if job is not None:
            async with contextlib.aclosing(job.events.follow(after)) as news:
                async for event in news:
                    yield event
            return
        row = await self._store.find(owner, job_id)
        past = await self._store.events(row)
        if not past:  # They have expired, and this is all that is left to tell.
            at = row.record.expires_at or row.record.created_at
            past = [Event(row.last_event_id + 1, EventKind.STATUS, at, StatusChange(row.record.status))]
        for event in past:
            if event.id > after:
                yield event

    async def request(self, owner: str, job_id: str) -> JobRequest:
        """Return a job's request as it was taken, without its secrets.

        Raises:
            NotFound: the owner has no job of this id, or it has expired.
        """
        row = await self._store.find(owner, job_id)
        request = await self._store.request(row.key)
        if request is None:
            raise not_found(job_id)
        return request

    async def body(self, owner: str, job_id: str) -> bytes | None:
        """Return what the API wanted to read again; None if it wanted nothing, or if it has expired.

        Raises:
            NotFound: the owner has no job of this id.
        """
        return await self._store.body((await self._store.find(owner, job_id)).key)

    async def inline(self, result: JobResult, *, limit_bytes: int | None = None) -> JobResult:
        """Return `result` with the bytes of each kept file in its artifact, for an answer that holds them.

        Raises:
            AnswerTooLarge: the answer would have more than `limit_bytes`.
            DeliveryFailed: a file cannot be read any more.
        """
        return await inline_files(result, limit_bytes=limit_bytes)

    async def counts(self) -> Counts:
        """Return how many jobs there are."""
        return self._tally.counts(await self._store.count())

    async def drain(self, within_s: float) -> None:
        """Take no more jobs, wait for those that run, then hand back to the next start what is not over.

        Whoever waits for a job or listens to its events is let go at the end.
        """
        await self._running.stop(within_s)
        for job in self._live.values():
            job.events.close()
            job.over.set()

    def _admit(self, row: JobRow) -> LiveJob:
        """Have a job in memory that is not over."""
        reserve = functools.partial(self._store.reserve_events, row.key)
        events = EventLog(last_id=row.last_event_id, reserve=reserve)
        job = LiveJob(row.key, row.seq, row.record, queue_until=row.queue_until, events=events)
        job.on_output = functools.partial(self._store.note_output, job)
        self._live[row.record.owner, row.record.id] = job
        self._expiry.look_at(row.queue_until)
        job.events.tell(EventKind.STATUS, StatusChange(JobStatus.QUEUED, self._running.waiting.position(job)))
        return job

    def _ended(self, job: LiveJob) -> None:
        record = job.record
        self._live.pop((record.owner, record.id), None)
        self._tally.note_end(record)
        if record.expires_at is not None:
            self._expiry.look_at(record.expires_at)
        if self._on_end is not None:
            self._on_end(record)

    def _shown(self, row: JobRow) -> JobRecord:
        job = self._live.get((row.record.owner, row.record.id))
        return row.record if job is None or job.key != row.key else self._shown_live(job)

    def _shown_live(self, job: LiveJob) -> JobRecord:
        if job.record.status is not JobStatus.QUEUED:
            return job.record
        return job.record.model_copy(update={"queue_position": self._running.waiting.position(job)})

    async def _go_on_with(self, rows: Sequence[JobRow]) -> None:
        """Take up the jobs that the last server left: each runs, or ends."""
        now = time.time()
        ends = {row.key: result for row in rows if (result := outcome_after_restart(row, now)) is not None}
        again = [row for row in rows if row.key not in ends]
        await self._database.run(lambda transaction: self._store.jobs.requeue(transaction, [row.key for row in again]))
        for row in rows:
            record = row.record.model_copy(update={"status": JobStatus.QUEUED})
            if row.key not in ends:
                record = record.model_copy(update={"started_at": None})
            job = self._admit(row._replace(record=record))
            if row.record.attempts and row.key not in ends:
                job.tell_log("warning", "the worker was started again, and runs the job once more")
            if row.key in ends:
                await self._running.end(job, ends[row.key])
            else:
                self._running.join(job)
        if rows:
            log.info("service.went_on", jobs=len(again), ended=len(ends))

    def _find_strays(self, transaction: Transaction) -> Sequence[Path]:
        return self._folder.strays(self._store.jobs.keys(transaction), self._store.assets.files(transaction))

    async def _close(self) -> None:
        await finish(self.drain(0.0), within_s=_CLOSE_WITHIN_S, name="the job service")


def _remove_all(paths: Sequence[Path]) -> None:
    for path in paths:
        remove(path)


def _not_retryable(job_id: str, reason: str, hint: str) -> InvalidRequest:
    message = f"the job {job_id} {reason}"
    return InvalidRequest(message, hint=hint, problems=[Problem(message=message, code="not_retryable", path="id")])


def _read_cursor(cursor: str) -> int:
    try:
        return int(cursor, 16) if len(cursor) <= 16 else int("")
    except ValueError:
        message = "the cursor is none that a list of jobs gave"
        raise InvalidRequest(
            message,
            hint="Begin again without a cursor.",
            problems=[Problem(message=message, code="invalid_value", path="cursor")],
        ) from None
