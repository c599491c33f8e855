"""One attempt to deliver one message, and what came of it."""

from __future__ import annotations

import functools
import io
import time
from enum import StrEnum
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from pydantic import SecretStr

from comfyworker.deferred import aiohttp, load_aiohttp
from comfyworker.finishing import in_thread
from comfyworker.outbound.sessions import AddressRefused, guarded_session
from comfyworker.outbound.targets import TargetRefused, parse_target
from comfyworker.webhooks.message import Envelope, Message
from comfyworker.webhooks.schedule import read_retry_after
from comfyworker.webhooks.signing import make_headers

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver

_CONNECT_WITHIN_S = 10.0
_PASSING = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


class Outcome(StrEnum):
    """What an attempt means for the message."""

    TAKEN = "taken"
    AGAIN = "again"
    """Another attempt may succeed."""
    REFUSED = "refused"
    """No attempt will succeed."""


class Verdict(NamedTuple):
    """What came of an attempt."""

    outcome: Outcome
    reason: str
    """In words that a log may hold."""
    status: int | None = None
    retry_after_s: float | None = None
    """What the receiver asked for."""


class Sender:
    """Sends messages, each with one request; an async context manager."""

    def __init__(
        self, secret: SecretStr | None, *, allow_private_urls: bool, resolver: AbstractResolver | None = None
    ) -> None:
        """Sign with the worker's `secret` where a message has none of its own.

        Args:
            secret: None signs nothing.
            allow_private_urls: Whether URLs of requests may lead to private networks; the worker's own always may.
            resolver: Who resolves names; None takes the system's.
        """
        self._secret = secret
        self._allow_private_urls = allow_private_urls
        self._resolver = resolver
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def __aenter__(self) -> Self:
        """Be ready to send."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close what is open."""
        for session in self._sessions.values():
            await session.close()

    async def send(self, message: Message) -> Verdict:
        """Send a message once; a failure is a verdict too, and no part of one shows more of a URL than its host."""
        envelope, body = message
        try:
            url = parse_target(envelope.url, allow_credentials=envelope.is_operators)
        except TargetRefused as refused:
            return Verdict(Outcome.REFUSED, f"its URL {refused.reason}")
        secret = self._secret if envelope.secret is None else envelope.secret
        # In a thread, since bodies may have megabytes.
        headers = await in_thread(functools.partial(make_headers, envelope.id, body, secret=secret, now=time.time()))
        await load_aiohttp()
        session = self._session(allow_private=envelope.is_operators or self._allow_private_urls)
        try:
            async with session.post(
                url, data=io.BytesIO(body), headers=headers, allow_redirects=False, timeout=_timeout(envelope)
            ) as response:
                return _judge(response)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _judge_fault(error)

    def _session(self, *, allow_private: bool) -> aiohttp.ClientSession:
        if allow_private not in self._sessions:
            self._sessions[allow_private] = guarded_session(
                allow_private=allow_private, timeout=aiohttp.ClientTimeout(total=None), resolver=self._resolver
            )
        return self._sessions[allow_private]


def _timeout(envelope: Envelope) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(
        total=envelope.timeout_s, sock_connect=min(_CONNECT_WITHIN_S, envelope.timeout_s), sock_read=envelope.timeout_s
    )


def _judge(response: aiohttp.ClientResponse) -> Verdict:
    status = response.status
    reason = f"it answered with status {status}"
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Verdict(Outcome.TAKEN, reason, status)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _PASSING:
        retry_after_s = read_retry_after(response.headers.get("Retry-After"), now=time.time())
        return Verdict(Outcome.AGAIN, reason, status, retry_after_s)
    return Verdict(Outcome.REFUSED, reason, status)


def _judge_fault(error: Exception) -> Verdict:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, AddressRefused):
        return Verdict(Outcome.REFUSED, f"it leads to {cause.kind}, which is not called")
    if isinstance(error, aiohttp.InvalidURL):
        return Verdict(Outcome.REFUSED, "its URL cannot be read")
    if isinstance(error, TimeoutError):
        return Verdict(Outcome.AGAIN, "it did not answer in time")
    if isinstance(error, aiohttp.ClientSSLError):
        return Verdict(Outcome.AGAIN, "no safe connection could be made")
    if isinstance(error, aiohttp.ClientConnectorError):
        return Verdict(Outcome.AGAIN, "no connection could be made")
    return Verdict(Outcome.AGAIN, "the connection failed")
