"""The web server around the app, and what its routes work with. Loads the web framework."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import structlog
import uvicorn
from starlette.applications import Starlette

from comfyworker.hosts.http.app import APIS, Gate, create_app
from comfyworker.hosts.http.auth import ApiKeys
from comfyworker.hosts.http.context import HostContext
from comfyworker.hosts.http.metrics import Metrics
from comfyworker.hosts.http.protocol import HttpApi
from comfyworker.hosts.http.signing import load_signer
from comfyworker.hosts.http.telling import JobTelling
from comfyworker.hosts.worker import Worker
from comfyworker.service import JobService
from comfyworker.settings import Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_KEEP_ALIVE_S = 30
_CLOSE_WITHIN_S = 5


class Tls(NamedTuple):
    """What a server proves with who it is."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class House:
    """What a host serves, and whom; as it stands, what `comfyworker serve` does."""

    apis: tuple[HttpApi, ...] = APIS
    needs_keys: bool = False
    """Whether nobody may ask where there are no API_KEYS."""
    gate: Gate | None = None
    """Stands before all routes."""
    reason_to_wait: Callable[[], str | None] = lambda: None
    """Tells why no job is taken yet, for GET /ready."""


_OPEN_HOUSE = House()


@contextlib.asynccontextmanager
async def open_app(worker: Worker, settings: Settings, house: House = _OPEN_HOUSE) -> AsyncIterator[Starlette]:
    """Take up the jobs that an earlier server left, and make the app; its `state.context` is the HostContext.

    Args:
        worker: Runs the jobs; its deliveries must have been made with `serve=kept_delivery`.
        settings: The server's settings.
        house: What is served, and whom.

    Raises:
        InvalidSettings: another server has this STATE_DIR, or it cannot be used.
    """
    metrics = Metrics()
    # One more than ComfyUI's own queues hold: its inputs are made ready while the others run.
    places = len(worker.pipeline.pool.instances) * (settings.comfyui.queue_depth + 1)
    worker_id = f"comfyworker-{uuid.uuid4().hex[:8]}"
    telling = JobTelling(worker, settings, worker_id=worker_id)
    async with JobService(
        telling.run,
        settings.queue,
        folder=settings.state.path,
        places=places,
        copies=settings.delivery.keep_outputs,
        on_end=metrics.job_ended,
        tell_end=telling.tell_end,
    ) as service:
        context = HostContext(
            settings=settings,
            service=service,
            worker=worker,
            keys=ApiKeys(settings.http.api_keys, are_needed=house.needs_keys),
            signer=await asyncio.to_thread(load_signer, settings.state.path),
            worker_id=worker_id,
            reason_to_wait=house.reason_to_wait,
        )
        yield create_app(context, metrics, worker.pipeline.modifiers, apis=house.apis, gate=house.gate)


@contextlib.asynccontextmanager
async def serving(app: Starlette, bound: socket.socket, *, tls: Tls | None = None) -> AsyncIterator[None]:
    """Answer requests on `bound` for as long as the context is open; what is being answered at its end gets 5 s.

    Args:
        app: What answers.
        bound: A socket that listens.
        tls: What https is served with, looked at before; None serves http.
    """
    server = _Server(_config(app, tls))
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(sockets=[bound]), name="http server")
        await server.is_up.wait()
        # What the start has loaded stays. Full collections need not look through it, for which requests would wait.
        gc.freeze()
        try:
            yield
        finally:
            server.stop()


class _Server(uvicorn.Server):
    """Leaves signals to us, and tells when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    def stop(self) -> None:
        """Take no new connections and end."""
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()


def _config(app: Starlette, tls: Tls | None) -> uvicorn.Config:
    for name in ("uvicorn.error", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [_IntoOurLog()], False
        logger.setLevel(logging.WARNING)
    return uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_CLOSE_WITHIN_S,
        ws="none",
        ssl_certfile=None if tls is None else tls.certificate,
        ssl_keyfile=None if tls is None else tls.key,
    )


class _IntoOurLog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log.warning("http.server_said", message=record.getMessage(), exc_info=record.exc_info)
