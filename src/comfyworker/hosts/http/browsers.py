"""Web pages that reach for the server through somebody's browser.

A server without keys on one's own machine would otherwise obey every page that is open there: a form needs no CORS to
post, and a name that a page's owner points at 127.0.0.1 passes for the page's own host.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from comfyworker.errors import Forbidden
from comfyworker.settings import HttpSettings

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@functools.lru_cache(maxsize=64)  # asked of a few names, twice for each request
def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_origin(method: str, headers: Mapping[str, str], settings: HttpSettings) -> None:
    """Let through what a person or a program sends; only servers without API_KEYS need it.

    Raises:
        Forbidden: a page of another origin sends it, or the host is not a name of this server.
    """
    if settings.api_keys:
        return
    host = headers.get("host", "")
    if is_loopback(settings.host) and not settings.allow_anybody and not _is_ours(host, settings):
        raise Forbidden(
            "the request's Host is not a name of this server",
            hint="Set PUBLIC_URL to the URL under which it is reached, or API_KEYS.",
        )
    origin = headers.get("origin")
    if method in _SAFE or origin is None or "*" in settings.cors_origins or origin in settings.cors_origins:
        return
    if urlsplit(origin).netloc != host:
        raise Forbidden("a web page of another origin may not do this", hint="CORS_ORIGINS lists the pages that may.")


def _is_ours(host: str, settings: HttpSettings) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    return is_loopback(name) or (settings.public_url is not None and name == urlsplit(settings.public_url).hostname)
