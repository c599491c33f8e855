"""Where a request's models are: `models`, a list of `{"url", "destination", "filename"?, "sha256"?, "size"?}`.

The keys are those of a model in config.yml, with `folder` as another word for `destination`.
"""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from comfyworker.dialects._fields import Fields
from comfyworker.jobs import ModelOffer
from comfyworker.provision.config.destinations import WrongDestination, resolve_destination

_KEYS = ("url", "destination", "folder", "filename", "sha256", "size")
_SHA256 = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")
_NO_NAME = re.compile(r"[/\\\x00-\x1f]")
_MOST = 100


def read_models(fields: Fields, warnings: list[str]) -> tuple[ModelOffer, ...]:
    """Return the models; what is wrong is added to the problems, keys that nobody knows to `warnings`."""
    entries = fields.entries("models")
    if len(entries) > _MOST:
        fields.add("models", f"must be {_MOST} at most, there are {len(entries)}", "invalid_value")
        return ()
    offers = []
    for entry in entries:
        before = len(fields.problems)
        url, destination, filename = _url(entry), _destination(entry), _filename(entry)
        sha256, size_bytes = _sha256(entry), entry.whole_number("size")
        if size_bytes is not None and size_bytes <= 0:
            entry.add("size", "must be a positive number of bytes", "invalid_value")
        if url is not None and filename is None and len(fields.problems) == before:
            filename = _name_in(url)
            if not filename:
                entry.add("filename", "is missing: the URL does not end with a file's name", "missing_filename")
        warnings += entry.unknown_keys(_KEYS, where=entry.path("")[:-1])
        if len(fields.problems) == before and url and destination and filename:
            offers.append(
                ModelOffer(url=url, destination=destination, filename=filename, sha256=sha256, size_bytes=size_bytes)
            )
    return tuple(offers)


def _url(entry: Fields) -> str | None:
    url = entry.text("url")
    if url is None:
        if entry.given.get("url") is None:
            entry.add("url", "is missing", "missing_url")
        return None
    try:
        parts = urlsplit(url.strip())
        is_whole = bool(parts.hostname) and parts.port is not False
    except ValueError:
        parts, is_whole = None, False
    # What was sent is never repeated: it may hold a token.
    if parts is None or parts.scheme not in ("http", "https", "hf") or not is_whole:
        entry.add("url", "must be a URL that begins with https://, http:// or hf://", "invalid_url")
    elif parts.username is not None or parts.password is not None:
        entry.add("url", "has a user name or password in it, which is not taken", "invalid_url")
    return url.strip()


def _destination(entry: Fields) -> str | None:
    named = [key for key in ("destination", "folder") if entry.given.get(key) is not None]
    if len(named) != 1:
        what = "and folder mean the same: send one of them" if named else "is missing, as loras or loras/wan"
        entry.add("destination", what, "two_destinations" if named else "missing_destination")
        return None
    written = entry.text(named[0])
    if written is None:
        return None
    try:
        return resolve_destination(written)
    except WrongDestination as wrong:
        entry.add(named[0], str(wrong), "invalid_destination")
        return None


def _filename(entry: Fields) -> str | None:
    name = entry.text("filename")
    if name is not None and (not name.strip() or _NO_NAME.search(name) or name.startswith(".")):
        entry.add("filename", "must be a file's name alone; destination says the folder", "invalid_value")
    return name


def _sha256(entry: Fields) -> str | None:
    written = entry.text("sha256")
    if written is None:
        return None
    match = _SHA256.fullmatch(written.strip())
    if match is None:
        entry.add("sha256", "must be the 64 hexadecimal digits of a SHA-256", "invalid_value")
        return None
    return match.group(1).lower()


def _name_in(url: str) -> str | None:
    name = unquote(urlsplit(url).path.rstrip("/").rpartition("/")[2])
    return name if "." in name and not _NO_NAME.search(name) and not name.startswith(".") else None
