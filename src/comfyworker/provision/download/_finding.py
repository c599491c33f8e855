"""Which source an address means."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiohttp
from pydantic import SecretStr
from yarl import URL

from comfyworker.delivery.store import StoreFault, StoreLocation, Stores, find_bucket, read_fault, read_url
from comfyworker.errors import InvalidSettings
from comfyworker.provision.download import _civitai
from comfyworker.provision.download._answers import Facts
from comfyworker.provision.download._faults import Fault, Reason
from comfyworker.provision.download._files import local_path
from comfyworker.provision.download._hub import HubSource, endpoint_of, find_hub_file
from comfyworker.provision.download._source import Body, Source
from comfyworker.provision.download._web import Credential, Habits, WebSource
from comfyworker.provision.download.filenames import name_in_path
from comfyworker.settings import ProvisionSettings

_SIGNED_FOR_S = 6 * 3600
_BUCKETS = frozenset({"s3", "r2"})
_LEFT_TO_TOKEN = 401


@dataclass(frozen=True)
class Ground:
    """What sources are made of."""

    session: aiohttp.ClientSession
    stores: Stores
    settings: ProvisionSettings
    is_guarded: bool


class HubFileSource:
    """A file of the Hub: huggingface_hub says what it is, and the web source fetches it at its commit."""

    def __init__(self, hub: HubSource, ground: Ground) -> None:
        """Fetch what `hub` describes."""
        self._hub = hub
        self._ground = ground
        self._web: WebSource | None = None

    async def resolve(self) -> Facts:
        """Return what the Hub says of the file, and whether the host of its bytes takes ranges."""
        url, told = await self._hub.look()
        credential = _credential(self._hub.token, {str(URL(url).origin())})
        habits = Habits(credential, is_guarded=self._ground.is_guarded, explain=self._explain)
        self._web = WebSource(self._ground.session, _always(url), habits)
        found = await self._web.resolve()
        if told.size_bytes is not None and found.size_bytes not in {None, told.size_bytes}:
            text = f"has {found.size_bytes} bytes at its host, and {told.size_bytes} at the Hub"
            raise Fault(text, "wrong_size", may_pass=True)
        # The commit names the content, whatever the hosts of the bytes have for an ETag.
        return replace(
            told,
            size_bytes=told.size_bytes if told.size_bytes is not None else found.size_bytes,
            takes_ranges=found.takes_ranges,
            ends_by_itself=found.ends_by_itself,
        )

    def open(self, facts: Facts, stretch: tuple[int, int] | None) -> AbstractAsyncContextManager[Body]:
        """Open a stretch of the file, or all of it."""
        if self._web is None:
            raise AssertionError  # resolve came before.
        return self._web.open(facts, stretch)

    def _explain(self, status: int, headers: Mapping[str, str], _text: str) -> Fault | None:
        return self._hub.meaning(status, headers.get("X-Error-Code", ""), headers.get("X-Error-Message", ""))


def local_file(url: str, *, is_guarded: bool) -> Path | None:
    """Return the file of this machine that an address means; None if it means none; raises Fault."""
    path = local_path(url)
    if path is not None and is_guarded:
        raise Fault("is not fetched: only http:// and https:// are", "refused")
    return path


def find_source(url: str, ground: Ground) -> tuple[Source, Callable[[], str]]:
    """Return the source that an address means, and what gives the file a name where the source gives none.

    Raises:
        Fault: it means nothing that can be fetched.
    """
    try:
        scheme = urlsplit(url.strip()).scheme
        hub_file = find_hub_file(url, endpoint_of(ground.settings))
    except ValueError:
        raise Fault("is not a URL that can be read", "invalid_url") from None
    if hub_file is not None:
        hub = HubSource(hub_file, ground.settings, is_guarded=ground.is_guarded)
        return HubFileSource(hub, ground), lambda: name_in_path(hub_file.path)
    if scheme in _BUCKETS and not ground.is_guarded:
        _, key = split_bucket_url(url)
        return _bucket_source(url, ground), lambda: name_in_path(key)
    if scheme not in {"http", "https"}:
        known = "https://, http://" if ground.is_guarded else "http(s)://, hf://, s3://, r2://, file:// or a path"
        text = f"has the scheme '{scheme[:20]}', which is not fetched from"
        raise Fault(text, "invalid_url", hint=f"Give {known}.")
    if _civitai.is_civitai(url):
        return _civitai_source(url, ground), lambda: name_in_path("")
    web = WebSource(ground.session, _always(url), Habits(is_guarded=ground.is_guarded, explain=_explain_web))
    return web, lambda: name_in_path(urlsplit(url).path)


def split_bucket_url(url: str) -> tuple[str, str]:
    """Return the bucket and the key of `s3://bucket/key`.

    Raises:
        Fault: it names no bucket.
    """
    parts = urlsplit(url.strip())
    if not parts.netloc or "@" in parts.netloc or ":" in parts.netloc:
        raise Fault("names no bucket", "invalid_url", hint=f"Write {parts.scheme}://bucket/folder/file.safetensors.")
    # A `?` or `#` of a key must be escaped; an S3 key may hold almost everything.
    return parts.netloc, unquote(parts.path).lstrip("/")


def locate_bucket(url: str, stores: Stores) -> tuple[StoreLocation, str]:
    """Return where a bucket is, and the key that an address names in it.

    Raises:
        Fault: it cannot be told where the bucket is.
    """
    bucket, key = split_bucket_url(url)
    try:
        return find_bucket(stores.settings, bucket, is_r2=urlsplit(url.strip()).scheme == "r2"), key
    except InvalidSettings as error:
        raise Fault(f"cannot be read: {error.message}", "invalid_url", hint=error.hint) from None


def store_fault(fault: StoreFault, *, status: int | None = None) -> Fault:
    """Return what a storage's refusal means for one file."""
    reason: Reason = "unreachable"
    if fault.code == "NoSuchKey" or status == 404:
        reason = "not_found"
    elif status in {401, 403} or fault.code == "AccessDenied":
        reason = "forbidden"
    return Fault(f"cannot be read: {fault.reason}", reason, hint=fault.hint, status=status, may_pass=fault.may_pass)


