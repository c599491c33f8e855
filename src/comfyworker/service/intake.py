"""How jobs come in: from callers, from callers once more, and from the server before this one."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Sequence

import structlog

from comfyworker.errors import InvalidRequest, Problem
from comfyworker.finishing import in_thread
from comfyworker.jobs import JobStatus
from comfyworker.service.endings import outcome_after_restart
from comfyworker.service.events import EventKind, EventLog, StatusChange
from comfyworker.service.expiry import Expiry
from comfyworker.service.job_table import JobRow
from comfyworker.service.live import LiveJob
from comfyworker.service.live_outputs import LiveOutputs
from comfyworker.service.records import JobRecord, Submission
from comfyworker.service.running import Running
from comfyworker.service.store import JobStore, Taken
from comfyworker.service.stored_request import StoredRequest, store_request, wants_inline
from comfyworker.service.tally import Tally

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_IN_THREAD_ABOVE = 100
"""Nodes above which a request is made ready for the disk in a thread."""


class Intake:
    """Takes jobs, and knows those that are not over."""

    def __init__(  # made in one place, of what that place owns
        self,
        store: JobStore,
        running: Running,
        expiry: Expiry,
        tally: Tally,
        outputs: LiveOutputs,
        *,
        ttl_s: float,
    ) -> None:
        """Write jobs down in `store` and have them run by `running`.

        Args:
            store: Where jobs are written down.
            running: What runs them.
            expiry: What is told when a job has waited too long.
            tally: What knows whether there is room.
            outputs: What knows the files of jobs that are not over.
            ttl_s: Seconds that a job may wait that does not say.
        """
        self._store = store
        self._running = running
        self._expiry = expiry
        self._tally = tally
        self._outputs = outputs
        self._ttl_s = ttl_s
        self.live: dict[tuple[str, str], LiveJob] = {}
        """The jobs that are not over, by owner and id."""
        self._has_let_go = False
        self._arrivals = itertools.count()

    async def take(self, submission: Submission) -> JobRecord:
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
            return self.shown_row(row).model_copy(update={"is_repeat": True})

        ttl_s = self._ttl_s if submission.ttl_s is None else submission.ttl_s
        with self._tally.one_more() as coming, self._running.held_place() as place:
            begins = place.is_held

            def taken(taken: Taken) -> None:
                # It begins here, before the disk has it: its client hears of it only then.
                if not taken.is_repeat:
                    coming.release()
                    place.release()
                    self._go_on_from(taken.row, submission, stored, begins=begins)

            done = await self._store.add(submission, stored, record, queue_until=now + ttl_s, begins=begins, then=taken)
        shown = self.shown_row(done.row)
        return shown.model_copy(update={"is_repeat": True}) if done.is_repeat else shown

    async def take_again(self, owner: str, job_id: str, submission: Submission | None) -> JobRecord:
        """Have a job that came to nothing wait once more, under the same id; its secrets are those of `submission`.

        Raises:
            NotFound: the owner has none of this id.
            InvalidRequest: the job is not over, succeeded, had keys that are not kept, or its request has expired.
            QueueFull: as many jobs wait as may, or the service stops.
        """
        if (owner, job_id) in self.live:
            raise _not_retryable(job_id, "is not over", "Wait for its end.")
        row = await self._store.find(owner, job_id)
        if row.record.status is JobStatus.SUCCEEDED:
            raise _not_retryable(job_id, "has succeeded", "Send it as a new job to run it again.")
        lacks_secrets = row.has_secrets and submission is None
        if lacks_secrets or await self._store.request(row.key) is None:
            raise _not_retryable(job_id, "came with keys that are not kept, or has expired", "Send it as a new job.")
        if self._tally.is_full:
            raise self._tally.queue_full()
        now = time.time()
        fresh = JobRecord(
            **row.record.model_dump(include={"owner", "id", "api", "dialect", "priority", "wants_inline", "meta"}),
            status=JobStatus.QUEUED,
            created_at=now,
        )
        secret_parts = {} if submission is None else store_request(submission.request).secret_parts
        again = row._replace(record=fresh, queue_until=now + self._ttl_s, has_secrets=bool(secret_parts))

        waits: JobRecord | None = None

        def queued(was_over: bool) -> None:  # what the store says
            nonlocal waits
            if was_over:
                self._tally.retried += 1
                coming.release()
                job = self._admit(again)
                job.secret_parts = secret_parts
                waits = self.shown(job)
                self._running.join(job)

        with self._tally.one_more() as coming:
            await self._store.queue_again(again, then=queued)
        if waits is not None:
            return waits
        now_there = await self._store.find(owner, job_id)
        if now_there.record.status is JobStatus.EXPIRED:
            raise _not_retryable(job_id, "has just expired", "Send it as a new job.")
        return self.shown_row(now_there)

    async def go_on_with(self, rows: Sequence[JobRow]) -> None:
        """Take up the jobs that the last server left: each runs, or ends."""
        now = time.time()
        ends = {row.key: result for row in rows if (result := outcome_after_restart(row, now)) is not None}
        again = [row for row in rows if row.key not in ends]
        await self._store.requeue(again)
        for row in sorted(rows, key=lambda row: (row.record.created_at, row.seq)):
            record = row.record.model_copy(update={"status": JobStatus.QUEUED})
            if row.key not in ends:
                record = record.model_copy(update={"started_at": None})
            job = self._admit(row._replace(record=record))
            if row.record.attempts and row.key not in ends:
                job.tell_log("warning", "the worker was started again, and runs the job once more")
            if row.key in ends:
                self._running.end_unrun(job, ends[row.key])
            else:
                self._running.join(job)
        if rows:
            log.info("service.went_on", jobs=len(again), ended=len(ends))

    def let_go(self) -> None:
        """Have nobody wait for a job or listen to one any more, from now on."""
        self._has_let_go = True
        for job in self.live.values():
            job.let_go()

    def _go_on_from(self, row: JobRow, submission: Submission, stored: StoredRequest, *, begins: bool) -> None:
        """Have a job run or wait that was just written down; `begins` says whether its beginning was, too."""
        job = self._admit(row)
        job.secret_parts = stored.secret_parts
        job.note_webhook(submission.request)
        job.is_begin_written = begins
        # One that begins at once need not be read again; those that wait take no memory.
        job.request = submission.request if begins and not stored.pinned else None
        self._running.join(job)

    def _admit(self, row: JobRow) -> LiveJob:
        """Have a job in memory that is not over."""
        reserve = functools.partial(self._store.reserve_events, row.key)
        events = EventLog(last_id=row.last_event_id, reserve=reserve)
        job = LiveJob(row.key, next(self._arrivals), row.record, queue_until=row.queue_until, events=events)
        job.has_leftovers = row.last_event_id > 0
        job.on_output = functools.partial(self._outputs.add, job)
        self.live[row.record.owner, row.record.id] = job
        self._expiry.look_at(row.queue_until)
        job.events.tell(EventKind.STATUS, StatusChange(JobStatus.QUEUED, self._running.waiting.position(job)))
        if self._has_let_go:  # It was on its way to the disk when the service stopped; the next start runs it.
            job.let_go()
        return job

    def shown_row(self, row: JobRow) -> JobRecord:
        """Return a job as it stands, of which the database says `row`."""
        job = self.live.get((row.record.owner, row.record.id))
        return row.record if job is None or job.key != row.key else self.shown(job)

    def shown(self, job: LiveJob) -> JobRecord:
        """Return a job that is not over as it stands, with its place in the line."""
        if job.record.status is not JobStatus.QUEUED:
            return job.record
        return job.record.model_copy(update={"queue_position": self._running.waiting.position(job)})


def _not_retryable(job_id: str, reason: str, hint: str) -> InvalidRequest:
    message = f"the job {job_id} {reason}"
    return InvalidRequest(message, hint=hint, problems=[Problem(message=message, code="not_retryable", path="id")])
