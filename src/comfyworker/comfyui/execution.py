"""One prompt on one ComfyUI: submitted, followed to its end, taken back when nobody wants it any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict, JsonValue

from comfyworker.comfyui.client import ComfyUIClient, OutcomeUnknown
from comfyworker.comfyui.gpu_faults import find_gpu_fault
from comfyworker.comfyui.previews import Preview
from comfyworker.comfyui.socket import EventSocket
from comfyworker.comfyui.tracker import NodeFailure, PromptTracker
from comfyworker.errors import ComfyUICrashed, ComfyUIUnreachable, JobCanceled, NodeExecutionError, OutOfMemory
from comfyworker.finishing import finish
from comfyworker.jobs import Graph, Progress
from comfyworker.redaction import redact
from comfyworker.settings import ComfyUISettings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

ProgressSink = Callable[[Progress], None]

_POLL_S = 0.25  # how often to ask over HTTP while there is no socket to be told by
_QUIET_S = 2.0  # silence after which to ask whether the prompt is still there; doubles up to the next figure
_QUIET_MAX_S = 15.0
_WITHDRAW_POLL_S = 0.05
_UNSURE_LOOKS = 20  # looks, a poll apart, before a submission of unknown outcome counts as not arrived


# torch's CPU allocator raises a plain RuntimeError; its message opens with the place in torch's own source, which no
# text in a workflow can bring about.
_CPU_ALLOCATOR = "[enforce fail at alloc_cpu"


class Execution(BaseModel):
    """A prompt that ComfyUI has carried out."""

    model_config = ConfigDict(frozen=True)

    prompt_id: str
    outputs: dict[str, Mapping[str, Any]]
    """What each node reported (its `ui`), by node id."""
    node_timings_s: dict[str, float]
    wait_s: float
    """Seconds from submission until ComfyUI began."""
    execute_s: float
    """Seconds from ComfyUI's beginning to its end."""
    warnings: tuple[str, ...] = ()


