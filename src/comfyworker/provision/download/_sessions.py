"""The HTTP session that files are fetched with."""

from __future__ import annotations

import ssl

import aiohttp
from aiohttp.abc import AbstractResolver

from comfyworker._version import __version__
from comfyworker.finishing import in_thread
from comfyworker.outbound.sessions import guarded_sockets
from comfyworker.settings import ProvisionSettings

_READ_BYTES = 256 * 1024
_HEADERS = {
    # A body that was compressed on the way has other ranges than the file.
    "Accept-Encoding": "identity",
    "Accept": "*/*",
    "User-Agent": f"comfyworker/{__version__}",
}


async def open_session(
    settings: ProvisionSettings,
    *,
    is_guarded: bool,
    allow_private: bool = False,
    resolver: AbstractResolver | None = None,
) -> aiohttp.ClientSession:
    """Return a session, to be closed by the caller, which keeps connections and no cookies, and unpacks nothing.

    Args:
        settings: How long each phase may take.
        is_guarded: Connect to public addresses only, and through no proxy: somebody else chose the URL.
        allow_private: Under guard, connect to addresses of this machine and of private networks, too.
        resolver: Who resolves names; None takes the system's.
    """
    # Reading the system's certificates takes tens of milliseconds.
    context = await in_thread(ssl.create_default_context)
    connector = aiohttp.TCPConnector(
        ssl=context,
        limit=0,  # The transfers count their connections themselves.
        resolver=resolver or aiohttp.ThreadedResolver(),
        socket_factory=guarded_sockets(allow_private=allow_private) if is_guarded else None,
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=settings.connect_timeout_s, sock_read=settings.read_timeout_s
        ),
        headers=_HEADERS,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=not is_guarded,
        read_bufsize=_READ_BYTES,
    )
