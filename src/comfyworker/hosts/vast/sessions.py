"""Sessions: a client that keeps one worker for several requests.

All requests of a session carry the `auth_data` that it was opened with, so each proves with it that it belongs there.
A session ends when its client says so, or when nothing was asked in it for its lifetime; what its clients wait for is
canceled then. Wire source: Vast's SDK, `Backend.session_create_handler` and those beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
import string
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import structlog

from comfyworker.errors import SessionEnded, TooBusy, Unauthorized, WorkerError
from comfyworker.hosts.vast.ledger import Entry, Ledger
from comfyworker.hosts.vast.on_close import OnClose, tell_closed
from comfyworker.hosts.vast.signatures import AuthData, dump_small
from comfyworker.hosts.vast.workload import workload_of_cost

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

USUAL_LIFETIME_S: Final = 60.0
LONGEST_LIFETIME_S: Final = 86_400.0
_SOONEST_S = 1.0
_ID_CHARS = 13
_ALPHABET = string.ascii_letters + string.digits

JobKey = tuple[str, str]
"""Owner and id of a job."""


@dataclass(eq=False)
class Session:
    """One session that is open."""

    id: str
    auth: AuthData
    entry: Entry
    lifetime_s: float
    """By which each request moves its end."""
    created_at: float
    """Unix seconds."""
    expires_at: float
    """Unix seconds."""
    on_close: OnClose | None = None
    on_late: Callable[[JobKey], None] = lambda _: None
    """Called for each job whose client begins to wait when the session has ended."""
    awaited: set[JobKey] = field(default_factory=set)
    """The jobs whose clients wait."""
    is_over: bool = False
    """Whether it has ended."""

    def check(self, auth_data: object) -> None:
        """See that whoever asks has the `auth_data` that the session was opened with.

        Raises:
            Unauthorized: it is another one.
        """
        given, ours = dump_small(auth_data), dump_small(self.auth.as_sent)
        if given is None or ours is None or not hmac.compare_digest(given, ours):
            raise Unauthorized(
                "session_auth is not valid", hint="Send the auth_data that the session was created with, unchanged."
            )

    @contextlib.contextmanager
    def awaiting(self, job: JobKey) -> Iterator[None]:
        """Have `job` canceled if the session ends meanwhile, or has ended while the job was taken."""
        self.awaited.add(job)
        if self.is_over:
            self.on_late(job)
        try:
            yield
        finally:
            self.awaited.discard(job)


class Sessions:
    """The sessions that are open; an async context manager, at whose end all of them end."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        most: int,
        allow_private_urls: bool,
        cancel: Callable[[JobKey], Awaitable[object]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Have none.

        Args:
            ledger: Is told of each session.
            most: How many may be open; 0 is no limit.
            allow_private_urls: Whether `on_close_route` may lead into private networks.
            cancel: Cancels a job; called for those whose clients wait when their session ends.
            clock: Unix seconds.
        """
        self._ledger = ledger
        self._most = most
        self._allow_private_urls = allow_private_urls
        self._cancel = cancel
        self._clock = clock
        self._open: dict[str, Session] = {}
        self._changed = asyncio.Event()
        self._group = asyncio.TaskGroup()
        self._expiring: asyncio.Task[None] | None = None
        self._is_closed = False

    async def __aenter__(self) -> Self:
        """Let sessions end when their time is over."""
        await self._group.__aenter__()
        self._expiring = self._group.create_task(self._expire(), name="expire sessions")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all sessions, and tell of them."""
        if self._expiring is not None:
            self._expiring.cancel()
        for session in tuple(self._open.values()):
            self._end(session, "worker_stopped")
        self._is_closed = True
        await self._group.__aexit__(None, None, None)

    def __len__(self) -> int:
        return len(self._open)

    def open(self, auth: AuthData, *, lifetime_s: float, on_close: OnClose | None = None) -> Session:
        """Return a new session.

        Raises:
            TooBusy: as many sessions are open as may.
        """
        now, workload = self._clock(), workload_of_cost(auth.cost)
        if self._most and len(self._open) >= self._most:
            self._ledger.reject(auth, workload)
            raise TooBusy(
                f"{len(self._open)} sessions are open here, and no more may be",
                hint="End one, or open it on another worker; MAX_SESSIONS says how many.",
                details={"retry_after_s": self._next_end_s()},
            )
        session = Session(
            id="".join(secrets.choice(_ALPHABET) for _ in range(_ID_CHARS)),
            auth=auth,
            entry=self._ledger.open_session(auth, workload),
            lifetime_s=lifetime_s,
            created_at=now,
            expires_at=now + lifetime_s,
            on_close=on_close,
            on_late=self._cancel_soon,
        )
        self._open[session.id] = session
        self._changed.set()
        log.info("session.opened", session_id=session.id, lifetime_s=lifetime_s, open=len(self._open))
        return session

    def find(self, session_id: str) -> Session | None:
        """Return a session; None if it has ended, or never was here."""
        session = self._open.get(session_id)
        return session if session is not None and session.expires_at > self._clock() else None

    def enter(self, session_id: str, auth_data: object) -> Session:
        """Return the session that a request belongs to; its end moves by its lifetime.

        Raises:
            SessionEnded: there is none of this id.
            Unauthorized: the request was not made by who opened it.
        """
        session = self.find(session_id)
        if session is None:
            raise SessionEnded("invalid session", hint="Open another one: this one has ended, or was never here.")
        session.check(auth_data)
        session.expires_at = min(session.expires_at + session.lifetime_s, self._clock() + LONGEST_LIFETIME_S)
        self._changed.set()
        return session

    def end(self, session: Session) -> bool:
        """End a session; return whether it was open."""
        return self._end(session, "ended")

    def _end(self, session: Session, reason: str) -> bool:
        if self._open.pop(session.id, None) is None:
            return False
        session.is_over = True
        self._ledger.succeed(session.entry)
        log.info("session.ended", session_id=session.id, reason=reason, canceled=len(session.awaited))
        for job in tuple(session.awaited):
            self._cancel_soon(job)
        if session.on_close is not None:
            telling = tell_closed(session.on_close, session.id, allow_private=self._allow_private_urls)
            self._group.create_task(telling, name=f"tell of the end of session {session.id}")
        return True

    def _next_end_s(self) -> float:
        """Return in how many seconds the first session ends, if nobody asks for anything in it."""
        due_at = min(session.expires_at for session in self._open.values())
        return max(due_at - self._clock(), _SOONEST_S)

    def _cancel_soon(self, job: JobKey) -> None:
        if not self._is_closed:  # then all jobs are handed back
            self._group.create_task(self._cancel_quietly(job), name=f"cancel {job[1]} of an ended session")

    async def _cancel_quietly(self, job: JobKey) -> None:
        # It may have ended just now, or be forgotten already.
        with contextlib.suppress(WorkerError):
            await self._cancel(job)

    async def _expire(self) -> None:
        while True:
            self._changed.clear()
            due_at = min((session.expires_at for session in self._open.values()), default=None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if due_at is None else max(due_at - self._clock(), 0.0)):
                    await self._changed.wait()
            for session in [each for each in self._open.values() if each.expires_at <= self._clock()]:
                self._end(session, "expired")
