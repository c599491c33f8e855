"""Who a worker is for Vast.ai: its number, the URL that clients reach it by, and whom it reports to."""

from __future__ import annotations

import ipaddress

from pydantic import BaseModel, ConfigDict, SecretStr
from yarl import URL

from comfyworker.errors import InvalidSettings, Problem
from comfyworker.settings import VastSettings

_TAKES_NO_DELETES = "https://cloud.vast.ai/api/v0"
"""An address that Vast hands out beside its autoscaler's; wire source: the SDK's `Metrics`, which passes it over."""


class Place(BaseModel):
    """What Vast knows a worker by."""

    model_config = ConfigDict(frozen=True)

    id: int
    url: str
    report_addresses: tuple[str, ...]
    """Where reports go: to the first that takes them. Without slashes at their ends."""
    token: SecretStr

    @property
    def delete_addresses(self) -> tuple[str, ...]:
        """Those of the addresses that are told of ended requests."""
        return tuple(address for address in self.report_addresses if address != _TAKES_NO_DELETES)

    def is_another(self, url: str) -> bool:
        """Return whether `url` is known to lead to another worker than this one.

        The scheme says nothing: whoever speaks http to our https port comes no further. A host's name says nothing
        either, where ours is an address (or the other way round): it may be this machine's.
        """
        ours, theirs = _where(self.url), _where(url)
        if theirs is None or ours is None:
            return theirs is None
        (our_host, our_port), (their_host, their_port) = ours, theirs
        if our_host == their_host:
            return our_port != their_port
        return _is_address(our_host) and _is_address(their_host)


def _where(url: str) -> tuple[str, int] | None:
    """Return the host and port that a URL leads to; None if it leads nowhere."""
    try:
        parsed = URL(url)
        host, port = parsed.host, parsed.port
    except ValueError:
        return None
    if parsed.scheme not in {"http", "https"} or not host or port is None:
        return None
    return (str(ipaddress.ip_address(host)) if _is_address(host) else host.lower()), port


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def find_place(settings: VastSettings) -> Place | None:
    """Return who this worker is for Vast; None on a machine of one's own, where nobody is reported to.

    That is one where requests need not be signed (UNSECURED) and no REPORT_ADDR is given.

    Raises:
        InvalidSettings: variables that Vast sets are missing; names all of them.
    """
    if settings.unsecured and not settings.report_addresses:
        return None
    needed = {
        "REPORT_ADDR": settings.report_addresses or None,
        "CONTAINER_ID": settings.container_id,
        "PUBLIC_IPADDR": settings.public_ip,
        f"VAST_TCP_PORT_{settings.worker_port}": settings.public_port,
    }
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        raise InvalidSettings(
            f"no worker of Vast.ai runs here: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set",
            hint="Vast sets these on its instances, VAST_TCP_PORT_<WORKER_PORT> for each port that the template opens. "
            "Elsewhere `comfyworker serve` is the server to start, or UNSECURED=true for a trial without Vast.",
            problems=[Problem(message=f"{name} is not set", path=name, code="missing_value") for name in missing],
        )
    host = f"[{settings.public_ip}]" if ":" in (settings.public_ip or "") else settings.public_ip
    return Place(
        id=settings.container_id or 0,
        url=f"http{'s' if settings.use_ssl else ''}://{host}:{settings.public_port}",
        report_addresses=settings.report_addresses,
        token=settings.master_token or SecretStr(""),  # The SDK reports without one, too.
    )
