"""Jobs on the disk: their rows in the database, and what is too large for it as files beside."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from comfyworker.errors import IdempotencyKeyReused, InternalError, MissingAsset, NotFound
from comfyworker.finishing import finish, in_thread
from comfyworker.jobs import JobRequest, JobStatus
from comfyworker.service.asset_table import AssetTable
from comfyworker.service.database import Database, Transaction
from comfyworker.service.events import Event, pack_events, unpack_events
from comfyworker.service.job_table import JobRow, JobTable, NewJob, files_of
from comfyworker.service.keeping import link_or_copy, unwritten
from comfyworker.service.live import LiveJob
from comfyworker.service.records import JobRecord, Submission
from comfyworker.service.state_folder import StateFolder, remove, sync_folder, write_durably
from comfyworker.service.stored_request import StoredRequest, load_request

LARGE_BYTES = 64 * 1024
"""From here on a request is a file of its own; smaller ones are written sooner within the database."""
_REQUEST = "request.json"
_BODY = "body"
_CLEAN_UP_WITHIN_S = 10.0


class Taken(NamedTuple):
    """What became of a submission."""

    row: JobRow
    is_repeat: bool


class JobStore:
    """The jobs of all owners, on the disk."""

    def __init__(self, database: Database, folder: StateFolder) -> None:
        """Keep rows in `database` and files in `folder`."""
        self._database = database
        self._folder = folder
        self.jobs = JobTable(folder)
        self.assets = AssetTable(folder)

    async def add(
        self,
        submission: Submission,
        stored: StoredRequest,
        record: JobRecord,
        *,
        queue_until: float,
        begins: bool,
        then: Callable[[Taken], None],
    ) -> Taken:
        """Write a job down, unless it is there already; it is durable when this returns.

        Args:
            submission: What came in.
            stored: Its request, as it is written down.
            record: The job.
            queue_until: When it has waited too long, in seconds of Unix time.
            begins: Whether it begins at once: then that is written down with it.
            then: Hears of it before, when a kill of the process cannot undo it, also if the caller has gone.

        Raises:
            IdempotencyKeyReused: another job has its id or its idempotency key.
            InsufficientStorage: the disk is full.
        """
        body = submission.body
        large = {
            name: content
            for name, content in ((_REQUEST, stored.content), (_BODY, body))
            if content is not None and len(content) >= LARGE_BYTES
        }
        new = NewJob(
            key=secrets.token_hex(16),
            record=record,
            queue_until=queue_until,
            has_secrets=bool(stored.secret_parts),
            fingerprint=submission.fingerprint or stored.fingerprint,
            idempotency_key=submission.idempotency_key,
            request=None if _REQUEST in large else stored.content,
            body=None if _BODY in large else body,
            begins=begins,
        )
        is_ours = False

        def noted(taken: Taken) -> None:
            nonlocal is_ours
            is_ours = not taken.is_repeat
            then(taken)

        try:
            if large or stored.pinned:
                await in_thread(functools.partial(self._write, new.key, large, stored.pinned))
            return await self._database.run(functools.partial(self._add, new), then=noted)
        except OSError as error:
            raise unwritten("the request", error) from error
        finally:
            if (large or stored.pinned) and not is_ours:
                await finish(self._drop_unused(new.key), within_s=_CLEAN_UP_WITHIN_S, name="files of a job")

    async def find_repeated(self, submission: Submission, stored: StoredRequest, record: JobRecord) -> JobRow | None:
        """Return the job that a submission names a second time; None if it is new.

        Raises:
            IdempotencyKeyReused: that job is another one.
        """
        fingerprint = submission.fingerprint or stored.fingerprint
        key = submission.idempotency_key
        return await self._database.run(
            lambda transaction: _same(self.jobs.find_repeated(transaction, record, key), fingerprint)
        )

    async def find(self, owner: str, job_id: str) -> JobRow:
        """Return an owner's job.

        Raises:
            NotFound: the owner has none of this id.
        """
        row = await self._database.read(lambda transaction: self.jobs.find(transaction, owner, job_id))
        if row is None:
            raise not_found(job_id)
        return row

    async def events(self, row: JobRow) -> list[Event]:
        """Return the events of a job that is over."""
        packed = await self._database.read(lambda transaction: self.jobs.events(transaction, row.key))
        return unpack_events(packed, files_of(row.record.result)) if packed else []

    async def begin(self, job: LiveJob) -> None:
        """Write down that a job runs; a loss of power may undo that, and the job begins for the first time again."""
        record, event_id = job.record, job.events.reserve_more()
        await self._database.run(
            lambda transaction: self.jobs.begin(
                transaction,
                job.key,
                started_at=record.started_at or record.created_at,
                attempts=record.attempts,
                event_id=event_id,
            ),
            may_go_with_power=True,
        )
        if job.has_leftovers:
            await in_thread(lambda: remove(self.outputs_folder(job.key)))

    async def set_status(self, job: LiveJob, status: JobStatus) -> None:
        """Write down the status of a job that is not over."""
        await self._database.run(lambda transaction: self.jobs.set_status(transaction, job.key, status))

    async def hand_back(self, job: LiveJob) -> None:
        """Have a job that runs wait for the next start."""
        event_id = job.events.last_id + 1  # That it waits again is told, too.
        await self._database.run(lambda transaction: self.jobs.hand_back(transaction, job.key, event_id=event_id))

    def note_not_begun(self, job: LiveJob) -> None:
        """Have a job wait that was to begin at once, and did not."""
        event_id = job.events.reserve_more()
        self._database.post(lambda transaction: self.jobs.hand_back(transaction, job.key, event_id=event_id))

    async def end(self, job: LiveJob, record: JobRecord, events: list[Event], *, then: Callable[[None], None]) -> None:
        """Write down what came of a job, and which files it left.

        No kill of the process undoes that. A loss of power may, for as long as the disk takes: then the job runs again.
        """
        packed, last_id = pack_events(events), events[-1].id
        # Those that were told while it ran stay, whatever became of it.
        outputs = {output.asset_id: output for output in (*job.record.outputs, *files_of(record.result))}

        def write(transaction: Transaction) -> None:
            self.jobs.end(transaction, job.key, record, events=packed, last_event_id=last_id)
            created_at = record.started_at or record.created_at
            self.assets.put_outputs(
                transaction,
                job.key,
                record.owner,
                tuple(outputs.values()),
                created_at=created_at,
                expires_at=record.expires_at,
            )

        await self._database.run(write, then=then, may_go_with_power=True)

    async def all_durable(self) -> None:
        """Return when no loss of power can undo anything that has been written by now.

        Raises:
            InsufficientStorage: the disk refuses.
        """
        await self._database.run(lambda _: None)

    def reserve_events(self, key: str, event_id: int) -> None:
        """Note up to which id a job's events may be told."""
        self._database.post(lambda transaction: self.jobs.reserve_events(transaction, key, event_id))

    async def queue_again(self, row: JobRow, *, then: Callable[[bool], None]) -> bool:
        """Have a job that is over wait once more; False if it is not over any more, or has expired meanwhile."""

        def write(transaction: Transaction) -> bool:
            found = self.jobs.find(transaction, row.record.owner, row.record.id)
            if found is None or found.key != row.key or not found.record.is_terminal:
                return False  # Somebody else was faster.
            if self.jobs.events(transaction, row.key) is None:
                return False  # It has just expired.
            self.jobs.queue_again(transaction, row)
            return True

        return await self._database.run(write, then=then)

    async def requeue(self, rows: Sequence[JobRow]) -> None:
        """Have jobs that ran when the server ended wait again."""
        await self._database.run(lambda transaction: self.jobs.requeue(transaction, [row.key for row in rows]))

    async def page(
        self, owner: str, *, before: int | None, limit: int, statuses: Collection[JobStatus], api: str | None
    ) -> list[JobRow]:
        """Return an owner's jobs, newest first."""
        return await self._database.read(
            lambda transaction: self.jobs.page(
                transaction, owner, before=before, limit=limit, statuses=statuses, api=api
            )
        )

    async def count(self) -> dict[JobStatus, int]:
        """Return how many jobs of each status there are."""
        return await self._database.read(self.jobs.count)

    async def request(self, key: str, secret_parts: dict[str, object] | None = None) -> JobRequest | None:
        """Return the request of a job; None if it has expired."""
        content, _ = await self._database.read(lambda transaction: self.jobs.payload(transaction, key))
        folder = self._folder.job(key)
        if content is not None:
            return load_request(content, folder, secret_parts)
        path = folder / _REQUEST
        try:
            return await in_thread(lambda: load_request(path.read_bytes(), folder, secret_parts))
        except FileNotFoundError:
            return None

    async def needed_request(self, key: str, secret_parts: dict[str, object]) -> JobRequest:
        """Return the request of a job that is about to run, with its secrets.

        Raises:
            InternalError: it is gone from the disk.
        """
        request = await self.request(key, secret_parts)
        if request is None:
            raise InternalError("the job's request is gone from the worker's disk")
        return request

    async def body(self, key: str) -> bytes | None:
        """Return what the API wanted to read again; None if there is nothing, or if it has expired."""
        _, body = await self._database.read(lambda transaction: self.jobs.payload(transaction, key))
        path = self._folder.job(key) / _BODY
        if body is not None or not path.exists():
            return body
        return await in_thread(path.read_bytes)

    def outputs_folder(self, key: str) -> Path:
        """Return where the files lie that a job made."""
        return self._folder.job(key) / "outputs"

    def _add(self, new: NewJob, transaction: Transaction) -> Taken:
        found = self.jobs.find_repeated(transaction, new.record, new.idempotency_key)
        while found is not None and found.record.status is JobStatus.EXPIRED:
            self.jobs.delete(transaction, found.key)  # Its id and its key are free again.
            transaction.after_commit(functools.partial(remove, self._folder.job(found.key)))
            found = self.jobs.find_repeated(transaction, new.record, new.idempotency_key)
        repeated = _same(found, new.fingerprint)
        if repeated is not None:
            return Taken(repeated, is_repeat=True)
        seq = self.jobs.insert(transaction, new)
        row = JobRow(new.key, seq, new.record, new.queue_until, new.has_secrets, new.fingerprint, last_event_id=0)
        return Taken(row, is_repeat=False)

    def _write(self, key: str, large: dict[str, bytes], pinned: dict[str, Path]) -> None:
        """Have a job's files in its folder; those that it only names would be gone with who owns them."""
        folder = self._folder.job(key)
        for name, content in large.items():
            write_durably(folder / name, content)
        for place, source in pinned.items():
            target = folder / place
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                link_or_copy(source, target)
            except FileNotFoundError as error:
                raise MissingAsset(
                    "an input file of the request has just expired", hint="Upload it, and send the request again."
                ) from error
        if pinned:
            for written in (folder / "inputs", folder, folder.parent):
                sync_folder(written)

    async def _drop_unused(self, key: str) -> None:
        # Asked behind the insertion, which goes on when the caller is cancelled.
        if not await self._database.run(lambda transaction: self.jobs.has(transaction, key)):
            await in_thread(lambda: remove(self._folder.job(key)))


def _same(row: JobRow | None, fingerprint: str) -> JobRow | None:
    if row is not None and row.fingerprint != fingerprint:
        raise IdempotencyKeyReused(
            f"the job {row.record.id} is there already and asks for something else",
            hint="Give each job an id, and an idempotency key, of its own; send both again only with the same request.",
        )
    return row


def not_found(job_id: str) -> NotFound:
    """Return the error for a job that its owner does not have."""
    return NotFound(f"there is no job {job_id}", hint="It was never there, or its record has expired.")
