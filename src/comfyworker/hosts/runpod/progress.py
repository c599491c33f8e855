"""A job's progress on its way to the platform: one report at a time, the latest one wins, none after the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import structlog

from comfyworker.finishing import beside
from comfyworker.jobs import Progress

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

SendProgress = Callable[[Progress], Awaitable[None]]

_LAST_WITHIN_S: Final = 2.0


class ProgressReports:
    """Reports the progress of one job; the SDK's `progress_update` would start a thread for each, in any order."""

    def __init__(self, send: SendProgress, *, interval_s: float) -> None:
        """Report by `send`, never more often than every `interval_s` seconds; the first time after that long."""
        self._send = send
        self._interval_s = interval_s
        self._latest: Progress | None = None
        self._news = asyncio.Event()
        self._is_free = asyncio.Event()
        self._is_free.set()

    def note(self, progress: Progress) -> None:
        """Take the latest progress."""
        self._latest = progress
        self._news.set()

    @contextlib.asynccontextmanager
    async def reporting(self) -> AsyncIterator[None]:
        """Report what is noted while the context is open; after it nothing is on its way any more.

        A report that is on its way at the end gets two seconds.
        """
        async with beside(self._report(), name="progress to RunPod"):
            yield
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WITHIN_S):
                    await self._is_free.wait()

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)  # short jobs are over before anybody would look
            await self._news.wait()
            self._news.clear()
            if self._latest is None:
                continue
            self._is_free.clear()
            try:
                await self._send(self._latest)
            except Exception as error:  # noqa: BLE001  # whatever it is, the job goes on
                log.warning("runpod.progress_failed", error_type=type(error).__name__)
            finally:
                self._is_free.set()
