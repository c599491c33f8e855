"""Telling webhooks of jobs: what is to be told is written down first, then sent in the background."""

from __future__ import annotations

import asyncio
import functools
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self
from weakref import WeakKeyDictionary

import structlog
from pydantic import JsonValue

from comfyworker.finishing import finish, in_thread
from comfyworker.jobs import FINAL_EVENTS, JobRequest, WebhookEvent
from comfyworker.settings import WebhookSettings
from comfyworker.webhooks.courier import Courier, HeldMessage, Parcel
from comfyworker.webhooks.hook import Hook, check_settings, make_hook
from comfyworker.webhooks.message import Message, make_message
from comfyworker.webhooks.outbox import Outbox, PendingMessage, StoredMessage
from comfyworker.webhooks.schedule import pause_after
from comfyworker.webhooks.sending import Sender

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_Work = Callable[[], Coroutine[object, object, None]]

_PROGRESS_INTERVAL_S = 1.0
_MOST_HELD = 32  # messages that no disk took; each may have megabytes


class _Turn(NamedTuple):
    """When a message of a job is sent, and who waits for that."""

    tried: asyncio.Event
    """Set when it has been tried once, or never will be; the job's next message waits for that."""
    previous: asyncio.Event | None = None
    """The same of the message before."""
    progress: asyncio.Task[None] | None = None
    """What must have ended before."""

    async def come(self) -> None:
        """Wait until it is this message's turn."""
        if self.progress is not None:
            await asyncio.wait({self.progress})
        if self.previous is not None:
            await self.previous.wait()


class _Told:
    """What was told of one job so far."""

    def __init__(self) -> None:
        self.tried: asyncio.Event | None = None
        """Set when the last of its messages has been tried."""
        self.progress: asyncio.Task[None] | None = None
        self.latest: Mapping[str, JsonValue] | None = None
        """The progress that is told next."""
        self.is_over = False

    def next_turn(self, *, is_final: bool) -> _Turn:
        """Return the turn of the next message; a final one ends the job's progress."""
        progress = self.progress if is_final else None
        if progress is not None:
            progress.cancel()
        self.is_over |= is_final
        turn = _Turn(asyncio.Event(), self.tried, progress)
        self.tried = turn.tried
        return turn


