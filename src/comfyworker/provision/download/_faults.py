"""Why a download does not go on, in words for people and without a secret."""

from __future__ import annotations

import errno
import socket
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Literal

import aiohttp

from comfyworker.errors import DownloadFailed, InsufficientStorage
from comfyworker.outbound.sessions import AddressRefused

MAX_PAUSE_S = 300.0
"""The longest Retry-After that is waited for; Hugging Face counts requests over five minutes."""

Reason = Literal[
    "invalid_url",
    "unreachable",
    "timeout",
    "refused",
    "redirects",
    "unauthorized",
    "forbidden",
    "gated",
    "not_found",
    "busy",
    "status",
    "not_a_model",
    "no_filename",
    "unsafe_filename",
    "wrong_size",
    "wrong_hash",
    "broken_ranges",
    "changing",
    "offline",
    "unreadable",
]
"""What sort of failure it is, for programs: `details.reason` of the error."""


class Fault(Exception):
    """Why a file was not fetched: the reason reads on after the file's URL."""

    def __init__(
        self,
        text: str,
        reason: Reason,
        *,
        hint: str | None = None,
        status: int | None = None,
        may_pass: bool = False,
        pause_s: float | None = None,
    ) -> None:
        """Keep what is told of it.

        Args:
            text: What is wrong, without any URL, as `answered with status 404`.
            reason: The same for programs.
            hint: What to do now.
            status: The HTTP status, if there was one.
            may_pass: Whether the same may succeed when tried again.
            pause_s: Seconds that the host wants us to wait.
        """
        super().__init__(text)
        self.text = text
        self.reason = reason
        self.hint = hint
        self.status = status
        self.may_pass = may_pass
        self.pause_s = pause_s


class SourceChanged(Exception):
    """The file at the source is no longer the one that was begun."""


class RangesLost(Exception):
    """The source, which took ranges, sends the whole file now."""


def failed(fault: Fault, shown: str) -> DownloadFailed:
    """Return the error that leaves the room."""
    details: dict[str, str | int] = {"url": shown, "reason": fault.reason}
    if fault.status is not None:
        details["status"] = fault.status
    return DownloadFailed(f"{shown} {fault.text}", hint=fault.hint, details=details, retryable=fault.may_pass)


def disk_fault(error: OSError, filename: str) -> Exception:
    """Return what a failure of the disk means: a full one is InsufficientStorage, everything else a Fault."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return InsufficientStorage(
            f"the disk is full: {filename} was not fetched wholly",
            hint="Free space; what has come is kept, and the download then goes on where it stopped.",
        )
    text = f"could not be written: {error.strerror or 'the disk failed'}"
    return Fault(text, "unreadable", hint="Look whether the models folder can be written, and its disk is sound.")


def status_fault(status: int, retry_after: str | None = None) -> Fault:
    """Return what an HTTP status that brings no file means, whoever sent it."""
    pause_s = _pause_s(retry_after)
    if status == HTTPStatus.UNAUTHORIZED:
        return Fault("asks for a login (status 401)", "unauthorized", status=status, hint="Use a URL that needs none.")
    if status == HTTPStatus.FORBIDDEN:
        hint = "Look whether the URL is still valid and open to everybody."
        return Fault("may not be fetched (status 403)", "forbidden", status=status, hint=hint)
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        hint = "Look at the URL: its path, its letters' case, and whether the file was moved."
        return Fault(f"is not there (status {status})", "not_found", status=status, hint=hint)
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        is_short = pause_s is None or pause_s <= MAX_PAUSE_S
        told = "" if is_short else f", for another {pause_s:.0f} s"
        text = f"has a host that takes no more requests now (status {status}{told})"
        return Fault(text, "busy", status=status, hint="Try again later.", may_pass=True, pause_s=pause_s)
    may_pass = status in {408, 425} or (status >= HTTPStatus.INTERNAL_SERVER_ERROR and status not in {501, 505})
    return Fault(f"answered with status {status}", "status", status=status, may_pass=may_pass)


_NETWORK: tuple[tuple[type[Exception], str, Reason, str | None, bool], ...] = (
    (aiohttp.ClientSSLError, "has a host to which no safe connection can be made", "unreachable", None, False),
    (aiohttp.InvalidURL, "is not a URL that can be read", "invalid_url", None, False),
    (
        aiohttp.ConnectionTimeoutError,
        "has a host that did not take the connection in time",
        "timeout",
        "DOWNLOAD_CONNECT_TIMEOUT_S sets the limit.",
        True,
    ),
    (TimeoutError, "has a host that stopped sending", "timeout", "DOWNLOAD_READ_TIMEOUT_S sets the limit.", True),
    (aiohttp.ClientResponseError, "answered with what is not HTTP", "unreachable", None, True),
    (ValueError, "is not a URL that can be read", "invalid_url", None, False),
)
"""What the network raises: the text, the reason, the hint, and whether it may pass; the first that fits counts."""


def network_fault(error: Exception) -> Fault:
    """Return what the network raised, without its text: much of aiohttp's shows the whole URL."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, AddressRefused):
        return Fault(f"leads to {cause.kind}, which is not fetched from", "refused", hint="Use a public host.")
    if isinstance(cause, socket.gaierror):
        may_pass = cause.errno == socket.EAI_AGAIN
        return Fault("has a host whose name is not found", "unreachable", may_pass=may_pass, hint="Look at the URL.")
    for kind, text, reason, hint, may_pass in _NETWORK:
        if isinstance(error, kind):
            return Fault(text, reason, hint=hint, may_pass=may_pass)
    return Fault("could not be read: the connection failed", "unreachable", may_pass=True)


def backoff(error: Exception) -> bool | float:
    """Tell stamina whether to try again, and when, if the host said it."""
    if not isinstance(error, Fault) or not error.may_pass:
        return False
    if error.pause_s is None:
        return True
    return error.pause_s if error.pause_s <= MAX_PAUSE_S else False


def _pause_s(text: str | None) -> float | None:
    """Return what a Retry-After header says: seconds, or a date."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(min(int(text.strip()[:9]), 10**6))
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max((at - datetime.now(UTC)).total_seconds(), 0.0)
