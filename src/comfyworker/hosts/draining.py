"""How a server ends: by signal, with what runs given time; the same signal again does not wait."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator

import structlog

from comfyworker.finishing import finish
from comfyworker.service import JobService

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_GIVEN_UP_WITHIN_S = 10.0


class Signals:
    """How many signals came that end the server."""

    def __init__(self) -> None:
        """Count from none."""
        self._count = 0
        self._came = asyncio.Event()

    def note(self) -> None:
        """Count one."""
        self._count += 1
        self._came.set()

    async def wait(self, count: int) -> None:
        """Wait until that many have come."""
        while self._count < count:
            self._came.clear()
            await self._came.wait()


@contextlib.contextmanager
def noted_signals() -> Iterator[Signals]:
    """Note SIGINT and SIGTERM instead of ending by them, for as long as the context is open."""
    loop, signals = asyncio.get_running_loop(), Signals()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signals.note)
    try:
        yield signals
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def drain(service: JobService, within_s: float, signals: Signals) -> None:
    """Take no more jobs and give those that run `within_s` seconds; a second signal ends that early.

    Whoever waits for a job that is not over is answered then, before the server closes its connections.
    """
    counts = await service.counts()
    log.info("http.draining", running=counts.running, queued=counts.queued, within_s=within_s)
    async with asyncio.TaskGroup() as group:
        tasks = {
            group.create_task(service.drain(within_s), name="drain"),
            group.create_task(signals.wait(2), name="second signal"),
        }
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
    # Where all is over already, this finds nothing to do.
    await finish(service.drain(0.0), within_s=_GIVEN_UP_WITHIN_S, name="jobs that are not waited for")
