"""Who is let in on Vast.ai, and what the platform is told of each request.

A request to run a job comes signed by Vast's router, within a session, with one of API_KEYS, or with nothing at all
where UNSECURED says so.

Whose a job is: a signature covers the worker's URL and tells no client from another; only who has the endpoint's key
gets one from Vast's router. So all signed jobs belong to one owner, `vast`: whoever was routed here reads them by their
ids (POST /result/{id} with the `auth_data` of any request here), which are UUIDs unless the client chooses them. An API
key that is written `vast:KEY` reads them, too; other keys have jobs of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import structlog
from starlette.requests import Request

from comfyworker.errors import Unauthorized, WorkerError
from comfyworker.hosts.http.context import context_of
from comfyworker.hosts.http.limits import read_json
from comfyworker.hosts.http.vast.codes import CANCELED
from comfyworker.hosts.http.vast.door import Visit
from comfyworker.hosts.vast.admission import Admission
from comfyworker.hosts.vast.envelope import Envelope, open_envelope
from comfyworker.hosts.vast.ledger import Entry, Ledger
from comfyworker.hosts.vast.replay import Replays
from comfyworker.hosts.vast.sessions import Session, Sessions
from comfyworker.hosts.vast.signatures import AuthData, Signatures, SignedForm, parse_auth
from comfyworker.hosts.vast.workload import workload_of
from comfyworker.jobs import JobStatus
from comfyworker.service import JobRecord

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

SIGNED_OWNER: Final = "vast"
_LONGEST_WAIT_S = 7 * 86400.0  # the job's own deadline ends it before
_OK = range(200, 300)
_MAY_COME_AGAIN = frozenset({408, 429, CANCELED})
_SERVER_ERROR = 500


@dataclass(frozen=True)
class Caller:
    """Who asks."""

    owner: str
    auth: AuthData | None = None
    """None: Vast's router knows nothing of this request."""
    form: SignedForm = SignedForm.NONE
    session: Session | None = None

    @property
    def in_session(self) -> bool:
        """Whether the request belongs to a session, which is all that Vast's router knows of it."""
        return self.session is not None


