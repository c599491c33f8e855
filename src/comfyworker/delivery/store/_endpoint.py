"""What the text of an endpoint says: which storage, where its bucket is, which region."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import SplitResult, unquote, urlsplit

from comfyworker.delivery.store.kinds import StoreKind


@dataclass(frozen=True)
class Endpoint:
    """An endpoint, taken apart."""

    kind: StoreKind
    base: str = ""
    """Scheme, host and port of the storage itself, without a bucket; for a folder, its path."""
    bucket: str | None = None
    bucket_place: Literal["host", "path"] | None = None
    prefix: str = ""
    """What the URL names below the bucket."""
    region: str | None = None
    """What the host says, or what this storage takes if nothing is said."""
    is_global: bool = False
    """Whether it is the endpoint of AWS that belongs to no region."""
    account: str | None = None
    """The storage account that an endpoint of Azure names."""

    @property
    def host(self) -> str:
        """The storage's host, without a port."""
        return urlsplit(self.base).hostname or "" if self.kind is not StoreKind.FILE else ""

    def in_region(self, region: str) -> Endpoint:
        """Return the endpoint of AWS that belongs to `region`, where this one belongs to none."""
        return replace(self, base=aws_base(region)) if self.is_global and region != "us-east-1" else self


def aws_base(region: str) -> str:
    """Return AWS's own endpoint for a region."""
    return f"https://s3.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"


def _provider(host: str, region: str | None = None) -> tuple[re.Pattern[str], str | None]:
    return re.compile(rf"(?:(?P<bucket>[a-z0-9][a-z0-9._-]*?)\.)?(?P<base>{host})"), region


_LABEL = r"(?P<region>[a-z0-9-]+)"
_AWS_REGION = r"(?P<region>[a-z]{2,3}(?:-[a-z]+){1,3}-\d)"
_AWS_GLOBAL = "s3.amazonaws.com"
_PROVIDERS = (
    _provider(rf"s3(?:-fips)?(?:\.dualstack)?[.-]{_AWS_REGION}\.amazonaws\.com(?:\.cn)?"),
    _provider(r"s3\.amazonaws\.com"),
    _provider(r"s3-accelerate(?:\.dualstack)?\.amazonaws\.com"),
    _provider(r"[0-9a-f]{32}(?:\.[a-z]+)?\.r2\.cloudflarestorage\.com", "auto"),
    _provider(rf"s3\.{_LABEL}\.backblazeb2\.com"),
    _provider(rf"{_LABEL}\.digitaloceanspaces\.com"),
    _provider(rf"s3\.{_LABEL}\.wasabisys\.com"),
    _provider(r"s3\.wasabisys\.com"),
    _provider(r"storage\.googleapis\.com", "auto"),
    _provider(rf"{_LABEL}\.linodeobjects\.com"),
    _provider(rf"s3\.{_LABEL}\.scw\.cloud"),
    _provider(rf"{_LABEL}\.vultrobjects\.com"),
    _provider(rf"{_LABEL}\.your-objectstorage\.com"),
    _provider(rf"s3\.{_LABEL}(?:\.io)?\.cloud\.ovh\.net"),
    _provider(r"(?:fly\.storage\.tigris\.dev|t3\.storage\.dev)", "auto"),
)
"""Hosts of storages that many use: where they have the bucket and the region, and the region if they have none."""
_BASE_PATHS = ("storage/v1/s3",)
"""Paths at which a storage serves S3 below its host; Supabase has this one."""
_SCHEMES = {
    "http": StoreKind.S3,
    "https": StoreKind.S3,
    "s3": StoreKind.S3,
    "gs": StoreKind.GCS,
    "gcs": StoreKind.GCS,
    "az": StoreKind.AZURE,
    "azure": StoreKind.AZURE,
    "abfs": StoreKind.AZURE,
    "file": StoreKind.FILE,
}
_AZURE_HOST = re.compile(r"([a-z0-9]{3,24})\.blob\.(?:core\.[a-z0-9.-]+|storage\.azure\.net)")
_AZURE_EMULATORS = {"az+http": "http", "az+https": "https"}
"""Schemes of servers that speak Azure's protocol below their own host, with the account in the path: Azurite."""
_ODD = re.compile(r"[\x00-\x20\x7f\\]")
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?|\[?[0-9a-f:.]+\]?")


