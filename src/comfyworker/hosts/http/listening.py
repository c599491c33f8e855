"""Where the server listens, and who reaches it there."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from comfyworker.errors import InvalidSettings, Problem
from comfyworker.hosts.http.browsers import is_loopback
from comfyworker.settings import HttpSettings

_BACKLOG = 2048
_ALL_ADDRESSES = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # where this machine finds one that has all


@contextlib.contextmanager
def bind(settings: HttpSettings) -> Iterator[socket.socket]:
    """Take the address and port that the settings name, before anything else is started.

    Raises:
        InvalidSettings: they are not free, there are none such, or others would reach them without a key.
    """
    check_exposure(settings)
    try:
        bound = listen(settings.host, settings.port)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        message = f"the server cannot listen on {settings.host}, port {settings.port}: {reason}"
        raise InvalidSettings(
            message,
            hint="Name others with --host and --port (SERVE_HOST, SERVE_PORT); port 0 takes a free one.",
            problems=[Problem(message=message, code="cannot_listen", path="SERVE_PORT")],
        ) from error
    with contextlib.closing(bound):
        yield bound


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        OSError: the address or the port is not free, or there are none such.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    # Not socket.create_server: its sockets know no protocol, asyncio then leaves Nagle's algorithm on, and each answer
    # waits 40 ms for the acknowledgement of its head.
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
        bound.listen(_BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound


def check_exposure(settings: HttpSettings) -> None:
    """See that nobody serves the whole network by accident.

    Raises:
        InvalidSettings: other machines would reach the server, there are no keys, and nobody said that this is meant.
    """
    if settings.api_keys or settings.allow_anybody or is_loopback(settings.host):
        return
    message = f"{settings.host} is reached by other machines, and there are no API_KEYS: anybody could run workflows"
    raise InvalidSettings(
        message,
        hint="Set API_KEYS, or listen on 127.0.0.1; SERVE_WITHOUT_KEYS=true if something in front checks who asks.",
        problems=[Problem(message=message, code="no_api_keys", path="API_KEYS")],
    )


def url_of(bound: socket.socket) -> str:
    """Return the URL under which this machine reaches the socket."""
    host, port = bound.getsockname()[:2]
    host = _ALL_ADDRESSES.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
