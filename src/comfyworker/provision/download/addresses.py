"""What of a model's address may be shown, and kept."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

_SECRET_WORDS = ("token", "key", "secret", "password", "sig", "credential", "auth", "policy", "expires", "x-amz-")
_SECRET_EXACT = frozenset({"se", "sp", "sv", "sr", "st", "spr", "skoid", "sktid", "skt", "ske", "sks", "skv"})
"""Fields of Azure's signed URLs."""


def shown_source(url: str) -> str:
    """Return what people may see of a model's address: no query, no user or password; of a path, the file's name."""
    if "://" not in url:
        return f"the file '{url.rstrip('/').rpartition('/')[2]}'"
    try:
        parts = urlsplit(url.strip())
        host = parts.hostname or ""
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return "a URL"
    if parts.scheme == "file":
        return f"the file '{parts.path.rstrip('/').rpartition('/')[2]}'"
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{port}{parts.path}"


def plain_url(url: str) -> str:
    """Return an address without user, password, and those fields of its query that are secret or pass away.

    Two addresses of one file that differ in their tokens only are equal then; `Receipt.url` is of this kind.
    """
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url.strip())
        _ = parts.port
    except ValueError:
        return shown_source(url)
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if not _is_secret(name)]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip(), urlencode(kept), ""))


def _is_secret(name: str) -> bool:
    lowered = name.lower()
    return lowered in _SECRET_EXACT or any(word in lowered for word in _SECRET_WORDS)