def _bucket_source(url: str, ground: Ground) -> Source:
    """Return an object of a bucket as a file on the web, by URLs that are signed for a time."""
    location, key = locate_bucket(url, ground.stores)
    if not key or key.endswith("/"):
        raise Fault(
            "names no object in the bucket", "invalid_url", hint="Add its key, as s3://bucket/vae/x.safetensors."
        )

    async def begin() -> str:
        try:
            return await read_url(ground.stores, location, key, expires_s=_SIGNED_FOR_S)
        except StoreFault as fault:
            raise store_fault(fault) from None

    def explain(status: int, _headers: Mapping[str, str], text: str) -> Fault | None:
        if status in {412, 416, 429} or status >= 500:
            return None
        return store_fault(read_fault(status, text, location), status=status)

    return WebSource(ground.session, begin, Habits(explain=explain))


def _civitai_source(url: str, ground: Ground) -> Source:
    token = ground.settings.civitai_token
    habits = Habits(
        _credential(token, {*_civitai.ORIGINS, *_own_port(url)}),
        is_guarded=ground.is_guarded,
        explain=functools.partial(_civitai.explain, has_token=token is not None),
        check_redirect=functools.partial(_civitai.check_redirect, has_token=token is not None),
    )
    return WebSource(ground.session, _always(_civitai.download_url(url)), habits)


def _own_port(url: str) -> set[str]:
    """Return the origin of an https URL whose host is known, whatever its port."""
    parsed = URL(url)
    return {str(parsed.origin())} if parsed.scheme == "https" else set()


def _credential(token: SecretStr | None, origins: set[str]) -> Credential | None:
    return None if token is None or not token.get_secret_value() else Credential(token, frozenset(origins))


def _explain_web(status: int, headers: Mapping[str, str], _text: str) -> Fault | None:
    """Return what a refusal of a host means that nothing is known of."""
    if status == _LEFT_TO_TOKEN and "WWW-Authenticate" in headers:
        hint = "Tokens are sent to Hugging Face and Civitai only; put what another host needs into the URL itself."
        return Fault("asks for a login (status 401)", "unauthorized", status=status, hint=hint)
    return None


def _always(url: str) -> Callable[[], Awaitable[str]]:
    async def begin() -> str:
        return url

    return begin
