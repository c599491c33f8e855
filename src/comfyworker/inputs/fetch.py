"""Input files by URL, fetched under guard: a request chooses the URL, but not whom this machine speaks to.

The guard is that of `outbound.sessions`. No error and no log event holds more of a URL than its host.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
from collections.abc import Collection, Iterator
from http import HTTPStatus

import aiohttp
import stamina
import structlog
from aiohttp.abc import AbstractResolver
from yarl import URL

from comfyworker.inputs.fetched import Fetched, FetchFault
from comfyworker.outbound.sessions import AddressRefused, guarded_session
from comfyworker.outbound.targets import TargetRefused, parse_target
from comfyworker.settings import InputSettings
from comfyworker.workflow.urls import shown_url

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_CHUNK_BYTES = 256 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LASTING: tuple[tuple[type[Exception], str, str], ...] = (
    (aiohttp.ClientSSLError, "has a host to which no safe connection can be made", "url_unreachable"),
    (aiohttp.InvalidURL, "is not a URL that can be read", "invalid_url"),
    (aiohttp.ConnectionTimeoutError, "has a host that did not take the connection in time", "url_timeout"),
    (TimeoutError, "has a host that stopped sending", "url_timeout"),
    (aiohttp.ClientResponseError, "answered with what is not HTTP", "url_unreachable"),
    (ValueError, "is not a URL that can be read", "invalid_url"),
)
"""What goes wrong again when tried again, by what the network raises: the reason and the problem's code."""


async def fetch_urls(
    urls: Collection[str], settings: InputSettings, *, resolver: AbstractResolver | None = None
) -> Fetched:
    """Return what lies at each URL, several fetched at once, each only once.

    Cancelling it ends all of them.

    Args:
        urls: http(s) URLs, as the request has them.
        settings: The limits: size, time, redirects, attempts, and whether private addresses are taken.
        resolver: Who resolves names; None takes the system's. What it answers is checked in any case.
    """
    data: dict[str, bytes] = {}
    faults: dict[str, FetchFault] = {}
    if not urls:
        return Fetched(data, faults)
    async with _session(settings, resolver) as session:
        fetcher = _Fetcher(session, settings)

        async def fetch(url: str) -> None:
            try:
                data[url] = await fetcher.fetch(url)
            except FetchFault as fault:
                faults[url] = fault

        async with asyncio.TaskGroup() as group:
            for url in dict.fromkeys(urls):
                group.create_task(fetch(url), name=f"fetch {shown_url(url)}")
    return Fetched(data, faults)


def _session(settings: InputSettings, resolver: AbstractResolver | None) -> aiohttp.ClientSession:
    return guarded_session(
        allow_private=settings.allow_private_urls,
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=settings.url_connect_timeout_s, sock_read=settings.url_read_timeout_s
        ),
        resolver=resolver,
    )


