"""The server's life: started, serving, drained, gone."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from comfyworker.delivery.choosing import Deliveries
from comfyworker.hosts.worker import open_worker
from comfyworker.service import JobService, kept_delivery
from comfyworker.settings import Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


async def serve(
    settings: Settings, bound: socket.socket, *, on_up: Callable[[], None], cwd: Path | None = None
) -> None:
    """Serve on `bound` until SIGTERM or Ctrl-C, then drain; the same again does not wait.

    Draining refuses new jobs, gives running ones DRAIN_TIMEOUT_S, and takes back what is left; meanwhile everything
    else is still answered.

    Args:
        settings: The server's settings.
        bound: A socket that listens.
        on_up: Called when requests are answered.
        cwd: Where relative places are looked for; None is the current folder.

    Raises:
        ComfyUINotFound: there is no ComfyUI.
        InvalidSettings: a setting does not fit what it leads to, or another server has this STATE_DIR.
    """
    settings = _with_previews(settings)
    deliveries = Deliveries(settings, serve=kept_delivery)
    with _noted_signals() as signals:
        async with open_worker(settings, cwd=cwd, deliveries=deliveries) as worker:
            # Loaded only now: ComfyUI starts meanwhile.
            from comfyworker.hosts.http.server import open_app, serving  # noqa: PLC0415

            async with open_app(worker, settings) as app, serving(app, bound):
                on_up()
                await signals.wait(1)
                await _drain(app.state.context.service, settings.http.drain_timeout_s, signals)
    log.info("http.stopped")


def _with_previews(settings: Settings) -> Settings:
    """Return `settings` so that ComfyUI makes previews, which clients here can see, unless they say otherwise."""
    if settings.comfyui.preview_method is not None:
        return settings
    return settings.model_copy(update={"comfyui": settings.comfyui.model_copy(update={"preview_method": "auto"})})


async def _drain(service: JobService, within_s: float, signals: _Signals) -> None:
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


class _Signals:
    """How many signals came that end the server."""

    def __init__(self) -> None:
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
def _noted_signals() -> Iterator[_Signals]:
    loop, signals = asyncio.get_running_loop(), _Signals()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signals.note)
    try:
        yield signals
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
