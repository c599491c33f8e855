"""What every route needs: the service, who asks, and URLs of this server."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, cast
from urllib.parse import quote, urlsplit

from starlette.requests import Request

from comfyworker.hosts.http.auth import ApiKeys
from comfyworker.hosts.http.signing import UrlSigner
from comfyworker.hosts.worker import Worker
from comfyworker.service import JobService
from comfyworker.settings import Settings


def _no_reason() -> str | None:
    return None


@dataclass(frozen=True)
class HostContext:
    """What a running server consists of; one for all requests."""

    settings: Settings
    service: JobService
    worker: Worker
    keys: ApiKeys
    signer: UrlSigner
    worker_id: str
    """This process's name in answers that have one."""
    started_at: float = field(default_factory=time.time)
    """Unix seconds."""
    reason_to_wait: Callable[[], str | None] = _no_reason
    """Tells why no job is taken yet, although a ComfyUI may be ready."""


class SignedUrl(NamedTuple):
    """A URL that anybody who has it may read, for a while."""

    url: str
    expires_at: float
    """Unix seconds."""


def context_of(request: Request) -> HostContext:
    """Return the server that `request` came to."""
    return cast("HostContext", request.app.state.context)  # starlette's state has no types


async def owner_of(request: Request) -> str:
    """Return whose request this is, by its API key; `""` where no keys are set. A dependency of every route but few.

    Raises:
        Unauthorized: a key is needed, and this is none of ours.
    """
    return context_of(request).keys.owner_of(request.headers.get("authorization"))


def base_url_of(request: Request) -> str:
    """Return the URL under which the client reaches this server, without a slash at its end."""
    return context_of(request).settings.http.public_url or str(request.base_url).rstrip("/")


def path_of(request: Request, path: str) -> str:
    """Return where a path of ours is on the host that the client asks: PUBLIC_URL may lead below one of its paths."""
    public_url = context_of(request).settings.http.public_url
    root = urlsplit(public_url).path if public_url else str(request.scope.get("root_path", ""))
    return root.rstrip("/") + path


def url_for_asset(request: Request, asset_id: str, name: str, *, until: float | None = None) -> SignedUrl:
    """Return a signed URL for a file of the service.

    Args:
        request: Its Host header says where the client reaches us, unless PUBLIC_URL does.
        asset_id: The asset.
        name: The file's name, for the URL's end; it decides nothing.
        until: When the file goes (Unix seconds), if the URL would work longer.
    """
    context = context_of(request)
    lasts_s = context.settings.http.artifact_url_expires_s
    return sign_asset(context.signer, base_url_of(request), asset_id, name, lasts_s=lasts_s, until=until)


def sign_asset(
    signer: UrlSigner, base_url: str, asset_id: str, name: str, *, lasts_s: float, until: float | None = None
) -> SignedUrl:
    """Return a signed URL below `base_url` for a file of the service; it works for `lasts_s`, or to `until`."""
    expires_at = float(int(time.time() + lasts_s))
    if until is not None:
        expires_at = min(expires_at, until)
    token = signer.token(asset_id, expires_at=expires_at)
    return SignedUrl(f"{base_url}/artifacts/{token}/{quote(name, safe='')}", expires_at)
