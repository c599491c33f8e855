"""RunPod's SDK: loaded late, quietened, and held at the few places where it lets the worker in.

Wire source: RunPod's SDK 1.12. Its loop takes its functions from the modules that it lives in: `rp_scale.get_job`,
`rp_scale.get_stop_signals`, `rp_job.send_result`. Where a later one has them no more, its plain loop runs.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Final, Protocol

import structlog

from comfyworker.errors import InvalidSettings
from comfyworker.hosts.runpod.pieces import progress_document
from comfyworker.hosts.runpod.progress import SendProgress
from comfyworker.hosts.runpod.speech import Speech
from comfyworker.jobs import Progress
from comfyworker.settings import RunPodSettings, set_environment_defaults

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

Module = Any  # Any: the SDK has no types
Session = Any  # Any: aiohttp's, as the SDK has made it

_SDK: Final = "runpod"
_MODULES: Final = "runpod.serverless.modules"
_TRANSMIT: Final = "_transmit"  # of rp_http: sends, and raises what goes wrong
SEAMS: Final = (("rp_scale", "get_job"), ("rp_scale", "get_stop_signals"), ("rp_job", "send_result"))
"""Modules of the SDK, and their functions that the worker stands in for."""


class Seams(Protocol):
    """What stands in the place of the SDK's own functions; each is called in the SDK's event loop."""

    async def take_jobs(self, session: Session, most: int) -> list[dict[str, Any]] | None:
        """Return jobs; called whenever the SDK has room for some."""

    async def take_stops(self, session: Session) -> list[str]:
        """Return the ids of jobs to be stopped; called again and again."""

    async def send_result(
        self,
        session: Session,
        job_data: dict[str, Any],
        job: Mapping[str, Any],
        is_stream: bool = False,  # the SDK's own signature
    ) -> None:
        """Send what came of a job; called once a job, unless that was stopped."""


def check_installed() -> None:
    """Look whether the SDK is there, without loading it.

    Raises:
        InvalidSettings: it is not; the hint says how to install it.
    """
    if importlib.util.find_spec(_SDK) is None:
        raise InvalidSettings(
            "RunPod's SDK is not installed in the worker's environment",
            hint="Install it with the worker: `pip install 'comfyworker[runpod]'`.",
        )


class Sdk:
    """The SDK, loaded."""

    def __init__(self, settings: RunPodSettings, speech: Speech) -> None:
        """Load it; takes seconds.

        Args:
            settings: The worker's settings for RunPod.
            speech: Takes what the SDK says.
        """
        # The first two would import torch here, and run it on the GPU that ComfyUI has just taken.
        set_environment_defaults(
            {
                "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
                "RUNPOD_SKIP_GPU_CHECK": "true",
                "RUNPOD_LOG_LEVEL": settings.log_level,
            }
        )
        self._runpod: Module = importlib.import_module(_SDK)
        speech.replace(importlib.import_module(f"{_MODULES}.rp_logger").RunPodLogger)
        self._http: Module = importlib.import_module(f"{_MODULES}.rp_http")
        self._client: Module = importlib.import_module(f"{_SDK}.http_client")
        # Its own retries are for answers of the platform with 5xx only; a broken connection loses the result.
        self._failed: ContextVar[list[Exception] | None] = ContextVar("runpod_failed", default=None)
        transmit = getattr(self._http, _TRANSMIT, None)
        if transmit is not None:
            setattr(self._http, _TRANSMIT, self._noting(transmit))
        self._originals = {name: _find(module, name) for module, name in SEAMS}

    @property
    def has_seams(self) -> bool:
        """Whether the SDK lets the worker in where it must to take and answer jobs in its own way."""
        return all(found is not None for found in self._originals.values())

    def original(self, name: str) -> Callable[..., Awaitable[Any]]:
        """Return the SDK's own function."""
        found = self._originals[name]
        if found is None:
            message = f"RunPod's SDK has no {name}"
            raise RuntimeError(message)
        return found

    async def send(
        self, session: Session, job_data: dict[str, Any], job: Mapping[str, Any], *, is_stream: bool
    ) -> None:
        """Send a job's result as the SDK does, which only logs what goes wrong.

        Raises:
            Exception: whatever the SDK's HTTP client raised.
        """
        failed: list[Exception] = []
        token = self._failed.set(failed)
        try:
            await self.original("send_result")(session, job_data, job, is_stream=is_stream)
        finally:
            self._failed.reset(token)
        if failed:
            raise failed[-1]

    def _noting(self, transmit: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def noted(session: Session, url: str, job_data: str) -> None:
            try:
                await transmit(session, url, job_data)
            except Exception as error:
                failed = self._failed.get()
                if failed is not None:
                    failed.append(error)
                raise

        return noted

    def let_in(self, seams: Seams) -> None:
        """Have the SDK call `seams` instead of its own functions."""
        for (module, name), ours in zip(SEAMS, (seams.take_jobs, seams.take_stops, seams.send_result), strict=True):
            setattr(importlib.import_module(f"{_MODULES}.{module}"), name, ours)

    def start(self, config: dict[str, Any]) -> None:
        """Run the SDK's loop until it ends; it takes the main thread and its signals."""
        with _own_arguments():
            log.info("runpod.sdk_started", version=str(self._runpod.__version__))
            self._runpod.serverless.start(config)

    @contextlib.asynccontextmanager
    async def reporting(self, job: Mapping[str, Any]) -> AsyncIterator[SendProgress]:
        """Yield what reports a job's progress to the platform, over a connection of its own."""
        async with contextlib.AsyncExitStack() as stack:
            opened: list[Any] = []

            async def send(progress: Progress) -> None:
                if not opened:
                    opened.append(await stack.enter_async_context(self._client.AsyncClientSession()))
                document = {"status": "IN_PROGRESS", "output": progress_document(progress)}
                await self._http.send_result(opened[0], document, job)

            yield send


def _find(module: str, name: str) -> Callable[..., Awaitable[Any]] | None:
    try:
        found: Callable[..., Awaitable[Any]] | None = getattr(
            importlib.import_module(f"{_MODULES}.{module}"), name, None
        )
    except ImportError:
        return None
    return found


@contextlib.contextmanager
def _own_arguments() -> Iterator[None]:
    """Keep our command line from the SDK, which would take it for its own."""
    ours, sys.argv = sys.argv, sys.argv[:1]
    try:
        yield
    finally:
        sys.argv = ours
