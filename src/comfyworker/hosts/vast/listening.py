"""Where a worker on Vast.ai listens: one port on all addresses, with the instance's certificate or without."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING

from comfyworker.errors import InvalidSettings, Problem
from comfyworker.hosts.http.listening import listen
from comfyworker.settings import VastSettings

if TYPE_CHECKING:
    from pathlib import Path

_NO_PASSWORD = ""  # or OpenSSL would ask the terminal for one
ALL_ADDRESSES = "0.0.0.0"  # noqa: S104  # requests come from outside, and are signed


@contextlib.contextmanager
def bind(settings: VastSettings) -> Iterator[socket.socket]:
    """Listen on WORKER_PORT.

    Raises:
        InvalidSettings: the port is not free.
    """
    try:
        bound = listen(ALL_ADDRESSES, settings.worker_port)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        message = f"the worker cannot listen on port {settings.worker_port}: {reason}"
        raise InvalidSettings(
            message,
            hint="End what listens there, or name another port that the template opens with WORKER_PORT.",
            problems=[Problem(message=message, code="cannot_listen", path="WORKER_PORT")],
        ) from error
    with contextlib.closing(bound):
        yield bound


def check_certificate(settings: VastSettings) -> tuple[Path, Path] | None:
    """Return the files of the certificate and of its key, which fit each other; None where http is served. Blocks.

    Raises:
        InvalidSettings: one is not there, or they are of no use.
    """
    if not settings.use_ssl:
        return None
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            settings.certificate,
            settings.certificate_key,
            password=_NO_PASSWORD,
        )
    except OSError as error:  # ssl.SSLError is one
        is_there = settings.certificate.is_file() and settings.certificate_key.is_file()
        reason = "is not there" if not is_there else f"cannot be used: {error.strerror or type(error).__name__}"
        message = f"the instance's certificate or its key {reason}"
        raise InvalidSettings(
            message,
            hint="Vast puts them into /etc; VAST_CERTIFICATE and VAST_CERTIFICATE_KEY name other files, and "
            "USE_SSL=false serves http.",
            problems=[Problem(message=message, code="invalid_certificate", path="USE_SSL")],
        ) from error
    return settings.certificate, settings.certificate_key
