"""The job service below all APIs: submit, get, wait, cancel, events, list; durable, whatever ends the process."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from comfyworker.errors import InternalError, InvalidRequest, Problem
from comfyworker.finishing import finish, in_thread
from comfyworker.jobs import JobRequest, JobResult, JobStatus
from comfyworker.service.answering import inline_files
from comfyworker.service.assets import Assets
from comfyworker.service.database import Database, Transaction
from comfyworker.service.events import Event, EventKind, StatusChange
from comfyworker.service.expiry import Expiry
from comfyworker.service.intake import Intake
from comfyworker.service.live import LiveJob
from comfyworker.service.live_outputs import LiveOutputs
from comfyworker.service.protocol import EndTeller, Runner
from comfyworker.service.records import Counts, JobPage, JobRecord, Submission
from comfyworker.service.running import Running
from comfyworker.service.state_folder import StateFolder, remove
from comfyworker.service.store import JobStore, not_found
from comfyworker.service.tally import Tally
from comfyworker.settings import QueueSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_CLOSE_WITHIN_S = 60.0
_MOST_AT_ONCE = 100


class JobService:
    """Takes jobs, runs them, and remembers what came of them; an async context manager that owns its tasks."""

    def __init__(  # noqa: PLR0913  # made in one place
        self,
        runner: Runner,
        settings: QueueSettings,
        *,
        folder: Path,
        places: int,
        copies: bool = False,
        on_end: Callable[[JobRecord], None] | None = None,
        tell_end: EndTeller | None = None,
    ) -> None:
        """Run jobs by `runner`.

        Args:
            runner: Runs one job.
            settings: How many jobs wait, and how long all is kept.
            folder: The worker's state folder; no other server may have it.
            places: How many jobs are given to the runner at the same time.
            copies: Whether finished files are copied where a hard link would do: true where their originals stay.
            on_end: Called for each job that is over, on the event loop; must not block.
            tell_end: Called for each job before its end is written down; the end waits for it.
        """
        self._folder = StateFolder(folder)
        self._database = Database(self._folder.database)
        self._store = JobStore(self._database, self._folder)
        self._outputs = LiveOutputs()
        self.assets = Assets(self._database, self._folder, self._outputs, settings)
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
            tell_end=tell_end,
        )
        self._expiry = Expiry(self._database, self._folder, self._store, self._running, settings)
        self._tally = Tally(self._running, settings, places=places)
        self._on_end = on_end
        self._intake = Intake(
            self._store, self._running, self._expiry, self._tally, self._outputs, ttl_s=settings.ttl_s
        )
        self._at_start: Counter[JobStatus] = Counter()
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
            rows = await self._database.read(self._store.jobs.unfinished)
            counted = await self._store.count()
            self._at_start = Counter({status: counted[status] for status in counted if status.is_terminal})
            strays = await self._database.run(self._clean_up)
            await self._group.__aenter__()
            exit_stack.push_async_callback(self._leave_group)
            exit_stack.push_async_callback(self._close)
            self._group.create_task(in_thread(functools.partial(_remove_all, strays)), name="removing stray files")
            await self._intake.go_on_with(rows)
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
            MissingAsset: a file that it names is not there any more.
            InsufficientStorage: the disk is full.
        """
        return await self._intake.take(submission)

    async def get(self, owner: str, job_id: str) -> JobRecord:
        """Return a job as it stands.

        Raises:
            NotFound: the owner has none of this id.
        """
        job = self._intake.live.get((owner, job_id))
        return self._intake.shown(job) if job is not None else (await self._store.find(owner, job_id)).record

    async def wait(self, owner: str, job_id: str, *, timeout_s: float) -> JobRecord:
        """Return a job when it is over, or as it stands after `timeout_s` or when the service stops.

        Raises:
            NotFound: the owner has none of this id.
        """
        job = self._intake.live.get((owner, job_id))
        if job is None:
            return (await self._store.find(owner, job_id)).record
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await job.over.wait()
        return self._intake.shown(job)

    async def cancel(self, owner: str, job_id: str) -> JobRecord:
        """Have a job end as canceled: at once if it waits, soon if it runs; one that is over stays as it is.

        Raises:
            NotFound: the owner has none of this id.
        """
        job = self._intake.live.get((owner, job_id))
        if job is None:
            return (await self._store.find(owner, job_id)).record
        await self._running.cancel(job)
        return self._intake.shown(job)

    async def retry(self, owner: str, job_id: str, *, submission: Submission | None = None) -> JobRecord:
        """Have a job that came to nothing wait once more, under the same id.

        Args:
            owner: Whose job.
            job_id: Which job.
            submission: The same request, if its client has sent it again: keys and secrets are taken from it.

        Raises:
            NotFound: the owner has none of this id.
            InvalidRequest: the job is not over, succeeded, had keys that are not kept, or its request has expired.
            QueueFull: as many jobs wait as may, or the service stops.
        """
        return await self._intake.take_again(owner, job_id, submission)

    async def purge(self, owner: str) -> int:
        """Cancel all of an owner's jobs that wait; return how many."""
        return await self._running.cancel_waiting(owner)

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
        return JobPage(jobs=tuple(self._intake.shown_row(row) for row in rows[:most]), next_cursor=next_cursor)

    async def events(self, owner: str, job_id: str, *, after: int = 0) -> AsyncGenerator[Event, None]:
        """Give a job's events as they come, to its end or to that of the service; a slow reader holds nothing up.

        Args:
            owner: Whose job.
            job_id: Which job.
            after: The id of the last event that the reader has seen; only newer ones are given.

        Raises:
            NotFound: the owner has none of this id.
        """
        job = self._intake.live.get((owner, job_id))
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
        if after > max(row.last_event_id, past[-1].id):
            after = past[-1].id - 1  # Never told of this job: the reader saw another one of this id, or means the end.
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

    def counts_now(self) -> Counts:
        """Return how many jobs there are, at once: the database, which may be busy, is not asked.

        `by_status` has the jobs that have ended as they ended, those that have expired since included.
        """
        counts = self._tally.counts({})
        return counts.model_copy(update={"by_status": dict(self._at_start + Counter(counts.ended))})

    async def drain(self, within_s: float) -> None:
        """Take no more jobs, wait for those that run, then hand back to the next start what is not over.

        Whoever waits for a job or listens to its events is let go at the end.
        """
        await self._running.stop(within_s)
        self._intake.let_go()

    def _ended(self, job: LiveJob) -> None:
        record = job.record
        self._intake.live.pop((record.owner, record.id), None)
        self._outputs.drop(job)
        self._tally.note_end(record)
        if record.expires_at is not None:
            self._expiry.look_at(record.expires_at)
        if self._on_end is not None:
            try:
                self._on_end(record)
            except Exception:
                log.exception("service.not_told", job_id=record.id)

    def _clean_up(self, transaction: Transaction) -> Sequence[Path]:
        """Remove the files of no asset; return the folders of no job, which may take longer."""
        # Before anything comes in: an upload of the same bytes gets the same name. Folders of jobs never do.
        _remove_all(self._folder.stray_files(self._store.assets.files(transaction)))
        return self._folder.stray_jobs(self._store.jobs.keys(transaction))

    async def _leave_group(self) -> None:
        # Not told of an error: what ends the host is no fault of a task here, and leaves as it is.
        try:
            await self._group.__aexit__(None, None, None)
        except BaseExceptionGroup as faults:
            raise InternalError("a part of the job service broke", hint="The worker's log has the cause.") from faults

    async def _close(self) -> None:
        await finish(self.drain(0.0), within_s=_CLOSE_WITHIN_S, name="the job service")


def _remove_all(paths: Sequence[Path]) -> None:
    for path in paths:
        remove(path)


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