class Webhooks:
    """Tells webhooks of jobs; one for all jobs of a worker.

    An async context manager. Its start takes up what an earlier worker had not delivered; its end gives first attempts
    a few seconds, and leaves the rest on disk for the next start.
    """

    def __init__(
        self,
        settings: WebhookSettings,
        *,
        folder: Path,
        allow_private_urls: bool = False,
        pauses: Callable[[int], float] = pause_after,
        leave_within_s: float = 5.0,
        resolver: AbstractResolver | None = None,
    ) -> None:
        """Be ready to be entered; nothing is read or sent yet.

        Args:
            settings: The worker's own webhook, and the limits of all.
            folder: Where messages are until they are delivered; made when there is one.
            allow_private_urls: Whether requests may name webhooks in private networks.
            pauses: Seconds between attempts, by how many have failed.
            leave_within_s: Seconds that the end waits for first attempts.
            resolver: Who resolves names; None takes the system's. What it answers is checked in any case.

        Raises:
            InvalidSettings: WEBHOOK_URL is no URL.
        """
        check_settings(settings)
        self._settings = settings
        self._allow_private_urls = allow_private_urls
        self._leave_within_s = leave_within_s
        self._outbox = Outbox(folder)
        self._sender = Sender(settings.secret, allow_private_urls=allow_private_urls, resolver=resolver)
        self._courier = Courier(self._sender, retry_within_s=settings.retry_within_s, pauses=pauses)
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()
        self._jobs: WeakKeyDictionary[Hook, _Told] = WeakKeyDictionary()
        self._held = 0
        self._is_open = False

    async def __aenter__(self) -> Self:
        """Take up what lies in the folder."""
        found = await in_thread(self._look)
        await self._sender.__aenter__()
        await self._group.__aenter__()
        self._is_open = True
        jobs: dict[str, _Told] = {}
        for item in found:
            turn = jobs.setdefault(item.envelope.job_id, _Told()).next_turn(is_final=False)
            self._start(StoredMessage(item.path, item.envelope), turn)
        if found:
            log.info("webhooks.taken_up", messages=len(found))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for first attempts, and end the rest."""
        self._is_open = False
        self._courier.leave()
        try:
            await finish(self._end_tasks(), within_s=self._leave_within_s + 1, name="webhooks")
        finally:
            # Not told of an error: what goes on outside is no reason to leave a message half sent.
            await self._group.__aexit__(None, None, None)
            await self._sender.__aexit__(None, None, None)

    def hook_for(self, request: JobRequest) -> Hook | None:
        """Return who is told of a job, None if nobody is.

        Raises:
            InvalidRequest: the webhook that the request names cannot be called.
        """
        return make_hook(request, self._settings, allow_private_urls=self._allow_private_urls)

    async def put(self, hook: Hook, event: WebhookEvent, body: Mapping[str, JsonValue], *, key: str = "") -> None:
        """Tell `hook` of an event, if it wants to hear of that; return when it is written down, not when it is sent.

        Of a job's progress only the latest is told, about once a second, and none after the job's end; nothing of it is
        written down. Where the disk does not take a message, it is sent from memory. If cancelled, the message goes out
        all the same.

        Args:
            hook: Who is told, as `hook_for` returned it.
            event: What happened.
            body: What is told of the job; `event` and the caller's own are added. It is not changed.
            key: Tells apart several messages of one event, as artifacts.
        """
        if not hook.wants(event):
            return
        told = self._jobs.setdefault(hook, _Told())
        if event is WebhookEvent.PROGRESS:
            self._tell_progress(hook, told, body)
            return
        turn = told.next_turn(is_final=event in FINAL_EVENTS)  # Before the first await: messages go out as they came.
        parcels: list[Parcel] = []
        try:
            await in_thread(functools.partial(self._keep, parcels, hook, event, body, key))
        finally:
            if not parcels:
                turn.tried.set()
            for parcel in parcels:
                self._start(parcel, turn)

    def _look(self) -> list[PendingMessage]:
        try:
            self._outbox.clean()
            return self._outbox.pending()
        except OSError as error:
            log.warning("webhooks.not_taken_up", error_type=type(error).__name__)
            return []

    def _keep(
        self, parcels: list[Parcel], hook: Hook, event: WebhookEvent, body: Mapping[str, JsonValue], key: str
    ) -> None:
        """Write a message down, in a thread; noted in `parcels`, since who is cancelled hears nothing else of it."""
        message = self._make(hook, event, body, key)
        try:
            parcels.append(StoredMessage(self._outbox.store(message), message.envelope))
        except OSError as error:
            log.warning(
                "webhooks.not_stored", job_id=hook.job_id, webhook_event=event.value, error_type=type(error).__name__
            )
            parcels.append(HeldMessage(message))

    def _make(self, hook: Hook, event: WebhookEvent, body: Mapping[str, JsonValue], key: str) -> Message:
        return make_message(hook, event, body, key=key, max_bytes=self._settings.max_body_bytes, now=time.time())

    def _start(self, parcel: Parcel, turn: _Turn) -> None:
        if self._is_open:
            name = f"webhook {parcel.envelope.event.value} of {parcel.envelope.job_id}"
            self._spawn(functools.partial(self._tell, parcel, turn), name)
        elif not parcel.is_kept:
            log.warning("webhooks.lost", job_id=parcel.envelope.job_id, webhook_event=parcel.envelope.event.value)

    async def _tell(self, parcel: Parcel, turn: _Turn) -> None:
        """Send one message, after what was told of its job before."""
        self._held += not parcel.is_kept
        try:
            await turn.come()
            await self._courier.bring(parcel, turn.tried, only_once=not parcel.is_kept and self._held > _MOST_HELD)
        finally:
            self._held -= not parcel.is_kept
            turn.tried.set()

    def _tell_progress(self, hook: Hook, told: _Told, body: Mapping[str, JsonValue]) -> None:
        if told.is_over or not self._is_open:
            return
        told.latest = body
        if told.progress is None:
            told.progress = self._spawn(
                functools.partial(self._send_progress, hook, told), f"webhook progress of {hook.job_id}"
            )

    async def _send_progress(self, hook: Hook, told: _Told) -> None:
        """Send the latest progress until there is none newer."""
        loop = asyncio.get_running_loop()
        try:
            while told.latest is not None and self._is_open:
                body, told.latest = told.latest, None
                next_at = loop.time() + _PROGRESS_INTERVAL_S
                if told.tried is not None:
                    await told.tried.wait()
                message = self._make(hook, WebhookEvent.PROGRESS, body, uuid.uuid4().hex)
                await self._courier.bring(HeldMessage(message), asyncio.Event(), only_once=True)
                await asyncio.sleep(next_at - loop.time())
        finally:
            told.progress = None

    def _spawn(self, work: _Work, name: str) -> asyncio.Task[None]:
        task = self._group.create_task(_watched(work, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _end_tasks(self) -> None:
        try:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=self._leave_within_s)
        finally:
            for task in self._tasks:
                task.cancel()


async def _watched(work: _Work, name: str) -> None:
    try:
        await work()
    except Exception:
        # A fault of ours in one message must not end the others, as it would in their group.
        log.exception("webhooks.failed", what=name)