class _Fetcher:
    """Fetches the URLs of one job."""

    def __init__(self, session: aiohttp.ClientSession, settings: InputSettings) -> None:
        self._session = session
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.url_parallel)
        self._held_bytes = 0
        """How much all files of the job have brought so far."""

    async def fetch(self, url: str) -> bytes:
        """Return what lies at `url`, asked again while its host fails; raises FetchFault."""
        target = _parsed(url)
        limit_s = self._settings.url_timeout_s
        async with self._slots:
            try:
                async with asyncio.timeout(limit_s):
                    data = await self._fetch_again(target)
            except TimeoutError:
                raise FetchFault(
                    f"was not fetched within {limit_s:g} s",
                    code="url_timeout",
                    hint="INPUT_URL_TIMEOUT_S of the worker sets the limit.",
                ) from None  # Nothing in the chain tells more, and parts of it hold the whole URL.
        log.debug("inputs.fetched", url=shown_url(url), size_bytes=len(data))
        return data

    async def _fetch_again(self, url: URL) -> bytes:
        attempts = stamina.retry_context(
            on=_may_pass, attempts=self._settings.url_attempts, timeout=None, wait_initial=0.5, wait_jitter=0.5
        )
        async for attempt in attempts:
            with attempt:
                return await self._follow(url)
        raise AssertionError  # The last attempt returns or raises.

    async def _follow(self, url: URL) -> bytes:
        """Return what lies at `url`, or where it leads to."""
        for _ in range(self._settings.url_max_redirects + 1):
            with _translated():
                async with self._session.get(url, allow_redirects=False) as response:
                    if response.status not in _REDIRECTS:
                        _check_answer(response)
                        return await self._read(response)
                    location = response.headers.get("Location", "")
            url = _redirected(url, location)
        raise FetchFault(
            f"was redirected more than {self._settings.url_max_redirects} times",
            code="url_redirects",
            hint="INPUT_URL_MAX_REDIRECTS of the worker sets the limit.",
        )

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        limit = self._settings.max_file_bytes
        if (response.content_length or 0) > limit:
            raise _too_large(limit)
        # `getvalue` hands its buffer out, where joined chunks would need the memory twice.
        body = io.BytesIO()
        is_whole = False
        try:
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                self._held_bytes += body.write(chunk)
                if body.tell() > limit:
                    raise _too_large(limit)
                if self._held_bytes > self._settings.max_fetched_bytes:
                    raise _too_much(self._settings.max_fetched_bytes)
            is_whole = True
        finally:
            if not is_whole:
                self._held_bytes -= body.tell()
        if not body.tell():
            raise FetchFault("answered with an empty file", code="empty_file")
        return body.getvalue()


def _may_pass(error: Exception) -> bool:
    return isinstance(error, FetchFault) and error.may_pass


def _parsed(url: str, base: URL | None = None) -> URL:
    try:
        return parse_target(url, base)
    except TargetRefused as refused:
        raise FetchFault(
            refused.reason,
            code="invalid_url",
            hint="Use a presigned URL instead."
            if refused.has_credentials
            else "Give the whole URL of the file, http:// or https://, with special characters escaped.",
        ) from None  # The chain would show the URL.


def _redirected(url: URL, location: str) -> URL:
    """Return where a redirect leads to, held to the same rules as a URL of the request."""
    try:
        return _parsed(location, base=url)
    except FetchFault as fault:
        raise FetchFault(f"was redirected to what {fault.reason}", code="url_redirects") from fault


def _check_answer(response: aiohttp.ClientResponse) -> None:
    if response.status != HTTPStatus.OK:
        raise FetchFault(
            f"answered with status {response.status}",
            code="url_status",
            hint="Look whether the URL is right and still valid, and open to a reader without a login.",
            may_pass=response.status >= HTTPStatus.INTERNAL_SERVER_ERROR,
        )
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise FetchFault(
            "answered with a compressed body, although it was asked for none",
            code="url_compressed",
            hint="Store the file without Content-Encoding.",
        )


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Raise what the network raises as FetchFault, without its chain: much of aiohttp's errors shows the whole URL."""
    try:
        yield
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise _fault(error) from None


def _fault(error: Exception) -> FetchFault:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, AddressRefused):
        return FetchFault(
            f"leads to {cause.kind}, which is not fetched from",
            code="url_refused",
            hint="Give a URL that anybody can reach, or send the file as base64. "
            "ALLOW_PRIVATE_URLS of the worker opens private networks.",
        )
    if isinstance(cause, socket.gaierror):
        is_passing = cause.errno == socket.EAI_AGAIN
        return FetchFault("has a host whose name is not found", code="url_unreachable", may_pass=is_passing)
    for kinds, reason, code in _LASTING:
        if isinstance(error, kinds):
            return FetchFault(reason, code=code)
    return FetchFault("could not be read: the connection failed", code="url_unreachable", may_pass=True)


def _too_large(limit: int) -> FetchFault:
    return FetchFault(
        f"holds more than the {limit} bytes that one file may have",
        code="file_too_large",
        hint="INPUT_MAX_BYTES of the worker sets the limit.",
    )


def _too_much(limit: int) -> FetchFault:
    return FetchFault(
        f"holds more than is left of the {limit} bytes that all files by URL may have together",
        code="file_too_large",
        hint="INPUT_URLS_MAX_BYTES of the worker sets the limit.",
    )
