"""What has had its time: results and their files, uploads, and jobs that waited too long."""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from comfyworker.errors import WorkerError
from comfyworker.finishing import in_thread
from comfyworker.jobs import JobStatus
from comfyworker.service.database import Database, Transaction
from comfyworker.service.endings import expired_in_line
from comfyworker.service.running import Running
from comfyworker.service.state_folder import StateFolder, remove
from comfyworker.service.store import JobStore
from comfyworker.settings import QueueSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_AT_ONCE = 200
_LONGEST_SLEEP_S = 30.0


class Expiry:
    """Looks for what has had its time, until it is cancelled."""

    def __init__(
        self, database: Database, folder: StateFolder, store: JobStore, running: Running, settings: QueueSettings
    ) -> None:
        """Look in all of these."""
        self._database = database
        self._folder = folder
        self._store = store
        self._running = running
        self._settings = settings
        self._sooner = asyncio.Event()
        self._next_look_at = -math.inf
        self._told = math.inf

    def look_at(self, moment: float) -> None:
        """Know that something's time is over at `moment`."""
        self._told = min(self._told, moment)
        if moment < self._next_look_at:
            self._sooner.set()

    async def run(self) -> None:
        """Look, again and again."""
        while True:
            self._sooner.clear()
            # While this looks nothing need wake it: what comes up meanwhile, and may be missed, is heeded behind it.
            self._next_look_at, self._told = -math.inf, math.inf
            try:
                due_at = await self._look()
            except WorkerError as error:
                log.warning("service.not_expired", error=error.message)
                due_at = None
            now = time.time()
            self._next_look_at = min(due_at or math.inf, self._told, now + _LONGEST_SLEEP_S)
            try:
                async with asyncio.timeout(max(self._next_look_at - now, 0.01)):
                    await self._sooner.wait()
            except TimeoutError:
                continue

    async def _look(self) -> float | None:
        """Let go of all that is due; return when the next thing is."""
        now = time.time()
        for job in tuple(self._running.waiting):
            if job.queue_until <= now and self._running.waiting.leave(job):
                self._running.end_unrun(job, expired_in_line(job.record.id, now - job.record.created_at))
        while keys := await self._database.run(functools.partial(self._expire, now)):
            await in_thread(functools.partial(_remove_all, [self._folder.job(key) for key in keys]))
            log.info("service.results_expired", jobs=len(keys))
        moments = [*await self._database.read(self._next), *(job.queue_until for job in self._running.waiting)]
        return min((moment for moment in moments if moment is not None), default=None)

    def _expire(self, now: float, transaction: Transaction) -> list[str]:
        jobs = self._store.jobs
        rows = jobs.expired(transaction, now, most=_AT_ONCE)
        for row in rows:
            result = row.record.result
            bare = None if result is None else result.model_copy(update={"artifacts": (), "status": JobStatus.EXPIRED})
            jobs.expire(transaction, row, row.record.model_copy(update={"result": bare}))
        self._store.assets.delete_expired(transaction, now)
        forgotten = jobs.forget_expired(transaction, now - self._settings.record_ttl_s)
        return [row.key for row in rows] + forgotten

    def _next(self, transaction: Transaction) -> list[float | None]:
        jobs = self._store.jobs.next_expiry(transaction, record_ttl_s=self._settings.record_ttl_s)
        return [jobs, self._store.assets.next_expiry(transaction)]


def _remove_all(folders: Sequence[Path]) -> None:
    for folder in folders:
        remove(folder)
