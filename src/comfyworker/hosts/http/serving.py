"""The server's life: started, serving, drained, gone."""

from __future__ import annotations

import asyncio
import importlib
import socket
from collections.abc import Callable
from pathlib import Path

import structlog

from comfyworker.delivery.choosing import Deliveries
from comfyworker.hosts.draining import drain, noted_signals
from comfyworker.hosts.startup import SERVER, Startup
from comfyworker.hosts.worker import open_worker
from comfyworker.importing import undisturbed
from comfyworker.service import kept_delivery
from comfyworker.settings import Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


async def serve(
    settings: Settings,
    bound: socket.socket,
    *,
    on_up: Callable[[], None],
    cwd: Path | None = None,
    startup: Startup | None = None,
) -> None:
    """Serve on `bound` until SIGTERM or Ctrl-C, then drain; the same again does not wait.

    Draining refuses new jobs, gives running ones DRAIN_TIMEOUT_S, and takes back what is left; meanwhile everything
    else is still answered.

    Args:
        settings: The server's settings.
        bound: A socket that listens.
        on_up: Called when requests are answered.
        cwd: Where relative places are looked for; None is the current folder.
        startup: Hears how the start goes, if the caller has begun to note it; the first answer has it in any case.

    Raises:
        ComfyUINotFound: there is no ComfyUI.
        InvalidSettings: a setting does not fit what it leads to, or another server has this STATE_DIR.
    """
    settings = _with_previews(settings)
    deliveries = Deliveries(settings, serve=kept_delivery)
    startup = startup or Startup()
    startup.expect(SERVER)
    is_up = asyncio.Event()
    with noted_signals() as signals:
        async with open_worker(settings, cwd=cwd, deliveries=deliveries, startup=startup, hold=is_up) as worker:
            startup.begin(SERVER)
            with undisturbed():  # in a thread, or ComfyUI would not be started before it is loaded
                await asyncio.to_thread(importlib.import_module, "comfyworker.hosts.http.server")
            from comfyworker.hosts.http.server import open_app, serving  # noqa: PLC0415  # it is there now

            async with open_app(worker, settings) as app, serving(app, bound):
                startup.end(SERVER)
                on_up()
                is_up.set()
                await signals.wait(1)
                await drain(app.state.context.service, settings.http.drain_timeout_s, signals)
    log.info("http.stopped")


def _with_previews(settings: Settings) -> Settings:
    """Return `settings` so that ComfyUI makes previews, which clients here can see, unless they say otherwise."""
    if settings.comfyui.preview_method is not None:
        return settings
    return settings.model_copy(update={"comfyui": settings.comfyui.model_copy(update={"preview_method": "auto"})})
