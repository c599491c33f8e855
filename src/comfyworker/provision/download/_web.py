"""Files on web servers: redirects followed by hand, tokens shown to their own hosts only."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import aiohttp
from pydantic import SecretStr
from yarl import URL

from comfyworker.outbound.targets import TargetRefused, parse_target
from comfyworker.provision.download._answers import Facts, check_range, read_facts
from comfyworker.provision.download._faults import Fault, network_fault
from comfyworker.provision.download._source import Body

_MAX_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_DENIED = frozenset({400, 401, 403, 404, 410})
"""How hosts answer a signed URL whose time is over."""
_MAX_ERROR_BYTES = 4096


@dataclass(frozen=True)
class Credential:
    """A token, and whom it may be shown to."""

    token: SecretStr
    origins: frozenset[str]
    """`https://host`, with the port if it is not the scheme's own."""

    def headers_for(self, url: URL) -> dict[str, str]:
        """Return what shows the token to a URL's host; nothing if the token is none of its business."""
        if str(url.origin()) not in self.origins:
            return {}
        return {"Authorization": f"Bearer {self.token.get_secret_value()}"}


Explain = Callable[[int, Mapping[str, str], str], Fault | None]


@dataclass(frozen=True)
class Habits:
    """What is peculiar to a host."""

    credential: Credential | None = None
    is_guarded: bool = False
    explain: Explain = field(default=lambda _status, _headers, _text: None)
    """Called with the status, headers and beginning of an answer that is an error; None is the usual meaning."""
    check_redirect: Callable[[URL], None] = field(default=lambda _url: None)
    """Called with where a redirect leads to; raises Fault where that is no file."""


class WebSource:
    """A file at a URL, which may lead to another one that works for a time."""

    def __init__(
        self, session: aiohttp.ClientSession, begin: Callable[[], Awaitable[str]], habits: Habits | None = None
    ) -> None:
        """Fetch from what `begin` returns, which is asked again when that no longer works."""
        self._session = session
        self._begin = begin
        self._habits = habits or Habits()
        self._final: URL | None = None
        self._lock = asyncio.Lock()

    async def resolve(self) -> Facts:
        """Return what the answer to a request for the first byte says.

        Not HEAD: Civitai answers it with 401, and URLs that are signed for GET refuse it.
        """
        self._final = None
        async with self._first_byte() as response:
            return read_facts(response)

    @contextlib.asynccontextmanager
    async def open(self, facts: Facts, stretch: tuple[int, int] | None) -> AsyncIterator[Body]:
        """Open a stretch of the file, or all of it."""
        headers = {} if stretch is None else {"Range": f"bytes={stretch[0]}-{stretch[1] - 1}"}
        if stretch is not None and facts.if_range is not None:
            headers["If-Range"] = facts.if_range
        async with contextlib.AsyncExitStack() as stack:
            url = self._final or await self._resolved_again(None)
            response = await stack.enter_async_context(self._asked(url, headers))
            if response.status in _DENIED or response.status in _REDIRECTS:
                # A signed URL works for a time, and a long file takes longer.
                url = await self._resolved_again(url)
                response = await stack.enter_async_context(self._asked(url, headers))
            if response.status >= HTTPStatus.BAD_REQUEST:
                await self._explain(response)
            if stretch is not None:
                yield Body(response, check_range(response, facts, *stretch))
            else:
                now = read_facts(response)
                yield Body(response, now.size_bytes)

    async def _resolved_again(self, stale: URL | None) -> URL:
        """Return where the file is now; of several that ask at once, one asks the host."""
        async with self._lock:
            if self._final is None or self._final == stale:
                async with self._first_byte():
                    pass
            if self._final is None:
                raise AssertionError  # _first_byte has set it, or raised.
            return self._final

    @contextlib.asynccontextmanager
    async def _first_byte(self) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask for the first byte, wherever redirects lead to, and remember where that was."""
        url = self._parsed(await self._begin())
        for _ in range(_MAX_REDIRECTS + 1):
            async with self._asked(url, {"Range": "bytes=0-0"}) as response:
                if response.status not in _REDIRECTS:
                    if response.status >= HTTPStatus.BAD_REQUEST:
                        await self._explain(response)
                    self._final = url
                    yield response
                    return
                url = self._redirected(url, response.headers.get("Location", ""))
        raise Fault(f"was redirected more than {_MAX_REDIRECTS} times", "redirects")

    @contextlib.asynccontextmanager
    async def _asked(self, url: URL, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        shown = {} if self._habits.credential is None else self._habits.credential.headers_for(url)
        with translated():
            request = self._session.get(url, headers={**headers, **shown}, allow_redirects=False)
            response = await request.__aenter__()
        try:
            yield response
        finally:
            # What was not read is not waited for: the connection ends with it.
            response.release() if response.content.at_eof() else response.close()

    async def _explain(self, response: aiohttp.ClientResponse) -> None:
        """Raise what this host means with an error; return if the usual meaning holds."""
        with translated():
            text = (await response.content.read(_MAX_ERROR_BYTES)).decode("utf-8", "replace")
        fault = self._habits.explain(response.status, response.headers, text)
        if fault is not None:
            raise fault

    def _parsed(self, text: str, base: URL | None = None) -> URL:
        try:
            return parse_target(text, base, allow_credentials=not self._habits.is_guarded)
        except TargetRefused as refused:
            raise Fault(refused.reason, "invalid_url", hint="Give the whole URL, with http:// or https://.") from None

    def _redirected(self, url: URL, location: str) -> URL:
        try:
            target = self._parsed(location, base=url)
        except Fault as fault:
            raise Fault(f"was redirected to what {fault.text}", "redirects") from fault
        if url.scheme == "https" and target.scheme != "https":
            text = "was redirected from https to http, where anybody on the way could change it"
            raise Fault(text, "redirects")
        self._habits.check_redirect(target)
        return target


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise what the network raises as Fault, without its chain: much of aiohttp's errors shows the whole URL."""
    try:
        yield
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise network_fault(error) from None