class Reception:
    """Lets requests in and keeps account of them; an async context manager that follows those who do not wait."""

    def __init__(
        self, *, signatures: Signatures, ledger: Ledger, admission: Admission, sessions: Sessions, unsecured: bool
    ) -> None:
        """Let in what `signatures` pass.

        Args:
            signatures: Know what Vast's router has signed.
            ledger: Is told of each request.
            admission: Knows whether the worker takes one now.
            sessions: Those that are open.
            unsecured: Whether requests need not be signed.
        """
        self.signatures = signatures
        self.ledger = ledger
        self.admission = admission
        self.sessions = sessions
        self.replays = Replays()
        self._unsecured = unsecured
        self._group = asyncio.TaskGroup()
        self._followed: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Be ready to follow jobs."""
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the accounts of the jobs that are still followed: they run no more here."""
        for task in tuple(self._followed):
            task.cancel()
        await self._group.__aexit__(None, None, None)

    @contextlib.asynccontextmanager
    async def door(self, request: Request) -> AsyncIterator[Visit]:
        """Let a request for a job in; what becomes of it is told to the ledger.

        Raises:
            InvalidRequest: its envelope or its `auth_data` is not whole.
            Unauthorized: it is not signed, not for this worker, or was answered before.
            SessionEnded: it names a session that is not open.
            QueueFull: it is at work already, the work here takes too long, or the worker shuts down.
            ComfyUIUnavailable: the worker is starting, or broken.
        """
        body = await read_json(request)
        envelope = open_envelope(body)
        caller = await self.identify(request, envelope)
        with self._used_once(caller) as use:
            workload = workload_of(envelope.expected_time)
            try:
                self.admission.check()
            except WorkerError:
                self.ledger.reject(caller.auth, workload, in_session=caller.in_session)
                raise
            entry = self.ledger.receive(caller.auth, workload, in_session=caller.in_session)
            visit = _Accounted(self, request, body, caller, entry)
            try:
                yield visit
            finally:
                visit.leave()
                use.is_answered = visit.is_answered

    async def identify(self, request: Request, envelope: Envelope) -> Caller:
        """Return who asks.

        Raises:
            InvalidRequest: the `auth_data` is not whole.
            Unauthorized: the request is not signed, or not for this worker.
            SessionEnded: it names a session that is not open.
            QueueFull: Vast's key has not come yet.
        """
        if envelope.session_id is not None:
            session = self.sessions.enter(envelope.session_id, envelope.auth_data)
            return Caller(SIGNED_OWNER, session.auth, session=session)
        if envelope.auth_data is not None:
            auth = self._read_auth(envelope.auth_data)
            return Caller(SIGNED_OWNER, auth, SignedForm.NONE if auth is None else await self.signatures.check(auth))
        owner = context_of(request).keys.known_owner(request.headers.get("authorization"))
        if owner is not None or self._unsecured:
            return Caller(SIGNED_OWNER if owner is None else owner)
        raise Unauthorized(
            "the request is not signed",
            hint="Ask Vast's /route/ for a worker, and send its answer as auth_data beside payload.",
        )

    def follow(self, request: Request, record: JobRecord, entry: Entry, session: Session | None) -> None:
        """Find out in the background what comes of a job, and tell the ledger."""
        following = self._follow(request, record, entry, session)
        task = self._group.create_task(following, name=f"account of {record.id}")
        self._followed.add(task)
        task.add_done_callback(self._followed.discard)

    def _read_auth(self, auth_data: object) -> AuthData | None:
        try:
            return parse_auth(auth_data)
        except WorkerError:
            if self._unsecured:
                return None  # as tests send it
            raise

    @contextlib.contextmanager
    def _used_once(self, caller: Caller) -> Iterator[_Use]:
        use = _Use()
        if caller.auth is None or caller.in_session:
            yield use
            return
        self.replays.begin(caller.auth, caller.form)
        try:
            yield use
        finally:
            self.replays.end(caller.auth, caller.form, answered=use.is_answered)

    async def _follow(self, request: Request, record: JobRecord, entry: Entry, session: Session | None) -> None:
        service = context_of(request).service
        waiting = session.awaiting((record.owner, record.id)) if session is not None else contextlib.nullcontext()
        try:
            with waiting:
                ended = await service.wait(record.owner, record.id, timeout_s=_LONGEST_WAIT_S)
            close_account(self.ledger, entry, ended)
        except WorkerError:
            log.warning("vast.job_lost", job_id=record.id)  # it was forgotten while it was waited for
        finally:
            self.ledger.fail(entry)  # changes nothing where the account is closed


class _Use:
    """Whether the one answer that a request is good for was given."""

    is_answered = False


class _Accounted(Visit):
    """A visit of which the ledger is told."""

    def __init__(self, reception: Reception, request: Request, body: object, caller: Caller, entry: Entry) -> None:
        super().__init__(caller.owner, body)
        self.is_answered = False
        self._reception = reception
        self._request = request
        self._session = caller.session
        self._entry = entry
        self._is_settled = False
        self._exit = contextlib.ExitStack()

    def note_job(self, record: JobRecord) -> None:
        if self._session is not None:
            self._exit.enter_context(self._session.awaiting((record.owner, record.id)))

    def follow(self, record: JobRecord, *, is_watched: bool) -> None:
        self._is_settled = self.is_answered = True
        self._reception.follow(self._request, record, self._entry, self._session if is_watched else None)

    def answered(self, status: int, record: JobRecord | None = None) -> None:
        self._is_settled = True
        self.is_answered = status < _SERVER_ERROR and status not in _MAY_COME_AGAIN
        ledger = self._reception.ledger
        if record is not None and record.started_at is not None:
            ledger.begin(self._entry, at=record.started_at)
        if status in _OK:
            ledger.succeed(self._entry)
        elif status == CANCELED:
            ledger.cancel(self._entry)
        else:
            ledger.fail(self._entry)

    def leave(self) -> None:
        """Close the account of a visit that no answer came of."""
        self._exit.close()
        if not self._is_settled:
            self._reception.ledger.fail(self._entry)


def close_account(ledger: Ledger, entry: Entry, record: JobRecord) -> None:
    """Tell the ledger how a job ended; one that has not ended runs no more on this worker."""
    if record.started_at is not None:
        ledger.begin(entry, at=record.started_at)
    if record.status is JobStatus.SUCCEEDED:
        ledger.succeed(entry)
    elif record.status is JobStatus.CANCELED:
        ledger.cancel(entry)
    else:
        ledger.fail(entry)
