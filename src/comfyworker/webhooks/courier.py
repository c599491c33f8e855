"""The road of one message: attempts with pauses between them, until it was taken, refused, or too much time has passed.

Retries are not stamina's here: they go on over minutes and restarts, and the receiver has a say in when.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Callable
from typing import Protocol
from weakref import WeakValueDictionary

import structlog

from comfyworker.finishing import in_thread
from comfyworker.jobs import WebhookEvent
from comfyworker.webhooks.message import Envelope, Message
from comfyworker.webhooks.outbox import Taken
from comfyworker.webhooks.sending import Outcome, Sender, Verdict

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_PLACES = 16  # Each holds one body in memory.
_PLACES_PER_HOST = 4  # So that one that hangs leaves room for the others.
_LOOK_AGAIN_S = 1.0


class Parcel(Protocol):
    """A message that somebody has to send, wherever it is kept; `StoredMessage` says what each of these does."""

    envelope: Envelope
    is_kept: bool

    def take(self) -> tuple[Message, float] | None:
        """Called before each attempt, in a thread."""

    def put_off(self, until: float) -> None:
        """Called after an attempt that failed, in a thread."""

    def remove(self) -> None:
        """Called when the message is delivered or given up, in a thread."""

    def release(self) -> None:
        """Called after each attempt, whatever came of it."""


class HeldMessage:
    """A message that is in memory only: no disk took it, or it is not worth one."""

    is_kept = False

    def __init__(self, message: Message) -> None:
        """Hold `message`."""
        self.envelope = message.envelope
        self._message = message
        self._due_at = 0.0

    def take(self) -> tuple[Message, float] | None:
        """Return the message and when it is due."""
        return self._message, self._due_at

    def put_off(self, until: float) -> None:
        """Be due at `until`."""
        self._due_at = until

    def remove(self) -> None:
        """Do nothing: it is gone when nobody holds it."""

    def release(self) -> None:
        """Do nothing: nobody else can have it."""


class Courier:
    """Brings messages to their receivers, several at once."""

    def __init__(self, sender: Sender, *, retry_within_s: float, pauses: Callable[[int], float]) -> None:
        """Send with `sender`.

        Args:
            sender: Makes each attempt.
            retry_within_s: How old a message may be when it is sent again.
            pauses: Seconds to wait after so many failed attempts.
        """
        self._sender = sender
        self._retry_within_s = retry_within_s
        self._pauses = pauses
        self._places = _Places()
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        """Begin no second attempts any more; what waits for one ends."""
        self._leaving.set()

    async def bring(self, parcel: Parcel, tried: asyncio.Event, *, only_once: bool = False) -> None:
        """Send a message until that need not be done any more; set `tried` after the first look.

        It ends without that when `leave` is called, or when it is cancelled; a message that is kept then stays so.
        """
        attempts = 0
        is_settled = False
        try:
            while True:
                due_at, was_sent = await self._attempt(parcel, attempts + 1, only_once=only_once)
                attempts += was_sent
                # Also when it was not due: nobody is to wait an hour because its receiver asked us to.
                tried.set()
                if due_at is None:
                    is_settled = True
                    return
                await self._wait_until(due_at)
                if self._leaving.is_set():
                    return
        finally:
            if not is_settled and not parcel.is_kept and parcel.envelope.event is not WebhookEvent.PROGRESS:
                log.warning("webhooks.lost", **_about(parcel), attempts=attempts)

    async def _attempt(self, parcel: Parcel, attempt: int, *, only_once: bool) -> tuple[float | None, bool]:
        """Send a message once, if it is due; return when it is to be looked at again, and whether it was sent."""
        async with self._places.at(parcel.envelope.host):
            try:
                taken = await in_thread(parcel.take)
                if taken is None:
                    return None, False
                message, due_at = taken
                now = time.time()
                if due_at > now:
                    return min(due_at, now + self._retry_within_s), False
                verdict = await self._sender.send(message)
                return await self._settle(parcel, verdict, attempt, only_once=only_once), True
            except Taken:
                log.debug("webhooks.found_taken", **_about(parcel))
                # Nobody tells when a lock is free. Who has it removes the message or puts it off.
                return time.time() + _LOOK_AGAIN_S, False
            except OSError as error:
                log.warning("webhooks.not_read", **_about(parcel), error_type=type(error).__name__)
                return None, False
            finally:
                parcel.release()

    async def _settle(self, parcel: Parcel, verdict: Verdict, attempt: int, *, only_once: bool) -> float | None:
        """Do what the verdict asks for; return when the message is to be sent again, None if it is not."""
        about = {**_about(parcel), "attempts": attempt, "status": verdict.status}
        if verdict.outcome is Outcome.TAKEN:
            log.info("webhooks.delivered", **about)
            await self._remove(parcel)
            return None
        now = time.time()
        give_up_at = parcel.envelope.created_at + self._retry_within_s
        if verdict.outcome is Outcome.REFUSED or only_once or now >= give_up_at:
            tell = log.debug if parcel.envelope.event is WebhookEvent.PROGRESS else log.warning
            tell("webhooks.given_up", **about, reason=verdict.reason)
            await self._remove(parcel)
            return None
        pause_s = max(self._pauses(attempt), verdict.retry_after_s or 0.0)
        # The last attempt is made when the time is up, not one pause before.
        due_at = min(now + pause_s, give_up_at)
        log.info("webhooks.put_off", **about, reason=verdict.reason, pause_s=round(due_at - now, 1))
        with contextlib.suppress(OSError):  # Then the others know nothing of it, but we do.
            await in_thread(functools.partial(parcel.put_off, due_at))
        return due_at

    async def _remove(self, parcel: Parcel) -> None:
        try:
            await in_thread(parcel.remove)
        except OSError as error:
            # It will be sent again after a restart, with the same id.
            log.warning("webhooks.not_removed", **_about(parcel), error_type=type(error).__name__)

    async def _wait_until(self, due_at: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, due_at - time.time())):
                await self._leaving.wait()


class _Places:
    """How many messages are sent at the same time, in all and to one host."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(_PLACES)
        self._hosts: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @contextlib.asynccontextmanager
    async def at(self, host: str) -> AsyncIterator[None]:
        places = self._hosts.setdefault(host, asyncio.Semaphore(_PLACES_PER_HOST))
        async with places, self._all:
            yield


def _about(parcel: Parcel) -> dict[str, str]:
    envelope = parcel.envelope
    return {
        "job_id": envelope.job_id,
        "webhook_event": envelope.event.value,
        "message_id": envelope.id,
        "host": envelope.host,
    }
