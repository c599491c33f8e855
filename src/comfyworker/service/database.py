"""One SQLite file, spoken to from one thread; what is written together is made durable together.

sqlite3 of the standard library in a thread of our own, not aiosqlite: a change is several statements, which aiosqlite
would bring to its thread one by one, and changes of several callers share one transaction here.

A commit does not wait for the disk: a kill of the process cannot undo it. A second thread (`DurableLog`) forces it to
the disk at once, and who must not lose it to a loss of power either waits for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, NamedTuple, Self, TypeVar

import structlog

from comfyworker.errors import InsufficientStorage, InternalError, InvalidSettings, WorkerError
from comfyworker.finishing import in_thread
from comfyworker.service.disk import DurableLog
from comfyworker.service.rounds import Rounds
from comfyworker.service.schema import prepare_schema

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_T = TypeVar("_T")
_MOST_AT_ONCE = 128
_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC}
_UNUSABLE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}


class Transaction:
    """What a piece of work does within the database; only valid while it runs."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Work on `connection`."""
        self._connection = connection
        self.afterwards: list[Callable[[], None]] = []

    def execute(self, sql: str, values: Sequence[object] | dict[str, Any] = ()) -> sqlite3.Cursor:
        """Execute one statement."""
        return self._connection.execute(sql, values)

    def after_commit(self, work: Callable[[], None]) -> None:
        """Do `work` when all this is durable, before anything else is done in the database."""
        self.afterwards.append(work)


class _Job(NamedTuple, Generic[_T]):
    work: Callable[[Transaction], _T]
    future: asyncio.Future[_T] | None
    then: Callable[[_T], None] | None
    may_go_with_power: bool = False


class _Outcome(NamedTuple):
    job: _Job[Any]  # Any: each work returns its own
    value: Any
    error: Exception | None

    @property
    def waits(self) -> bool:
        """Whether somebody waits for the disk to have it."""
        return self.error is None and self.job.future is not None and not self.job.may_go_with_power


