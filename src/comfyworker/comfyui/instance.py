"""One ComfyUI that takes jobs: started and watched by us, or running already somewhere."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import structlog
from pydantic import JsonValue

from comfyworker.comfyui.client import ComfyUIClient, SubmissionRefused
from comfyworker.comfyui.execution import Execution, PartlyInvalid, ProgressSink, PromptExecution
from comfyworker.comfyui.folders import Folders
from comfyworker.comfyui.gpu_faults import GpuBroken
from comfyworker.comfyui.socket import EventSocket
from comfyworker.comfyui.tracker import PromptTracker
from comfyworker.comfyui.withdrawal import withdraw_prompts
from comfyworker.deferred import aiohttp
from comfyworker.errors import ComfyUICrashed, ComfyUIUnreachable, WorkerError
from comfyworker.jobs import Graph
from comfyworker.settings import ComfyUISettings
from comfyworker.workflow.node_classes import NodeClasses
from comfyworker.workflow.preflight import raise_problems
from comfyworker.workflow.rejection import problems_from_comfyui

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

SessionOpener = Callable[[], Awaitable["aiohttp.ClientSession"]]

_RETRY_S = 1.0
_WITHDRAW_WITHIN_S = 10.0


class CrashedBeforeBegin(ComfyUICrashed):
    """ComfyUI ended while the job still waited in its queue: running it again is not a second time."""


class ComfyUIInstance:
    """What the pool and the pipeline know of one ComfyUI; `connect` makes it usable, whoever started it."""

    def __init__(self, name: str, open_session: SessionOpener, settings: ComfyUISettings) -> None:
        """Prepare; it is not ready until somebody connects it.

        Args:
            name: Its name in the log.
            open_session: Returns what carries the requests, when ComfyUI may be spoken to; closed by the caller.
            settings: How it is spoken to.
        """
        self.name = name
        self.settings = settings
        self.folders: Folders | None = None
        """Its folders where they lie on our disk; None where files have to go over HTTP."""
        self.failure: WorkerError | None = None
        """Why it cannot take jobs, and is not likely to soon."""
        self.in_flight = 0
        """Jobs on it, those in its own queue included."""
        self.models: frozenset[str] = frozenset()
        """Model files that its last job named: likely still loaded."""
        self.leaves_prompts = False
        """Whether prompts may be in its queue that could not be taken back, as while it did not answer."""
        self.on_change: Callable[[], None] = lambda: None
        self._open_session = open_session
        self._client: ComfyUIClient | None = None
        self._socket: EventSocket | None = None
        self._object_info: dict[str, Any] = {}
        self._classes: NodeClasses | None = None
        self._classes_lock = asyncio.Lock()
        self._is_ready = False
        self._is_retired = False
        self._lives = 0
        self._launched = asyncio.Event()
        self._doubted = asyncio.Event()
        self._broken: GpuBroken | None = None
        self._has_broken = asyncio.Event()

    @property
    def restarts(self) -> int:
        """How often it was started anew, or was found again after it had been lost."""
        return max(self._lives - 1, 0)

    @property
    def is_ready(self) -> bool:
        """Whether it takes jobs."""
        return self._is_ready

    @property
    def client(self) -> ComfyUIClient:
        """Its HTTP API.

        Raises:
            ComfyUIUnreachable: it has not been connected yet.
        """
        if self._client is None:
            raise ComfyUIUnreachable(f"ComfyUI {self.name} is not connected")
        return self._client

    @property
    def socket(self) -> EventSocket:
        """Its WebSocket.

        Raises:
            ComfyUIUnreachable: it has not been connected yet.
        """
        if self._socket is None:
            raise ComfyUIUnreachable(f"ComfyUI {self.name} is not connected")
        return self._socket

    @property
    def heard_at(self) -> float:
        """Clock (`time.monotonic`) at which anything came from it last.

        Raises:
            ComfyUIUnreachable: it has not been connected yet.
        """
        return max(self.client.heard_at, self.socket.heard_at)

    async def attach(self, url: str) -> None:
        """Speak to the ComfyUI at `url` from now on; what was known of an earlier one is forgotten."""
        session = await self._open_session()
        self._client = ComfyUIClient(url, session, self.settings, on_refused=self._refuse)
        self._socket = EventSocket(self._client.url, session, self.settings)
        self._socket.on_trouble = self._doubted.set
        self.forget()

    def forget(self) -> None:
        """Forget what was known of ComfyUI: the one that answers from now on was started anew."""
        self._lives += 1
        self._classes = None
        self.models = frozenset()

    def _refuse(self) -> None:
        # No other job may be sent there before somebody has looked: one that is down has no jobs, and would be chosen
        # as the least loaded every time.
        if self._is_ready:
            self._is_ready = False
            self.on_change()
        self._doubted.set()

    def abort(self, error: WorkerError) -> None:
        """Tell whoever waits for events from it that there will be none."""
        if self._socket is not None:
            self._socket.abort(error)

    def set_launched(self) -> None:
        """Say that its process was started."""
        self._launched.set()

    async def wait_launched(self) -> None:
        """Wait until its process was started for the first time, or it is known that it will not be soon."""
        await self._launched.wait()

    async def wait_doubted(self) -> None:
        """Wait until there is reason to doubt that ComfyUI still answers; each doubt is told once."""
        await self._doubted.wait()
        self._doubted.clear()

    async def wait_broken(self) -> GpuBroken:
        """Wait until it lives without a GPU that works, and takes no jobs; return why. Each time is told once."""
        while True:
            await self._has_broken.wait()
            self._has_broken.clear()
            if self._broken is not None:  # else somebody has started it anew meanwhile
                return self._broken

    def _break(self, broken: GpuBroken) -> None:
        log.error("comfyui.gpu_broken", instance=self.name, error=broken.message)
        self._broken = broken
        self._has_broken.set()
        self.set_gone(None)

    async def wait_answer(self, *, within_s: float, max_looks: int = 0) -> None:
        """Wait until ComfyUI answers.

        Args:
            within_s: Seconds to wait at most.
            max_looks: How often to look at most; 0 sets no limit.

        Raises:
            ComfyUIUnreachable: it did not.
        """
        interval_s = self.settings.available_interval_ms / 1000
        begun_at = time.perf_counter()
        looks = 0
        while True:
            try:
                await self.client.system_stats()
            except ComfyUIUnreachable as error:
                looks += 1
                is_last = looks >= max_looks > 0
                if is_last or time.perf_counter() - begun_at >= within_s:
                    waited_s = time.perf_counter() - begun_at
                    raise ComfyUIUnreachable(
                        f"ComfyUI did not answer within {waited_s:.0f} s: {error.message}", hint=error.hint
                    ) from error
                await asyncio.sleep(interval_s)  # nothing tells when a server begins to listen
            else:
                return

    def set_ready(self) -> None:
        """Take jobs from now on, unless it is retired."""
        if self._is_retired:
            return
        self._broken = None
        self._is_ready = True
        self.failure = None
        self.on_change()

    def begin_life(self) -> None:
        """Take jobs: a process that nobody has retired is in its place."""
        self._is_retired = False
        self.set_ready()

    def set_gone(self, failure: WorkerError | None) -> None:
        """Take no jobs; `failure` is given when it is not likely to come back soon."""
        self._is_ready = False
        self.failure = failure
        self._launched.set()
        self.on_change()

    def retire(self) -> None:
        """Take no more jobs, whatever is found out about it, until another process is in its place."""
        self._is_retired = True
        self.set_gone(None)

    async def upload(self, name: str, subfolder: str, data: bytes | Path) -> None:
        """Put a file into its input folder over HTTP.

        Raises:
            ComfyUIUnreachable: it does not answer.
        """
        await self.client.upload(name, subfolder, data)

    async def node_classes(self) -> NodeClasses:
        """Return its node classes, asked once per start of ComfyUI and kept."""
        async with self._classes_lock:
            return await self._read_classes()

    async def refresh_classes(self, class_types: frozenset[str]) -> NodeClasses:
        """Ask again for some classes, whose lists of files may have grown since."""
        async with self._classes_lock:  # or two jobs would each forget what the other has asked
            await self._read_classes()
            fresh: dict[str, Any] = {}
            for class_type in sorted(class_types):
                fresh |= await self.client.object_info(class_type)
            self._object_info = {**self._object_info, **fresh}
            self._classes = NodeClasses(self._object_info)
            return self._classes

    async def _read_classes(self) -> NodeClasses:
        while self._classes is None:
            begun_at, client = time.perf_counter(), self.client
            object_info = await client.object_info()
            if client is self._client:  # else it was the answer of one that has been replaced meanwhile
                self._object_info, self._classes = object_info, NodeClasses(object_info)
                log.debug("comfyui.classes_read", instance=self.name, duration_s=time.perf_counter() - begun_at)
        return self._classes

    async def execute(
        self,
        graph: Graph,
        *,
        prompt_id: str,
        tracker: PromptTracker,
        extra_data: Mapping[str, JsonValue],
        withdraw_within_s: float,
        on_progress: ProgressSink | None = None,
    ) -> Execution:
        """Run a workflow to its end.

        Args:
            graph: The workflow.
            prompt_id: The id under which ComfyUI shall run it.
            tracker: A new one; it knows how far ComfyUI came, also when this raises.
            extra_data: What goes with it beside the graph.
            withdraw_within_s: Seconds to wait until ComfyUI has let go of it when it is cancelled.
            on_progress: Called for every change.

        Raises:
            InvalidWorkflow: ComfyUI itself found something wrong with it; nothing of it ran.
            NodeExecutionError: a node raised.
            GpuBroken: a node raised, and ComfyUI can use its GPU no more; it takes no jobs from then on.
            CrashedBeforeBegin: ComfyUI ended, or its GPU was broken by another job, before it began with this workflow.
            ComfyUICrashed: ComfyUI ended while it was at it.
            NotConnected: it could not be submitted; nothing has arrived, and no job is sent here before a look.
            ComfyUIUnreachable: ComfyUI does not answer any more.
        """
        classes = await self.node_classes()
        execution = PromptExecution(
            self.client,
            self.socket,
            self.settings,
            prompt_id=prompt_id,
            tracker=tracker,
            on_progress=on_progress,
        )
        try:
            return await execution.run(graph, extra_data, withdraw_within_s=withdraw_within_s)
        except SubmissionRefused as refused:
            raise_problems(problems_from_comfyui(refused.body, graph, classes))
            raise
        except PartlyInvalid as partly:
            raise_problems(problems_from_comfyui({"node_errors": partly.node_errors}, graph, classes))
            raise
        except GpuBroken as broken:
            if self._broken is not None:  # ComfyUI runs one prompt at a time: the job before this one did it
                raise CrashedBeforeBegin(broken.message, hint=broken.hint, details=broken.details) from broken
            self._break(broken)
            raise
        except ComfyUICrashed as crash:
            if execution.has_begun and self._broken is None:
                raise
            raise CrashedBeforeBegin(crash.message, hint=crash.hint, details=crash.details) from crash
        finally:
            self.leaves_prompts = self.leaves_prompts or execution.is_left

    async def withdraw_left(self) -> None:
        """Take back the prompts that could not be when their jobs ended.

        Raises:
            ComfyUIUnreachable: it does not answer.
        """
        if not self.leaves_prompts:
            return
        self.leaves_prompts = False
        socket = self.socket
        try:
            # A job of now is followed before it is submitted, and until it is out of the queue.
            left = await withdraw_prompts(
                self.client,
                lambda prompt_id, client_id: client_id == socket.client_id and not socket.is_followed(prompt_id),
            )
        except BaseException:
            self.leaves_prompts = True
            raise
        log.info("comfyui.left_withdrawn", instance=self.name, prompts=len(left))


@contextlib.asynccontextmanager
async def keep_connected(instance: ComfyUIInstance) -> AsyncIterator[None]:
    """Keep the instance's WebSocket open and its node classes known, and let it take jobs while it answers."""
    async with asyncio.TaskGroup() as group:
        tasks = (
            group.create_task(instance.socket.run(), name=f"socket of {instance.name}"),
            group.create_task(_read_ahead(instance), name=f"classes of {instance.name}"),
            group.create_task(_settle_doubts(instance), name=f"doubts about {instance.name}"),
        )
        instance.begin_life()
        try:
            yield
        finally:
            instance.set_gone(None)
            for task in tasks:
                task.cancel()


