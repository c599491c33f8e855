"""The jobs in the database: what each statement reads and writes. All of this runs in the database's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import structlog
from pydantic import ValidationError

from comfyworker.errors import InternalError
from comfyworker.jobs import JobError, JobStatus, Progress
from comfyworker.service.database import Transaction
from comfyworker.service.events import RESERVED_IDS
from comfyworker.service.packing import pack, unpack
from comfyworker.service.records import JobRecord, KeptArtifact, KeptResult
from comfyworker.service.state_folder import StateFolder

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_COLUMNS = (
    "key, seq, owner, id, api, dialect, status, priority, created_at, queue_until, started_at, completed_at, "
    "expires_at, attempts, wants_inline, has_secrets, fingerprint, meta, progress, result, last_event_id"
)

_IS_WHOLE = "(status != 'expired' OR events IS NOT NULL)"
"""Whether a job that is over has not been let go; one that waited too long is `expired` before that."""


class JobRow(NamedTuple):
    """One job as the database has it."""

    key: str
    seq: int
    record: JobRecord
    queue_until: float
    has_secrets: bool
    fingerprint: str
    last_event_id: int
    """No event has a higher id."""


class NewJob(NamedTuple):
    """A job to be written down."""

    key: str
    record: JobRecord
    queue_until: float
    has_secrets: bool
    fingerprint: str
    idempotency_key: str | None
    request: bytes | None
    """None where it is a file."""
    body: bytes | None
    """None where it is a file, or where there is none."""
    begins: bool
    """Whether it begins at once, and need not be written down a second time for that."""


class JobTable:
    """Statements on the jobs."""

    def __init__(self, folder: StateFolder) -> None:
        """Write paths down as they are within `folder`."""
        self._folder = folder

    def find(self, transaction: Transaction, owner: str, job_id: str) -> JobRow | None:
        """Return an owner's job."""
        cursor = transaction.execute(f"SELECT {_COLUMNS} FROM jobs WHERE owner = ? AND id = ?", (owner, job_id))  # noqa: S608  # the columns are ours
        return self._row(cursor.fetchone())

    def find_repeated(self, transaction: Transaction, record: JobRecord, idempotency_key: str | None) -> JobRow | None:
        """Return the job that a submission names a second time, by its id or by the idempotency key."""
        found = self.find(transaction, record.owner, record.id)
        if found is not None or idempotency_key is None:
            return found
        sql = f"SELECT {_COLUMNS} FROM jobs WHERE owner = ? AND api = ? AND idempotency_key = ?"  # noqa: S608  # the columns are ours
        return self._row(transaction.execute(sql, (record.owner, record.api, idempotency_key)).fetchone())

    def unfinished(self, transaction: Transaction) -> list[JobRow]:
        """Return all jobs that are not over, oldest first."""
        sql = f"SELECT {_COLUMNS} FROM jobs WHERE status IN ('queued', 'running', 'canceling') ORDER BY seq"  # noqa: S608  # the columns are ours
        return [row for found in transaction.execute(sql) if (row := self._row(found)) is not None]

    def page(
        self,
        transaction: Transaction,
        owner: str,
        *,
        before: int | None,
        limit: int,
        statuses: Collection[JobStatus],
        api: str | None,
    ) -> list[JobRow]:
        """Return an owner's jobs, newest first."""
        conditions, values = ["owner = ?"], [owner]
        if before is not None:
            conditions.append("seq < ?")
            values.append(str(before))
        if statuses:
            conditions.append(f"status IN ({', '.join('?' * len(statuses))})")
            values += sorted(statuses)
        if api is not None:
            conditions.append("api = ?")
            values.append(api)
        sql = f"SELECT {_COLUMNS} FROM jobs WHERE {' AND '.join(conditions)} ORDER BY seq DESC LIMIT {limit:d}"  # noqa: S608  # all values are bound
        return [row for found in transaction.execute(sql, values) if (row := self._row(found)) is not None]

    def insert(self, transaction: Transaction, job: NewJob) -> int:
        """Write a job down; return its number among the submissions."""
        record = job.record
        values = {
            "key": job.key,
            **record.model_dump(include={"owner", "id", "api", "dialect", "priority", "created_at", "wants_inline"}),
            "status": record.status.value,
            "queue_until": job.queue_until,
            "has_secrets": job.has_secrets,
            "idempotency_key": job.idempotency_key,
            "fingerprint": job.fingerprint,
            "meta": pack(record.meta).decode(),
        }
        if job.begins:
            values |= {
                "status": JobStatus.RUNNING.value,
                "started_at": record.created_at,
                "attempts": 1,
                "last_event_id": RESERVED_IDS,
            }
        sql = f"INSERT INTO jobs ({', '.join(values)}) VALUES ({', '.join(f':{name}' for name in values)})"  # noqa: S608  # the columns are ours
        seq = transaction.execute(sql, values).lastrowid
        transaction.execute("INSERT INTO payloads VALUES (?, ?, ?)", (job.key, job.request, job.body))
        return seq or 0

    def begin(self, transaction: Transaction, key: str, *, started_at: float, attempts: int, event_id: int) -> None:
        """Note that a job runs."""
        transaction.execute(
            "UPDATE jobs SET status = 'running', started_at = ?, attempts = ?, last_event_id = ? WHERE key = ?",
            (started_at, attempts, event_id, key),
        )

    def set_status(self, transaction: Transaction, key: str, status: JobStatus) -> None:
        """Note the status of a job that is not over."""
        transaction.execute("UPDATE jobs SET status = ? WHERE key = ?", (status.value, key))

    def hand_back(self, transaction: Transaction, key: str, *, event_id: int) -> None:
        """Have a job that runs wait again, as if it had not begun; `event_id` is the last that was told."""
        transaction.execute(
            "UPDATE jobs SET status = 'queued', started_at = NULL, attempts = attempts - 1, last_event_id = ? "
            "WHERE key = ?",
            (event_id, key),
        )

    def reserve_events(self, transaction: Transaction, key: str, event_id: int) -> None:
        """Note up to which id a job's events may have been told."""
        transaction.execute(
            "UPDATE jobs SET last_event_id = ? WHERE key = ? AND last_event_id < ?", (event_id, key, event_id)
        )

    def end(self, transaction: Transaction, key: str, record: JobRecord, *, events: bytes, last_event_id: int) -> None:
        """Write down what came of a job."""
        transaction.execute(
            "UPDATE jobs SET status = :status, started_at = :started_at, completed_at = :completed_at, "
            "expires_at = :expires_at, progress = :progress, result = :result, events = :events, "
            "last_event_id = :last_event_id WHERE key = :key",
            {
                "key": key,
                "status": record.status.value,
                "started_at": record.started_at,
                "completed_at": record.completed_at,
                "expires_at": record.expires_at,
                "progress": pack(record.progress.model_dump()) if record.progress else None,
                "result": self._pack_result(record.result) if record.result else None,
                "events": events,
                "last_event_id": last_event_id,
            },
        )

    def queue_again(self, transaction: Transaction, row: JobRow) -> None:
        """Have a job that is over wait once more, as `row` says; what came of it is forgotten."""
        transaction.execute(
            "UPDATE jobs SET status = 'queued', created_at = ?, queue_until = ?, has_secrets = ?, started_at = NULL, "
            "completed_at = NULL, expires_at = NULL, attempts = 0, progress = NULL, result = NULL, events = NULL "
            "WHERE key = ?",
            (row.record.created_at, row.queue_until, row.has_secrets, row.key),
        )
        transaction.execute("DELETE FROM assets WHERE job_key = ?", (row.key,))

    def requeue(self, transaction: Transaction, keys: Sequence[str]) -> None:
        """Have jobs that ran when the server ended wait again; the files of their first runs are forgotten."""
        for key in keys:
            transaction.execute("UPDATE jobs SET status = 'queued', started_at = NULL WHERE key = ?", (key,))
            transaction.execute("DELETE FROM assets WHERE job_key = ?", (key,))

    def expire(self, transaction: Transaction, row: JobRow, record: JobRecord) -> None:
        """Forget what came of a job, but not that there was one."""
        result = self._pack_result(record.result) if record.result else None
        transaction.execute(
            "UPDATE jobs SET status = 'expired', result = ?, events = NULL WHERE key = ?", (result, row.key)
        )
        transaction.execute("UPDATE payloads SET request = NULL, body = NULL WHERE key = ?", (row.key,))
        transaction.execute("DELETE FROM assets WHERE job_key = ?", (row.key,))

    def expired(self, transaction: Transaction, now: float, *, most: int) -> list[JobRow]:
        """Return jobs whose results are due to go."""
        sql = f"SELECT {_COLUMNS} FROM jobs WHERE expires_at <= ? AND {_IS_WHOLE} LIMIT {most:d}"  # noqa: S608  # the columns are ours
        found = transaction.execute(sql, (now,))
        return [row for columns in found if (row := self._row(columns)) is not None]

    def delete(self, transaction: Transaction, key: str) -> None:
        """Forget a job."""
        transaction.execute("DELETE FROM jobs WHERE key = ?", (key,))

    def forget_expired(self, transaction: Transaction, before: float) -> list[str]:
        """Forget the jobs whose results went before a moment; return their keys."""
        sql = "DELETE FROM jobs WHERE status = 'expired' AND expires_at <= ? RETURNING key"
        return [key for (key,) in transaction.execute(sql, (before,)).fetchall()]

    def next_expiry(self, transaction: Transaction, *, record_ttl_s: float) -> float | None:
        """Return when the next result is due to go, or the next job to be forgotten."""
        sql = f"SELECT min(expires_at + iif({_IS_WHOLE}, 0, ?)) FROM jobs WHERE expires_at IS NOT NULL"  # noqa: S608  # the words are ours
        found: float | None = transaction.execute(sql, (record_ttl_s,)).fetchone()[0]
        return found

    def payload(self, transaction: Transaction, key: str) -> tuple[bytes | None, bytes | None]:
        """Return the request and the body of a job, where they are no files."""
        found = transaction.execute("SELECT request, body FROM payloads WHERE key = ?", (key,)).fetchone()
        return (found[0], found[1]) if found else (None, None)

    def events(self, transaction: Transaction, key: str) -> bytes | None:
        """Return the events of a job that is over."""
        found = transaction.execute("SELECT events FROM jobs WHERE key = ?", (key,)).fetchone()
        return found[0] if found else None

    def count(self, transaction: Transaction) -> dict[JobStatus, int]:
        """Return how many jobs of each status there are."""
        found = transaction.execute("SELECT status, count(*) FROM jobs GROUP BY status").fetchall()
        return {JobStatus(status): number for status, number in found}

    def has(self, transaction: Transaction, key: str) -> bool:
        """Tell whether there is a job of this name."""
        return transaction.execute("SELECT 1 FROM jobs WHERE key = ?", (key,)).fetchone() is not None

    def keys(self, transaction: Transaction) -> set[str]:
        """Return the names of all jobs."""
        return {key for (key,) in transaction.execute("SELECT key FROM jobs").fetchall()}

    def _row(self, columns: Sequence[object] | sqlite3.Row | None) -> JobRow | None:
        if columns is None:
            return None
        row = dict(zip(_COLUMNS.split(", "), columns, strict=True))
        result = self._unpack_result(row)
        key, seq, until, secrets, fingerprint, last = (
            row.pop(name) for name in ("key", "seq", "queue_until", "has_secrets", "fingerprint", "last_event_id")
        )
        progress = row.pop("progress")
        record = JobRecord.model_validate(
            {
                **row,
                "meta": unpack(row["meta"]),
                "progress": Progress.model_validate(unpack(progress)) if progress else None,
                "result": result,
                "outputs": files_of(result),
            }
        )
        return JobRow(key, seq, record, until, bool(secrets), fingerprint, last)

    def _pack_result(self, result: KeptResult) -> bytes:
        dumped = result.model_dump()
        for artifact in dumped["artifacts"]:
            if artifact["path"] is not None:
                # Paths lead from the folder, which may be another one tomorrow.
                artifact["path"] = self._folder.relative(artifact["path"])
        return pack(dumped)

    def _unpack_result(self, row: dict[str, Any]) -> KeptResult | None:  # Any: each column has its own type
        stored = row.pop("result")
        if stored is None:
            return None
        try:
            result = KeptResult.model_validate(unpack(stored))
        except ValidationError:
            log.warning("service.result_not_read", job_id=row["id"])
            error = InternalError("the result was written down by another version of the worker")
            return KeptResult(id=row["id"], status=row["status"], error=JobError.of(error))
        placed = tuple(
            artifact
            if artifact.path is None
            else artifact.model_copy(update={"path": self._folder.absolute(str(artifact.path))})
            for artifact in result.artifacts
        )
        return result.model_copy(update={"artifacts": placed})


def files_of(result: KeptResult | None) -> tuple[KeptArtifact, ...]:
    """Return the files among the artifacts of a job that did arrive."""
    if result is None:
        return ()
    return tuple(artifact for artifact in result.artifacts if artifact.is_file and artifact.failure is None)