class Database:
    """A SQLite file; an async context manager."""

    def __init__(self, path: Path) -> None:
        """Use the file `path`, which is made if there is none."""
        self._path = path
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="jobs database", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rounds: Rounds | None = None
        self._opened: asyncio.Future[None] | None = None
        self._is_closed = False

    async def __aenter__(self) -> Self:
        """Open the file.

        Raises:
            InvalidSettings: it is no database of ours, or another process has it.
            InsufficientStorage: the disk is full.
        """
        self._loop = asyncio.get_running_loop()
        self._rounds = Rounds(self._loop)
        self._opened = self._loop.create_future()
        self._thread.start()
        await self._opened
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do what was asked for, then close the file."""
        self._is_closed = True
        self._jobs.put(None)
        await in_thread(self._thread.join)

    async def run(
        self,
        work: Callable[[Transaction], _T],
        *,
        then: Callable[[_T], None] | None = None,
        may_go_with_power: bool = False,
    ) -> _T:
        """Return what `work` returns, when all that is written by then is durable.

        Works are done in the order of the calls. A caller who is cancelled meanwhile does not stop them.

        Args:
            work: Called in the database's thread.
            then: Called with its result on the event loop when it is committed, also if the caller has gone: a kill of
                the process cannot undo it then, a loss of power still can.
            may_go_with_power: Whether to return at that moment, too, and not to wait for the disk.

        Raises:
            InsufficientStorage: the disk is full, or refuses what is committed; `then` has been called in that case.
            InternalError: the database failed.
            WorkerError: whatever `work` raises; what it wrote is undone.
        """
        if self._is_closed:
            raise InternalError("the job service is closed")
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._jobs.put(_Job(work, future, then, may_go_with_power))
        return await future

    async def read(self, work: Callable[[Transaction], _T]) -> _T:
        """Return what `work` reads; it waits for no disk, and may see what a loss of power can still undo.

        Raises:
            InternalError: the database failed.
        """
        return await self.run(work, may_go_with_power=True)

    def post(self, work: Callable[[Transaction], object]) -> None:
        """Do `work` in its turn; its failure is logged."""
        self._jobs.put(_Job(work, None, None))

    def _serve(self) -> None:
        with contextlib.ExitStack() as open_files:
            try:
                connection = open_files.enter_context(contextlib.closing(_open(self._path)))
                disk = DurableLog(self._path.with_name(f"{self._path.name}-wal"))
                # Before the connection, whose end does away with the log.
                open_files.callback(disk.close)
                # What a killed process had committed is read from now on, and told.
                disk.force()
            except Exception as error:  # noqa: BLE001  # brought to who opens it
                self._call_back([functools.partial(self._tell_opened, _translated(error))])
                return
            self._call_back([functools.partial(self._tell_opened, None)])
            is_open = True
            while is_open:
                batch: list[_Job[Any]] = []
                is_open = self._take(batch)
                if batch:
                    self._do(connection, disk, batch)

    def _do(self, connection: sqlite3.Connection, disk: DurableLog, batch: Sequence[_Job[Any]]) -> None:
        """Do all works of `batch`, and tell whom it concerns: at once, and when it is durable."""
        changes = connection.total_changes
        outcomes = _run_together(connection, disk, batch)
        self._call_back([functools.partial(_tell_committed, outcome) for outcome in outcomes])
        waiting, has_written = [outcome for outcome in outcomes if outcome.waits], connection.total_changes != changes
        if waiting or has_written:
            # Also where nobody waits: what is lost with the power is to be as little as can be.
            disk.when_durable(functools.partial(self._tell_durable, waiting), has_written=has_written)

    def _tell_durable(self, outcomes: Sequence[_Outcome], error: OSError | None) -> None:
        if outcomes:
            self._call_back([functools.partial(_tell_durable, outcome, error) for outcome in outcomes])

    def _take(self, batch: list[_Job[Any]]) -> bool:
        """Wait for work and take all that there is; return whether there will be more."""
        job = self._jobs.get()
        while job is not None:
            batch.append(job)
            if len(batch) == _MOST_AT_ONCE:
                return True
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return True
        return False

    def _call_back(self, calls: list[Callable[[], None]]) -> None:
        with contextlib.suppress(RuntimeError):  # The loop has gone, and with it who asked.
            if self._loop is not None and self._rounds is not None:
                self._loop.call_soon_threadsafe(self._rounds.add, calls)

    def _tell_opened(self, error: Exception | None) -> None:
        if self._opened is None or self._opened.done():
            return
        if error is None:
            self._opened.set_result(None)
        else:
            self._opened.set_exception(error)


def _open(path: Path) -> sqlite3.Connection:
    with contextlib.suppress(OSError):  # SQLite says better what is wrong with the file
        # Requests are in it; SQLite would make it readable for all, and its journals take its mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, timeout=1.0)
    try:
        # Exclusive: then WAL needs no shared memory, which network disks do not have.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        prepare_schema(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _run_together(connection: sqlite3.Connection, disk: DurableLog, batch: Sequence[_Job[Any]]) -> list[_Outcome]:
    """Do all works of `batch` in one transaction; one that fails does not touch the others."""
    transaction = Transaction(connection)
    outcomes: list[_Outcome] = []
    try:
        if disk.has_failed:
            # What of the log has reached the disk is not known. This writes all of it into the database, and waits.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            disk.note_rewritten()
        connection.execute("BEGIN IMMEDIATE")
        if len(batch) == 1:
            outcomes.append(_Outcome(batch[0], batch[0].work(transaction), None))
        else:
            outcomes.extend(_run_one(connection, transaction, job) for job in batch)
        connection.execute("COMMIT")
    except Exception as error:  # noqa: BLE001  # brought to everybody who waits for it
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        return [_Outcome(job, None, _translated(error)) for job in batch]
    if transaction.afterwards:
        _do_afterwards(transaction.afterwards, disk)
    return outcomes


def _do_afterwards(works: Sequence[Callable[[], None]], disk: DurableLog) -> None:
    """Remove the files of what is no more, when no loss of power can bring their records back."""
    with contextlib.suppress(OSError):  # Files that are in nobody's way; they go at the next start.
        disk.force()
        for work in works:
            with contextlib.suppress(OSError):
                work()


def _run_one(connection: sqlite3.Connection, transaction: Transaction, job: _Job[Any]) -> _Outcome:
    begun = len(transaction.afterwards)
    connection.execute("SAVEPOINT work")
    try:
        value = job.work(transaction)
        connection.execute("RELEASE work")
    except Exception as error:
        if not connection.in_transaction:
            raise  # SQLite has undone all of it, as it does where the disk is full.
        connection.execute("ROLLBACK TO work")
        connection.execute("RELEASE work")
        del transaction.afterwards[begun:]
        return _Outcome(job, None, _translated(error))
    return _Outcome(job, value, None)


def _tell_committed(outcome: _Outcome) -> None:
    """Tell whoever wants to hear at once, or of a failure."""
    job, future = outcome.job, outcome.job.future
    error = outcome.error or _tell_one(job, outcome.value)
    if future is None:
        if error is not None:
            log.warning("service.not_written", error=str(error))
    elif future.done():
        return  # Who asked has gone.
    elif error is not None:
        future.set_exception(error)
    elif job.may_go_with_power:
        future.set_result(outcome.value)


def _tell_durable(outcome: _Outcome, error: OSError | None) -> None:
    """Tell who waited for the disk."""
    future = outcome.job.future
    if future is None or future.done():
        return
    if error is None:
        future.set_result(outcome.value)
    else:
        future.set_exception(_disk_fails(error))


def _tell_one(job: _Job[Any], value: object) -> Exception | None:
    """Call what is to be called with the result; a fault in there must not keep others from hearing of theirs."""
    try:
        if job.then is not None:
            job.then(value)
    except Exception as error:
        log.exception("service.not_told")
        return error
    return None


def _disk_fails(cause: Exception) -> InsufficientStorage:
    failure = InsufficientStorage(
        "the disk with the worker's STATE_DIR is full or fails",
        hint="Free space on it, or give the worker a larger disk.",
    )
    failure.__cause__ = cause
    return failure


def _translated(error: Exception) -> Exception:
    """Return what a failure of SQLite is in our words."""
    if isinstance(error, OSError):
        return _disk_fails(error)
    if isinstance(error, WorkerError) or not isinstance(error, sqlite3.Error):
        return error
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    failure: WorkerError
    if code in _FULL:
        failure = _disk_fails(error)
    elif code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        failure = InvalidSettings(
            "another process has the worker's database open", hint="Stop it, or give each server its own STATE_DIR."
        )
    elif code & 0xFF in _UNUSABLE:
        failure = InvalidSettings(
            f"the worker's database jobs.sqlite3 in STATE_DIR cannot be used: {error}",
            hint="Let the worker's user write there, or move the file away: the worker makes a new one.",
        )
    else:
        failure = InternalError(f"the worker's database failed: {error}", hint="The worker's log has the cause.")
    failure.__cause__ = error
    return failure