async def _settle_doubts(instance: ComfyUIInstance) -> None:
    """Look whether ComfyUI answers whenever somebody could not reach it; one that does not takes no jobs."""
    while True:
        await instance.wait_doubted()
        if not await is_answering(instance):
            log.warning("comfyui.lost", instance=instance.name)
            instance.set_gone(None)
            await wait_back(instance)
            log.info("comfyui.found_again", instance=instance.name)
            instance.forget()
            await _withdraw_left(instance)
        instance.set_ready()


async def wait_back(instance: ComfyUIInstance) -> None:
    """Wait until ComfyUI answers; after COMFY_API_AVAILABLE_TIMEOUT_S, waiting jobs are told that it does not."""
    while True:
        try:
            limits = instance.settings
            await instance.wait_answer(within_s=limits.available_timeout_s, max_looks=limits.available_max_retries)
        except ComfyUIUnreachable as error:
            instance.set_gone(error)
            log.warning("comfyui.unreachable", instance=instance.name, error=error.message)
            await asyncio.sleep(_RETRY_S)  # nothing tells when a server begins to listen
        else:
            return


async def is_answering(instance: ComfyUIInstance) -> bool:
    """Look whether ComfyUI answers."""
    try:
        await instance.client.system_stats()
    except ComfyUIUnreachable:
        return False
    return True


async def _withdraw_left(instance: ComfyUIInstance) -> None:
    # Gone again, or held up by a node: nobody waits for those prompts, so other jobs do not wait for their end either.
    with contextlib.suppress(ComfyUIUnreachable, TimeoutError):
        async with asyncio.timeout(_WITHDRAW_WITHIN_S):
            await instance.withdraw_left()


async def _read_ahead(instance: ComfyUIInstance) -> None:
    # Hundreds of milliseconds that the first job need not wait for; it asks again if this did not work.
    with contextlib.suppress(ComfyUIUnreachable):
        await instance.node_classes()
