"""Buckets that are read: where one is, what is in it, and what its refusals mean to a reader."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, SecretStr

from comfyworker.delivery.store._endpoint import Endpoint, parse_endpoint
from comfyworker.delivery.store._sides import Side, given_text
from comfyworker.delivery.store._sigv4 import quote_key
from comfyworker.delivery.store.connecting import Stores
from comfyworker.delivery.store.faults import StoreFault, explain, read_refusal
from comfyworker.delivery.store.kinds import StoreKind
from comfyworker.delivery.store.location import DEFAULT_REGION, StoreLocation
from comfyworker.errors import InvalidSettings
from comfyworker.finishing import in_thread
from comfyworker.settings import StoreSettings

if TYPE_CHECKING:
    from obstore.store import AzureStore, GCSStore, S3Store

_AWS = "https://s3.amazonaws.com"
_LISTED_AT_ONCE = 1000


class StoredFile(BaseModel):
    """An object in a bucket."""

    model_config = ConfigDict(frozen=True)

    key: str
    size_bytes: int
    etag: str | None = None


def find_bucket(settings: StoreSettings, bucket: str, *, is_r2: bool = False) -> StoreLocation:
    """Return where a bucket of this name is, with the environment's keys if there are any.

    An `s3://` bucket is at the endpoint of BUCKET_…, else at that of R2_…, else at AWS; an `r2://` one is at R2's.
    Without keys it is read as anybody may.

    Raises:
        InvalidSettings: what the environment says cannot be used.
    """
    side = _reading_side(settings, is_r2=is_r2)
    endpoint = _endpoint(side)
    region = side.region or endpoint.region or DEFAULT_REGION
    endpoint = replace(endpoint, bucket=bucket, prefix="").in_region(region)
    if (side.access_key_id is None) != (side.secret_access_key is None):
        missing = "access_key_id" if side.access_key_id is None else "secret_access_key"
        raise side.wrong(missing, "is missing: both keys belong together")
    is_covered = "." not in bucket or endpoint.base.startswith("http://")
    addressing = settings.addressing
    if addressing == "auto":
        addressing = "host" if endpoint.bucket_place == "host" and is_covered else "path"
    return StoreLocation(
        kind=StoreKind.S3,
        endpoint=endpoint.base,
        bucket=bucket,
        addressing=addressing,
        region=region,
        connect_timeout_s=settings.connect_timeout_s,
        attempts=settings.attempts,
        is_r2_group=side.is_r2,
        access_key_id=_secret(side.access_key_id),
        secret_access_key=_secret(side.secret_access_key),
        session_token=_secret(side.session_token),
    )


async def read_url(stores: Stores, location: StoreLocation, key: str, *, expires_s: int) -> str:
    """Return a URL at which an object can be read for a time.

    Raises:
        StoreFault: the location cannot be connected to.
    """
    if location.is_anonymous:
        return f"{location.base_url}/{quote_key(key)}"
    return await (await stores.open(location)).url(key, expires_s=expires_s)


async def list_files(stores: Stores, location: StoreLocation, prefix: str) -> AsyncIterator[StoredFile]:
    """Yield the objects below a prefix, which is a folder; marks of empty folders are left out.

    Raises:
        StoreFault: they cannot be listed.
    """
    import obstore  # noqa: PLC0415  # heavy

    from comfyworker.delivery.store._obstore_faults import translated  # noqa: PLC0415  # brings obstore

    store = await in_thread(functools.partial(_connected, stores, location))
    folder = prefix.strip("/")
    with translated(location, is_reading=True):
        async for page in obstore.list(store, folder or None, chunk_size=_LISTED_AT_ONCE):
            for found in page:
                if not found["path"].endswith("/") and found["size"]:
                    yield StoredFile(key=found["path"], size_bytes=found["size"], etag=found.get("e_tag"))


def read_fault(status: int, body: str, location: StoreLocation) -> StoreFault:
    """Return what a refusal of a request to read means, of which `body` is the beginning of the answer."""
    return explain(read_refusal(body, status), location, is_reading=True)


def _connected(stores: Stores, location: StoreLocation) -> S3Store | GCSStore | AzureStore:
    from comfyworker.delivery.store._obstore_stores import make_store  # noqa: PLC0415  # brings obstore

    return make_store(location, stores.settings)


def _reading_side(settings: StoreSettings, *, is_r2: bool) -> Side:
    own = Side(
        endpoint_url=given_text(settings.endpoint_url),
        access_key_id=given_text(settings.access_key_id),
        secret_access_key=given_text(settings.secret_access_key),
        session_token=given_text(settings.session_token),
        region=given_text(settings.region),
    )
    r2 = Side(
        is_r2=True,
        endpoint_url=given_text(settings.r2_endpoint_url),
        access_key_id=given_text(settings.r2_access_key_id),
        secret_access_key=given_text(settings.r2_secret_access_key),
        region=own.region if own.endpoint_url is None else None,
    )
    if is_r2:
        if r2.endpoint_url is not None:
            return r2
        if own.endpoint_url is not None and ".r2.cloudflarestorage.com" in own.endpoint_url:
            return own
        raise r2.wrong("endpoint_url", "is not set, which an r2:// address needs")
    if own.endpoint_url is None and not own.has_keys and r2.endpoint_url is not None:
        return r2
    # Keys of another kind of storage mean nothing to S3.
    return own if _is_s3(own) else Side()


def _is_s3(side: Side) -> bool:
    return side.endpoint_url is None or _endpoint(side).kind is StoreKind.S3


def _endpoint(side: Side) -> Endpoint:
    if side.endpoint_url is None:
        return Endpoint(StoreKind.S3, base=_AWS, is_global=True)
    try:
        found = parse_endpoint(side.endpoint_url)
    except ValueError as error:
        problem: InvalidSettings = side.wrong("endpoint_url", str(error))  # type: ignore[assignment]  # no request's side
        raise problem from None  # the URL is not to be shown
    if not found.base and found.kind is StoreKind.S3:
        return replace(found, base=_AWS, is_global=True)
    return found


def _secret(text: str | None) -> SecretStr | None:
    return None if text is None else SecretStr(text)