class PromptExecution:
    """Carries one prompt through one ComfyUI; used once."""

    def __init__(
        self,
        client: ComfyUIClient,
        socket: EventSocket,
        settings: ComfyUISettings,
        *,
        prompt_id: str,
        tracker: PromptTracker,
        on_progress: ProgressSink | None = None,
    ) -> None:
        """Prepare; nothing is sent yet."""
        self._client = client
        self._socket = socket
        self._settings = settings
        self._prompt_id = prompt_id
        self._tracker = tracker
        self._on_progress = on_progress
        self._wake = asyncio.Event()
        self._abort: Exception | None = None
        self._heard_at = self._looked_at = 0.0
        self._reconnect_delay_s = settings.websocket_reconnect_delay_s
        self._quiet_s = _QUIET_S
        self._openings = self._breaks = 0
        self._is_from_history = False
        self._failures = 0
        self._is_sent = False
        self._is_known = False
        self._is_withdrawn = False
        self._was_running = False

    @property
    def has_begun(self) -> bool:
        """Whether ComfyUI began with the prompt, so that running it again would be a second time."""
        return self._tracker.started_at is not None or self._was_running

    @property
    def is_left(self) -> bool:
        """Whether ComfyUI may still have the prompt, though nobody waits for it any more."""
        return self._is_sent and self._abort is None and not self._is_withdrawn and not self._tracker.is_finished

    async def run(self, graph: Graph, extra_data: Mapping[str, JsonValue], *, withdraw_within_s: float) -> Execution:
        """Submit `graph`, wait for its end, and return what came of it.

        When cancelled or failing for another reason than ComfyUI's own, the prompt is taken back: out of the queue if
        it waits, interrupted if it runs.

        Raises:
            SubmissionRefused: ComfyUI found the workflow invalid.
            NodeExecutionError: a node raised; OutOfMemory when that was the reason.
            GpuBroken: a node raised, and no job can run on this ComfyUI any more.
            JobCanceled: somebody else interrupted it in ComfyUI.
            ComfyUICrashed: ComfyUI ended or forgot the prompt.
            NotConnected: ComfyUI accepts no connection; nothing was submitted.
            ComfyUIUnreachable: ComfyUI does not answer any more.
        """
        # Listen before POST /prompt: a fully cached graph can finish before its answer is read.
        await self._socket.wait_usable()
        self._socket.follow(self._prompt_id, self)
        submitted_at = time.perf_counter()
        try:
            await self._submit(graph, extra_data)
            await self._wait_finished()
        except BaseException:
            if self._is_sent and self._abort is None and not self._tracker.is_finished:
                await finish(self._withdraw(), within_s=withdraw_within_s, name=f"withdrawing {self._prompt_id}")
            raise
        finally:
            self._socket.unfollow(self._prompt_id)
        return self._evaluate(submitted_at)

    def on_event(self, event_type: str, payload: Mapping[str, Any]) -> None:
        """Take one of the prompt's events."""
        self._heard_at = time.perf_counter()
        self._quiet_s = _QUIET_S
        progress = self._tracker.feed(event_type, payload)
        if self._tracker.is_finished:
            self._wake.set()
        self._report(progress)

    def on_preview(self, preview: Preview) -> None:
        """Take a preview of the prompt."""
        self._heard_at = time.perf_counter()
        self._tracker.feed_preview(preview)

    def on_connection_change(self) -> None:
        """Look again: events may have been missed."""
        self._wake.set()

    def on_abort(self, error: Exception) -> None:
        """Give up: ComfyUI is gone."""
        self._abort = error
        self._wake.set()

    def _report(self, progress: Progress | None) -> None:
        if progress is not None and self._on_progress is not None:
            self._on_progress(progress)

    async def _submit(self, graph: Graph, extra_data: Mapping[str, JsonValue]) -> None:
        self._openings = self._socket.openings if self._socket.is_open else -1
        self._breaks = self._socket.breaks if self._socket.is_open else -1
        self._heard_at = self._looked_at = time.perf_counter()
        self._is_sent = True
        try:
            node_errors = await self._client.submit(
                graph, prompt_id=self._prompt_id, client_id=self._socket.client_id, extra_data=extra_data
            )
        except OutcomeUnknown:
            # Never a second submission: it may have arrived. Its id tells.
            if not await self._find_submission():
                raise
            node_errors = {}
        except Exception:
            self._is_sent = False  # refused, or never taken: there is nothing to withdraw
            raise
        self._is_known = True
        if node_errors:
            raise PartlyInvalid(node_errors)

    async def _find_submission(self) -> bool:
        for _ in range(_UNSURE_LOOKS):
            if self._abort is not None:
                raise self._abort
            try:
                if self._tracker.started_at is not None or await self._is_anywhere():
                    return True
            except ComfyUIUnreachable:
                log.debug("execution.look_failed")
            await asyncio.sleep(_POLL_S)  # ComfyUI tells nobody that a submission did not arrive
        return False

    async def _is_anywhere(self) -> bool:
        queue = await self._client.queue()
        self._was_running = self._was_running or self._prompt_id in queue.running
        if self._prompt_id in queue.running | queue.pending:
            return True
        return await self._client.history(self._prompt_id) is not None

    async def _wait_finished(self) -> None:
        while not self._tracker.is_finished:
            if self._abort is not None:
                raise self._abort
            self._wake.clear()
            openings = self._socket.openings
            try:
                async with asyncio.timeout(self._look_at() - time.perf_counter()):
                    await self._wake.wait()
            except TimeoutError:
                await self._repair()
            else:
                if self._socket.openings != openings and self._abort is None:
                    await self._repair()
        has_gaps = not self._tracker.is_decided or self._socket.openings != self._openings
        if has_gaps and not self._is_from_history:
            await self._fill_gaps()

    async def _fill_gaps(self) -> None:
        """Take over from the history what events before the last one may have told while there was no connection.

        ComfyUI puts the prompt into its history before it sends the last event.
        """
        while True:
            try:
                entry = await self._client.history(self._prompt_id)
            except ComfyUIUnreachable as error:
                self._note_failure(error)
                await asyncio.sleep(_POLL_S)  # it has the answer, if it is still the same one
                continue
            if entry is not None:
                self._report(self._tracker.complete_from_history(entry))
            elif self._tracker.is_successful:
                raise self._lost()  # There may be outputs that nobody has told of.
            return

    def _look_at(self) -> float:
        """Return the time (`perf_counter`) at which to ask, if no word comes before.

        Absolute, because being woken must not put the look off: attempts to reconnect wake more often than that.
        """
        if not self._socket.is_open:
            is_answering = self._failures == 0
            return self._looked_at + (_POLL_S if is_answering else max(_POLL_S, self._reconnect_delay_s))
        # ComfyUI may drop a socket that came back under the same client id when it notices the end of the old one
        # (server.py, websocket_handler's finally); after a reconnect silence is therefore never trusted for long.
        limit_s = self._quiet_s if self._socket.openings == self._openings else _QUIET_S
        return max(self._heard_at, self._looked_at) + limit_s

    async def _repair(self) -> None:
        """Ask ComfyUI what became of the prompt, and take over what events should have told."""
        self._looked_at = time.perf_counter()
        try:
            is_there = await self._look()
        except ComfyUIUnreachable as error:
            self._note_failure(error)
            return
        self._failures = 0
        if not is_there and not self._tracker.is_finished and self._abort is None:
            raise self._lost()
        self._quiet_s = min(self._quiet_s * 2, _QUIET_MAX_S)

    def _note_failure(self, error: ComfyUIUnreachable) -> None:
        self._failures += 1
        log.info("execution.look_failed", failures=self._failures, error=error.message)
        if self._failures >= self._settings.websocket_reconnect_attempts:
            # Not the same error again: NotConnected would say that nothing was submitted.
            raise ComfyUIUnreachable(error.message, hint=error.hint, details=error.details) from error

    def _lost(self) -> ComfyUICrashed | JobCanceled:
        if self._socket.breaks == self._breaks:
            # It has not been restarted, or the socket would have broken.
            return JobCanceled(
                "the job was taken out of ComfyUI's queue", hint="Somebody else deleted it there; send it again."
            )
        return ComfyUICrashed("ComfyUI was restarted and no longer knows the job", hint="Send the job again.")

    async def _look(self) -> bool:
        """Return whether ComfyUI still has the prompt; if it has finished, the tracker knows afterwards."""
        if await self._take_history():
            return True
        queue = await self._client.queue()
        if self._prompt_id in queue.running:
            self._was_running = True
            if self._tracker.started_at is None and self._socket.is_open:
                log.info("execution.socket_deaf")
                await self._socket.reopen()
            return True
        # It may have ended between the two looks: read the history once more before calling it lost.
        return self._prompt_id in queue.pending or await self._take_history()

    async def _take_history(self) -> bool:
        entry = await self._client.history(self._prompt_id)
        if entry is not None and not self._tracker.is_finished:
            log.info("execution.repaired")
            self._is_from_history = True
            self._report(self._tracker.complete_from_history(entry))
        return entry is not None

    async def _withdraw(self) -> None:
        looks = 1 if self._is_known else _UNSURE_LOOKS
        failures = 0
        while self._abort is None:
            try:
                is_there = await self._try_to_withdraw()
            except ComfyUIUnreachable:
                failures += 1  # in a row: one that does not answer for a moment would else run on for nobody
                if failures >= self._settings.websocket_reconnect_attempts:
                    raise
                await asyncio.sleep(_POLL_S)
                continue
            failures = 0
            looks -= not is_there
            if looks == 0:
                break
            # Its `executing{node: null}` would tell, but not over a socket that may be down.
            await asyncio.sleep(_WITHDRAW_POLL_S)
        self._is_withdrawn = True
        log.info("execution.withdrawn")

    async def _try_to_withdraw(self) -> bool:
        """Return whether the prompt was still to be seen."""
        await self._client.delete_pending(self._prompt_id)
        queue = await self._client.queue()
        if self._prompt_id in queue.running:
            await self._client.interrupt(self._prompt_id)
        return self._prompt_id in queue.running | queue.pending

    def _evaluate(self, submitted_at: float) -> Execution:
        tracker = self._tracker
        if tracker.failure is not None:
            raise find_gpu_fault(tracker.failure) or node_error(tracker.failure)
        if tracker.is_interrupted:
            raise JobCanceled(
                "the execution was interrupted in ComfyUI", hint="Somebody else stopped it; send it again."
            )
        if not tracker.is_successful:
            raise NodeExecutionError("ComfyUI ended the execution without success and without saying why")
        finished_at = tracker.finished_at or time.perf_counter()
        started_at = tracker.started_at or submitted_at
        return Execution(
            prompt_id=self._prompt_id,
            outputs=dict(tracker.outputs),
            node_timings_s={node: round(spent, 4) for node, spent in tracker.node_timings_s.items()},
            wait_s=max(started_at - submitted_at, 0.0),
            execute_s=finished_at - started_at,
            warnings=tuple(
                f"node {blocked.node_id} ({blocked.class_type}) stopped its branch: {redact(blocked.exception_message)}"
                for blocked in tracker.blocked
            ),
        )


