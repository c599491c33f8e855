"""HTTP sessions for URLs that a request brings: it chooses the URL, but not whom this machine speaks to.

The guard stands where a socket is made: there the address is final, whatever the URL's spelling, a redirect or a second
answer of the name server led to.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from comfyworker.deferred import aiohttp
from comfyworker.outbound.addresses import refusal

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver

_Target = tuple[int, int, int, str, tuple[object, ...]]
"""What `socket.getaddrinfo` tells of one address."""
_HEADERS = {
    # Compressed bodies are neither wanted nor taken, so nothing can unfold into more than was counted.
    "Accept-Encoding": "identity",
    "User-Agent": "comfyworker",
}


class AddressRefused(OSError):
    """A connection was not made because of where it would have led."""

    def __init__(self, kind: str) -> None:
        """Keep what sort of address it was."""
        # The text is always the same: only then are several refusals of one host raised as the first of them.
        super().__init__("address refused")
        self.kind = kind


def guarded_sockets(*, allow_private: bool) -> Callable[[_Target], socket.socket]:
    """Return what makes a connector's sockets, and raises AddressRefused where one would lead to a refused address.

    Args:
        allow_private: Take the addresses of this machine and of private networks.
    """

    def guarded_socket(target: _Target) -> socket.socket:
        family, kind, protocol, _, address = target
        reason = refusal(str(address[0]), allow_private=allow_private)
        if reason is not None:
            raise AddressRefused(reason)
        return socket.socket(family, kind, protocol)

    return guarded_socket


def guarded_session(
    *, allow_private: bool, timeout: aiohttp.ClientTimeout, resolver: AbstractResolver | None = None
) -> aiohttp.ClientSession:
    """Return a session, to be closed by the caller, whose every connection is looked at before it is made.

    It keeps no cookies and no connections, asks no proxy, and unpacks nothing. Redirects are the caller's: each is a
    request of its own. A refused address is raised as AddressRefused within an aiohttp.ClientConnectorError.

    Args:
        allow_private: Take the addresses of this machine and of private networks.
        timeout: How long each phase may take.
        resolver: Who resolves names; None takes the system's. What it answers is checked in any case.
    """
    connector = aiohttp.TCPConnector(
        resolver=resolver or aiohttp.ThreadedResolver(),
        socket_factory=guarded_sockets(allow_private=allow_private),
        use_dns_cache=False,
        force_close=True,  # So that each request makes a socket of its own, which is checked.
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        headers=_HEADERS,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,  # A proxy would resolve the name itself, past the guard.
    )
