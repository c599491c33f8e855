"""The worker in a thread of its own: RunPod's SDK has the main thread and an event loop that its imports keep waiting.

The thread lives as long as the process: ComfyUI's guard is a child of it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from comfyworker.comfyui.pool import ComfyUIPool
from comfyworker.delivery.choosing import Deliveries
from comfyworker.errors import WorkerError, broken
from comfyworker.hosts.runpod.health import wait_given_up, wait_ready
from comfyworker.hosts.runpod.limits import answer_limit_bytes
from comfyworker.hosts.runpod.work import Work, WorkListener
from comfyworker.hosts.startup import Startup
from comfyworker.hosts.worker import Worker, open_worker
from comfyworker.settings import Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_END_WITHIN_S: Final = 60.0
_LAUNCH_WITHIN_S: Final = 2.0


class Engine:
    """ComfyUI, the pipeline and the webhooks in an event loop of their own."""

    def __init__(
        self,
        settings: Settings,
        *,
        startup: Startup,
        cwd: Path | None,
        on_places: Callable[[int], None],
        on_broken: Callable[[WorkerError], None],
    ) -> None:
        """Prepare; `start` starts it.

        Args:
            settings: The worker's settings.
            startup: Is told of the start's phases.
            cwd: Where relative places are looked for; None is the current folder.
            on_places: Called in the engine's thread with the places in the queues of those ComfyUIs that answer: when
                the first one does, and whenever that changes.
            on_broken: Called once in the engine's thread when no ComfyUI is likely to take jobs any more.
        """
        self._settings = settings
        self._startup = startup
        self._cwd = cwd
        self._on_places = on_places
        self._on_broken = on_broken
        self._opened: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_stopped = False
        self._takes_back = False
        self._ended = asyncio.Event()
        self._jobs: asyncio.TaskGroup | None = None
        self._worker: Worker | None = None
        self._works: set[Work] = set()
        # A daemon: a second signal while the engine ends must not wait for it.
        self._thread = threading.Thread(target=self._run, name="comfyworker", daemon=True)

    def start(self) -> None:
        """Start ComfyUI; returns at once."""
        self._thread.start()

    def wait_open(self) -> None:
        """Wait until jobs can be given; ComfyUI's process is there, and may still be starting.

        Raises:
            WorkerError: it could not be opened: there is no ComfyUI, or a setting does not fit.
        """
        self._opened.result()

    @property
    def places(self) -> int:
        """How many jobs the queues of all ComfyUIs hold; known when it is open."""
        instances = self._worker.pipeline.pool.instances if self._worker is not None else ()
        return len(instances) * self._settings.comfyui.queue_depth

    def stop(self) -> None:
        """End all of it, jobs and ComfyUI included, and wait for that."""
        self._is_stopped = True
        if self._loop is not None and self._thread.is_alive():
            self._call(self._ended.set)
        if self._thread.ident is not None:
            self._thread.join(_END_WITHIN_S)

    def begin(self, job: Mapping[str, Any], listener: WorkListener) -> Work:
        """Begin a job; may be called from any thread."""
        work = Work(job, self._settings, listener)
        self._call(self._begin, work)
        return work

    def cancel(self, work: Work) -> None:
        """Cancel a job; its `ended` says when it has left ComfyUI. May be called from any thread."""
        self._call(work.cancel)

    def take_back(self) -> None:
        """Answer what is not done, or comes from now on, with an error that may be tried again; from any thread."""
        self._call(self._take_back)

    def _take_back(self) -> None:
        self._takes_back = True  # also what was handed over and comes only now
        for work in tuple(self._works):
            work.take_back()

    def _begin(self, work: Work) -> None:
        if self._jobs is None or self._worker is None or self._takes_back:
            work.take_back()
            return
        self._works.add(work)
        work.ended.add_done_callback(lambda _: self._works.discard(work))
        work.start(self._jobs, self._worker)

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        if self._loop is None:
            message = "the engine does not run"
            raise RuntimeError(message)
        self._loop.call_soon_threadsafe(function, *arguments)

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:  # the end of a thread: whoever waits must hear of it
            if not self._opened.done():
                self._opened.set_exception(error)
                return
            log.exception("runpod.engine_broke")
            self._on_broken(error if isinstance(error, WorkerError) else broken())
        finally:
            self._take_back()

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        deliveries = Deliveries(self._settings, answer_limit_bytes=answer_limit_bytes)
        async with open_worker(self._settings, cwd=self._cwd, deliveries=deliveries, startup=self._startup) as worker:
            # Not `async with`: what a job or the watch raised would come out wrapped.
            group = await asyncio.TaskGroup().__aenter__()
            watch = group.create_task(self._watch(worker.pipeline.pool), name="watch over ComfyUI")
            self._jobs, self._worker = group, worker
            # The import of the SDK, which comes next in the main thread, would keep the start of ComfyUI's process
            # waiting for 0.2 s. What takes longer than this is other work, as of custom nodes, and goes on meanwhile.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAUNCH_WITHIN_S):
                    await worker.pipeline.pool.wait_launched()
            self._opened.set_result(None)
            try:
                if not self._is_stopped:  # before there was a loop to tell
                    await self._ended.wait()
            finally:
                watch.cancel()
                self._take_back()
                await group.__aexit__(None, None, None)

    async def _watch(self, pool: ComfyUIPool) -> None:
        try:
            await wait_ready(pool, self._settings.comfyui)
            depth = self._settings.comfyui.queue_depth
            self._on_broken(await wait_given_up(pool, on_ready=lambda count: self._on_places(count * depth)))
        except WorkerError as error:  # also what a ComfyUI needs before it can be started
            self._on_broken(error)
