"""A proxy on this machine, through which a storage that a request brought is spoken to.

obstore resolves names by itself and follows redirects, a 303 after an upload for example, so a request's endpoint could
lead it to our neighbours. The proxy resolves each name once, looks at the address, and connects to just that.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
import socket
from urllib.parse import urlsplit

from comfyworker.delivery.store.faults import NOT_CONNECTED, Refusal, StoreFault, explain
from comfyworker.delivery.store.location import StoreLocation
from comfyworker.outbound.addresses import refusal

_HEAD_BYTES = 64 * 1024
_CHUNK_BYTES = 256 * 1024
_CONNECT_WITHIN_S = 30.0
_TOLD = f"<Error><Code>{NOT_CONNECTED}</Code></Error>".encode()
_NOT_CONNECTED = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(_TOLD), _TOLD)


class Guard:
    """Looks at where a request's endpoint leads to."""

    def __init__(self, *, allow_private: bool) -> None:
        """Let private addresses pass if `allow_private`; the addresses of a cloud's metadata never."""
        self._allow_private = allow_private
        self._password = secrets.token_urlsafe(18)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    async def check(self, location: StoreLocation) -> None:
        """Refuse an endpoint that leads to where no request may lead us, before anything is sent there.

        Raises:
            StoreFault: it does, or its name is not found.
        """
        parts = urlsplit(location.base_url)
        try:
            await self._address(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        except socket.gaierror:
            raise explain(Refusal(network="dns"), location) from None
        except _Refused as error:
            raise StoreFault(
                f"its host leads to {error.kind}, which a request may not have us speak to",
                hint="Give an endpoint that anybody can reach. "
                "ALLOW_PRIVATE_URLS of the worker opens private networks.",
            ) from None

    async def proxy_url(self) -> str:
        """Return the URL of the proxy, which is started when it is wanted first."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_HEAD_BYTES)
        port = self._server.sockets[0].getsockname()[1]
        # A password, so that nobody else on this machine can use the proxy.
        return f"http://comfyworker:{self._password}@127.0.0.1:{port}"

    async def stop(self) -> None:
        """End the proxy and all its connections."""
        if self._server is not None:
            self._server.close()
            for writer in tuple(self._writers):
                writer.transport.abort()
            await self._server.wait_closed()
            if self._serving:
                await asyncio.wait(self._serving)
            self._server = None

    async def _address(self, host: str, port: int) -> tuple[str, int]:
        """Return the first address of a host; raises _Refused if any of them is one that must not be asked."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(item[4][0]) for item in found]
        for address in addresses:
            reason = refusal(address, allow_private=self._allow_private)
            if reason is not None:
                raise _Refused(reason)
        return addresses[0], port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError, EOFError, ValueError, asyncio.LimitOverrunError, _Refused):
                async with asyncio.timeout(_CONNECT_WITHIN_S):
                    far_reader, far_writer = await self._connected(reader, writer)
                self._writers.add(far_writer)
                try:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(_relay(reader, far_writer), name="to a request's storage")
                        group.create_task(_relay(far_reader, writer), name="from a request's storage")
                finally:
                    self._writers.discard(far_writer)
                    far_writer.transport.abort()
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Read the head of a request to the proxy and do what it asks."""
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip("\r\n").split("\r\n")
        method, target, version = first.split(" ")
        expected = base64.b64encode(f"comfyworker:{self._password}".encode()).decode()
        if not any(_is_password(line, expected) for line in lines):
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            raise _Refused("without the password")
        if method == "CONNECT":
            parts = urlsplit(f"//{target}")
            far = await self._open(parts.hostname or "", parts.port or 443)
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            return far
        parts = urlsplit(target)
        try:
            far = await self._open(parts.hostname or "", parts.port or 80)
        except OSError:
            writer.write(_NOT_CONNECTED)
            await writer.drain()
            raise
        path = target.removeprefix(f"{parts.scheme}://").removeprefix(parts.netloc) or "/"
        kept = [line for line in lines if not line.lower().startswith(("proxy-", "connection:"))]
        # One request a connection: the next one's head would have to be read, too.
        head = "\r\n".join([f"{method} {path} {version}", *kept, "Connection: close", "", ""])
        far[1].write(head.encode("latin-1"))
        return far

    async def _open(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address, port = await self._address(host, port)
        return await asyncio.open_connection(address, port)


class _Refused(Exception):
    """A connection was not made because of where it would have led."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def _is_password(line: str, expected: str) -> bool:
    name, _, value = line.partition(":")
    return name.strip().lower() == "proxy-authorization" and secrets.compare_digest(value.strip(), f"Basic {expected}")


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