class PartlyInvalid(Exception):
    """ComfyUI queued the workflow without some of its outputs; `node_errors` says why. Does not leave the room."""

    def __init__(self, node_errors: Mapping[str, Any]) -> None:
        """Keep ComfyUI's answer."""
        super().__init__("ComfyUI left outputs out")
        self.node_errors = node_errors


def node_error(failure: NodeFailure) -> NodeExecutionError:
    """Return the error for a node that raised, told apart by the exception's type, never by its text."""
    place = f"node {failure.node_id} ({failure.class_type})"
    message = redact(failure.exception_message) or "no message"
    details: dict[str, JsonValue] = {
        "node_id": failure.node_id,
        "class_type": failure.class_type,
        "exception_type": failure.exception_type,
        "exception_message": message,
    }
    type_name = failure.exception_type.rpartition(".")[2]
    if type_name in {"OutOfMemoryError", "MemoryError"} or failure.exception_message.startswith(_CPU_ALLOCATOR):
        return OutOfMemory(
            f"{place} ran out of memory: {message}",
            hint="Make the picture, the batch or the model smaller, or run it on a machine with more memory.",
            details=details,
        )
    return NodeExecutionError(
        f"{place} failed: {type_name}: {message}",
        hint="The inputs of that node are the place to look; ComfyUI's log has its traceback.",
        details=details,
    )
