"""Several ComfyUIs as one: which of them takes the next job."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from comfyworker.comfyui.gpus import has_amd_gpu, list_nvidia_gpus
from comfyworker.comfyui.instance import ComfyUIInstance
from comfyworker.comfyui.locate import Installation, has_cpu_torch, require_comfyui
from comfyworker.comfyui.model_sources import ModelSources
from comfyworker.comfyui.succession import Succession
from comfyworker.comfyui.supervisor import StartOptions, attend, supervise
from comfyworker.deferred import aiohttp, load_aiohttp
from comfyworker.errors import ComfyUIUnavailable, WorkerError
from comfyworker.settings import ComfyUISettings, ShutdownSettings, process_environment

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class ComfyUIPool:
    """The ComfyUIs of this worker; an async context manager that starts them, watches them, and stops them.

    Entering does not wait until they are ready: jobs wait when they need one.
    """

    def __init__(  # noqa: PLR0913  # made in few places
        self,
        settings: ComfyUISettings,
        shutdown: ShutdownSettings,
        *,
        cwd: Path,
        succession: Succession | None = None,
        models: ModelSources | None = None,
        hold: asyncio.Event | None = None,
        before_start: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Prepare.

        Args:
            settings: Which ComfyUIs, and how they are spoken to.
            shutdown: How long those that were started get to end.
            cwd: Where relative places are looked for.
            succession: What is to be done about prompts of killed workers in the ComfyUIs of COMFY_API_URL; None is
                nothing, for who runs no jobs.
            models: Where models lie beside the folder of a ComfyUI that is started; None is nowhere.
            hold: Until it is set, ComfyUIs are started but not spoken to: what that needs takes a while to import, in
                which the host could do something else. None waits for nothing.
            before_start: What must be done before a ComfyUI is started, once; if it fails, none is, and jobs are
                answered with its error.
        """
        self._settings = settings
        self._shutdown = shutdown
        self._cwd = cwd
        self._succession = succession or Succession()
        self._models = models
        self._hold = hold
        self._preparation = _Preparation(before_start) if before_start is not None else None
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()
        self._stack = contextlib.AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None
        self._session_turn = asyncio.Lock()
        self.instances: tuple[ComfyUIInstance, ...] = ()

    async def __aenter__(self) -> Self:
        """Find the ComfyUIs and start those that are not running.

        Raises:
            ComfyUINotFound: there is none.
        """
        installation = None if self._settings.api_urls else await asyncio.to_thread(self._find)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._close_session)
            if installation is None:
                await stack.enter_async_context(self._succession.to(self._settings.api_urls))
            group = await stack.enter_async_context(asyncio.TaskGroup())
            if installation is None:
                self._attend_all(group)
            else:
                await self._start_all(group, installation)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop what was started."""
        for task in self._tasks:
            task.cancel()
        await self._stack.__aexit__(None, None, None)

    @contextlib.asynccontextmanager
    async def lease(self, models: frozenset[str]) -> AsyncIterator[ComfyUIInstance]:
        """Wait for a ComfyUI with room in its queue, and hold a place there.

        Least loaded first; among equals, the one that last ran the most of `models`. First come, first served.

        Raises:
            ComfyUIUnavailable: none is there, and none is likely to come soon.
            WorkerError: what must be done before one is started has failed with this.
        """
        async with self._turn:
            instance = await self._wait_for(self._settings.queue_depth, models)
            instance.in_flight += 1
        if models:
            instance.models = models
        try:
            yield instance
        finally:
            instance.in_flight -= 1
            self._tell_changed()

    async def any_ready(self) -> ComfyUIInstance:
        """Return a ComfyUI that answers, however busy it is, for questions about its node classes.

        Raises:
            ComfyUIUnavailable: none is there, and none is likely to come soon.
            WorkerError: what must be done before one is started has failed with this.
        """
        return await self._wait_for(sys.maxsize, frozenset())

    async def _wait_for(self, depth: int, models: frozenset[str]) -> ComfyUIInstance:
        while True:
            ready = [instance for instance in self.instances if instance.is_ready and instance.in_flight < depth]
            if ready:
                return min(ready, key=lambda instance: (instance.in_flight, -len(models & instance.models)))
            failures = [instance.failure for instance in self.instances]
            if failures and failures[0] is not None and all(failures):
                raise failures[0]
            await self.wait_changed()

    @property
    def is_preparing(self) -> bool:
        """Whether no ComfyUI is started yet, since something must be done before."""
        return self._preparation is not None and not self._preparation.is_done

    async def wait_launched(self) -> None:
        """Wait until the processes of all ComfyUIs were started; those that run elsewhere are not waited for."""
        if not self._settings.api_urls:
            for instance in self.instances:
                await instance.wait_launched()

    async def wait_changed(self) -> None:
        """Wait until something changes about which ComfyUIs take jobs; whoever calls has just looked at `instances`."""
        self._changed.clear()
        await self._changed.wait()

    def _tell_changed(self) -> None:
        self._changed.set()

    def _find(self) -> Installation:
        return require_comfyui(self._settings, cwd=self._cwd)

    def _attend_all(self, group: asyncio.TaskGroup) -> None:
        self.instances = tuple(self._instance(index) for index in range(len(self._settings.api_urls)))
        for instance, url in zip(self.instances, self._settings.api_urls, strict=True):
            self._keep(group, instance, functools.partial(attend, instance, url, self._succession))

    async def _start_all(self, group: asyncio.TaskGroup, installation: Installation) -> None:
        gpus = await visible_gpus()
        has_gpu = bool(gpus) or has_amd_gpu() or sys.platform == "darwin"
        # Without --cpu, ComfyUI dies on a torch that was built for CPU, whatever the machine has.
        use_cpu = not has_gpu or await asyncio.to_thread(has_cpu_torch, installation.python)
        extra_paths = await asyncio.to_thread(self._models.prepare, installation) if self._models else None
        count = max(len(gpus), 1) if self._settings.instances == "auto" else self._settings.instances
        self.instances = tuple(self._instance(index) for index in range(count))
        for index, instance in enumerate(self.instances):
            options = StartOptions(
                port=self._settings.port + index,
                gpu=gpus[index % len(gpus)] if gpus and count > 1 else None,
                use_cpu=use_cpu,
                grace_s=self._shutdown.grace_s,
                extra_paths=extra_paths,
            )
            life = functools.partial(supervise, instance, installation, options)
            self._keep(group, instance, life if self._preparation is None else self._preparation.then(life))
        if self._models is not None:
            self._tasks.append(group.create_task(self._models.report(), name="report of volumes"))

    def _keep(
        self, group: asyncio.TaskGroup, instance: ComfyUIInstance, life: Callable[[], Coroutine[object, object, None]]
    ) -> None:
        self._tasks.append(group.create_task(_live(instance, life), name=f"life of {instance.name}"))

    def _instance(self, index: int) -> ComfyUIInstance:
        instance = ComfyUIInstance(f"comfyui-{index}", self._open_session, self._settings)
        instance.on_change = self._tell_changed
        return instance

    async def _open_session(self) -> aiohttp.ClientSession:
        if self._hold is not None:
            await self._hold.wait()
        async with self._session_turn:
            if self._session is None:
                await load_aiohttp()
                # A ComfyUI has one WebSocket and few short requests at a time; parallel /view streams need the rest.
                connector = aiohttp.TCPConnector(limit=0)
                self._session = aiohttp.ClientSession(connector=connector, auto_decompress=True)
        return self._session

    async def _close_session(self) -> None:
        if self._session is not None:
            await self._session.close()


class _Preparation:
    """What is done once before the first ComfyUI is started, whichever of them comes first to it."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._turn = asyncio.Lock()
        self.is_done = False
        """Whether it has been done, or has failed."""
        self._error: WorkerError | None = None

    def then(
        self, life: Callable[[], Coroutine[object, object, None]]
    ) -> Callable[[], Coroutine[object, object, None]]:
        async def begin() -> None:
            await self._wait()
            await life()

        return begin

    async def _wait(self) -> None:
        async with self._turn:
            if not self.is_done:
                try:
                    await self._work()
                except WorkerError as error:
                    self._error = error
                self.is_done = True
        if self._error is not None:
            raise self._error


async def _live(instance: ComfyUIInstance, life: Callable[[], Coroutine[object, object, None]]) -> None:
    """Run an instance's life; what ends it early becomes the answer to the jobs that wait for it."""
    try:
        await life()
    except WorkerError as error:
        instance.set_gone(error)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        instance.set_gone(
            ComfyUIUnavailable(
                f"ComfyUI could not be started: {reason}",
                hint="Its folder must be writable for the worker; `comfyworker doctor` tells what was found.",
            )
        )
    if instance.failure is not None:
        log.error("comfyui.given_up", instance=instance.name, error=instance.failure.message)


async def visible_gpus() -> tuple[str, ...]:
    """Return the NVIDIA GPUs that ComfyUI may use, as CUDA_VISIBLE_DEVICES names them."""
    named = process_environment().get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(gpu.strip() for gpu in named.split(",") if gpu.strip() not in {"", "-1"})
    return tuple(str(gpu.index) for gpu in await list_nvidia_gpus())
