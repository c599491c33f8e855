"""Whom a session wants to be told when it ends: one POST to a URL that its client named.

The client chooses the URL, but not whom this machine speaks to: see `comfyworker.outbound`. A relative route, which
the SDK sends to its model server, leads nowhere here: there is none behind this worker.
Wire source: Vast's SDK, `Backend.__run_session_on_close`.
"""

from __future__ import annotations

from dataclasses import dataclass

import aiohttp
import structlog
from pydantic import JsonValue
from yarl import URL

from comfyworker.errors import InvalidRequest, Problem
from comfyworker.outbound.addresses import host_refusal
from comfyworker.outbound.sessions import guarded_session
from comfyworker.outbound.targets import TargetRefused, parse_target

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_WITHIN_S = 10.0
_CONNECT_WITHIN_S = 5.0


@dataclass(frozen=True)
class OnClose:
    """What is sent, and where to."""

    url: URL
    route: str
    """As the client wrote it, and its payload below."""
    payload: JsonValue

    def body(self, session_id: str) -> dict[str, JsonValue]:
        """Return what is sent."""
        named: dict[str, JsonValue] = {"session_id": session_id}
        if self.payload is None:
            return named
        return named | (self.payload if isinstance(self.payload, dict) else {"payload": self.payload})


def read_on_close(route: object, payload: JsonValue, *, allow_private: bool) -> OnClose | None:
    """Return whom to tell; None if nobody.

    Args:
        route: The session's `on_close_route`.
        payload: The session's `on_close_payload`.
        allow_private: Take addresses of this machine and of private networks.

    Raises:
        InvalidRequest: it is no URL that may be called.
    """
    if route is None:
        return None
    reason = None if isinstance(route, str) else "must be text"
    if isinstance(route, str):
        try:
            url = parse_target(route)
            refused = host_refusal(url.host or "", allow_private=allow_private)
            if refused is None:
                return OnClose(url, route, payload)
            reason = f"leads to {refused}, which is not called"
        except TargetRefused as error:
            reason = error.reason
    problem = Problem(message=f"on_close_route {reason}", path="payload.on_close_route", code="invalid_value")
    raise InvalidRequest(
        problem.message, hint="It must be the http(s) URL of a server that Vast's machines reach.", problems=[problem]
    )


async def tell_closed(on_close: OnClose, session_id: str, *, allow_private: bool) -> None:
    """Tell once that a session has ended; that it did not arrive is logged, no more."""
    timeout = aiohttp.ClientTimeout(total=_WITHIN_S, sock_connect=_CONNECT_WITHIN_S, sock_read=_WITHIN_S)
    try:
        async with (
            guarded_session(allow_private=allow_private, timeout=timeout) as session,
            session.post(on_close.url, json=on_close.body(session_id), allow_redirects=False) as answer,
        ):
            log.info("session.told", host=on_close.url.host, status=answer.status)
    except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
        log.warning("session.not_told", host=on_close.url.host, error_type=type(error).__name__)