def parse_endpoint(text: str, *, bucket: str | None = None) -> Endpoint:
    """Return what an endpoint says.

    Args:
        text: The endpoint as it was given; without a scheme, https is meant.
        bucket: The bucket, if it was given beside the endpoint: then its name is looked for in unknown hosts, too.

    Raises:
        ValueError: the endpoint cannot be used; says why, so that it reads on after the endpoint's name.
    """
    text = text.strip()
    text = text if "://" in text else f"https://{text.removeprefix('//')}"
    parts = _split(text)
    if parts.scheme in _AZURE_EMULATORS or _AZURE_HOST.fullmatch(parts.hostname or ""):
        return _azure(parts)
    kind = _SCHEMES.get(parts.scheme)
    if kind is None:
        message = f"has the scheme '{parts.scheme}', which is none of https, http, s3, gs, az and file"
        raise ValueError(message)
    if kind is StoreKind.FILE:
        return _folder(parts)
    if parts.scheme in {"http", "https"}:
        return _http(parts, bucket)
    names = _segments(parts.path)
    if not parts.netloc:
        message = f"names no bucket; write {parts.scheme}://bucket"
        raise ValueError(message)
    return Endpoint(
        kind,
        # The bucket's name as it is written: urlsplit makes a hostname's letters small.
        bucket=parts.netloc,
        bucket_place="path",
        prefix="/".join(names),
    )


def _split(text: str) -> SplitResult:
    unreadable = "is not a URL that can be read"
    if _ODD.search(text):
        raise ValueError(unreadable)
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError(unreadable) from None  # its text may hold the URL
    if "@" in parts.netloc:
        message = "has a user name or password in it; keys have settings of their own"
        raise ValueError(message)
    if parts.query or parts.fragment:
        message = "has a query or a fragment, which no endpoint has"
        raise ValueError(message)
    return parts


def _folder(parts: SplitResult) -> Endpoint:
    path = unquote(parts.path)
    if parts.netloc not in {"", "localhost"} or not path.startswith("/"):
        message = "must name a folder of this machine, as file:///folder"
        raise ValueError(message)
    return Endpoint(StoreKind.FILE, base=path)


def _azure(parts: SplitResult) -> Endpoint:
    names = _segments(parts.path)
    scheme = _AZURE_EMULATORS.get(parts.scheme)
    if scheme is None:
        account, base = (parts.hostname or "").partition(".")[0], f"https://{parts.netloc}"
    elif names:
        account = names.pop(0)
        base = f"{scheme}://{parts.netloc}/{account}"
    else:
        message = f"names no account; write {parts.scheme}://host/account/container"
        raise ValueError(message)
    place: Literal["path"] | None = "path" if names else None
    bucket = names.pop(0) if names else None
    return Endpoint(StoreKind.AZURE, base, bucket, place, "/".join(names), account=account)


def _http(parts: SplitResult, bucket: str | None) -> Endpoint:
    host = parts.hostname or ""
    if not _HOST.fullmatch(host):
        message = "is not a URL that can be read"
        raise ValueError(message)
    found, region = _known(host)
    is_named = bucket is not None and found is None and host.startswith(f"{bucket}.")
    if found is not None:
        base_host, in_host = found["base"], found["bucket"]
        region = found.groupdict().get("region") or region
    elif is_named and bucket is not None:
        base_host, in_host = host.removeprefix(f"{bucket}."), bucket
    else:
        base_host, in_host = host, None
    path = "/".join(_segments(parts.path))
    below = next((start for start in _BASE_PATHS if path == start or path.startswith(f"{start}/")), "")
    names = path.removeprefix(below).strip("/").split("/") if path != below else []
    in_path = None if in_host is not None or not names else names[0]
    return Endpoint(
        StoreKind.S3,
        base=f"{parts.scheme}://{_netloc(base_host, parts.port)}{f'/{below}' if below else ''}",
        bucket=in_host or in_path,
        bucket_place="host" if in_host is not None else "path" if in_path is not None else None,
        prefix="/".join(names if in_path is None else names[1:]),
        region=region,
        is_global=base_host == _AWS_GLOBAL and parts.port is None,
    )


def _known(host: str) -> tuple[re.Match[str] | None, str | None]:
    for pattern, region in _PROVIDERS:
        found = pattern.fullmatch(host)
        if found is not None:
            return found, region
    return None, None


def _netloc(host: str, port: int | None) -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"


def _segments(path: str) -> list[str]:
    names = [unquote(name) for name in path.split("/") if name]
    if any(name in {".", ".."} or "/" in name for name in names):
        message = "has a path that cannot be a bucket and its folder"
        raise ValueError(message)
    return names
