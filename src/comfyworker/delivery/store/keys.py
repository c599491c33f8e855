"""The keys under which a job's files are kept in object storage."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from comfyworker.errors import InvalidSettings, Problem
from comfyworker.jobs import Artifact

MAX_KEY_BYTES = 1024
"""The longest key that S3, Google and Azure take."""
_NAME_BYTES = 255
"""The longest name on the file systems in use, where outputs go into a folder, or where a client saves them."""
_EXTENSION_BYTES = 32
_MARK_BYTES = 12
_FIELDS = (
    "request_id",
    "filename",
    "stem",
    "extension",
    "node_id",
    "date",
    "year",
    "month",
    "day",
    "index",
)
_FIELD = re.compile(r"\{([a-z_]+)\}")
# Control characters, what breaks lines or turns the reading direction, half surrogate pairs, and other systems' slash.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\\]")


def check_template(template: str) -> None:
    """Say what is wrong with a template for keys, before a job needs it.

    Raises:
        InvalidSettings: it has a field that there is not, or a brace that belongs to none.
    """
    unknown = [name for name in _FIELD.findall(template) if name not in _FIELDS]
    rest = _FIELD.sub("", template)
    if unknown:
        message = f"BUCKET_KEY_TEMPLATE has the unknown field {{{unknown[0]}}}"
    elif "{" in rest or "}" in rest:
        message = "BUCKET_KEY_TEMPLATE has a brace that belongs to no field"
    elif not _FIELD.search(template):
        message = "BUCKET_KEY_TEMPLATE has no field, so that all files would have one key"
    else:
        return
    fields = ", ".join(f"{{{name}}}" for name in _FIELDS)
    raise InvalidSettings(
        message,
        hint=f"The fields are {fields}.",
        problems=[Problem(message=message, path="BUCKET_KEY_TEMPLATE", code="invalid_value")],
    )


def object_keys(
    artifacts: Sequence[Artifact],
    template: str,
    *,
    prefix: str,
    request_id: str,
    now: datetime,
    avoid: str = "",
) -> list[str]:
    """Return a key for each artifact, no two of them equal.

    Whatever the names are, a key stays below its prefix, has no empty or relative part and no control characters, and
    is short enough for every storage.

    Args:
        artifacts: The files, in the job's order.
        template: A template that `check_template` lets pass.
        prefix: The folder of all keys, with or without slashes around it; empty for none.
        request_id: The job's id.
        now: When the job is delivered.
        avoid: Characters that the storage cannot do with, though others can.
    """
    avoided = str.maketrans(dict.fromkeys(avoid, "_"))
    folder = [part for part in (_safe(part.translate(avoided)) for part in prefix.split("/")) if part]
    taken: set[str] = set()
    keys = []
    for index, artifact in enumerate(artifacts, start=1):
        values = _values(artifact, request_id=request_id, index=index, now=now.astimezone(UTC))
        parts = [_safe(_filled(part, values).translate(avoided)) for part in template.split("/")]
        folders = [*folder, *(part for part in parts[:-1] if part)]
        key = _free(_key(folders, parts[-1] or f"file-{index}"), taken)
        taken.add(key)
        keys.append(key)
    return keys


def _values(artifact: Artifact, *, request_id: str, index: int, now: datetime) -> Mapping[str, str]:
    stem, extension = _split(artifact.name)
    return {
        "request_id": request_id,
        "filename": artifact.name,
        "stem": stem,
        "extension": extension.removeprefix("."),
        "node_id": artifact.node_id,
        "date": f"{now:%Y-%m-%d}",
        "year": f"{now:%Y}",
        "month": f"{now:%m}",
        "day": f"{now:%d}",
        "index": str(index),
    }


def _filled(part: str, values: Mapping[str, str]) -> str:
    # A slash within a value makes no folder: an id or a node's file name must not choose where it goes.
    return _FIELD.sub(lambda match: values[match[1]].replace("/", "_"), part)


def _safe(part: str) -> str:
    cleaned = _UNSAFE.sub("_", part).strip()
    return "_" * len(cleaned) if not cleaned.strip(".") else cleaned


def _key(folders: Sequence[str], name: str) -> str:
    name = _cut_name(name)
    room = MAX_KEY_BYTES - len(name.encode()) - 1 - _MARK_BYTES
    folder = _cut("/".join(_cut_name(part) for part in folders), room).rstrip("/")
    return f"{folder}/{name}" if folder else name


def _free(key: str, taken: set[str]) -> str:
    """Return `key`, or the next one with a number before its extension that is free."""
    folder, slash, name = key.rpartition("/")
    stem, extension = _split(name)
    number, free = 1, key
    while free in taken:
        number += 1
        mark = f"-{number}"
        room = _NAME_BYTES - len(extension.encode()) - len(mark)
        free = f"{folder}{slash}{_cut(stem, room)}{mark}{extension}"
    return free


def _split(name: str) -> tuple[str, str]:
    """Return stem and extension, the dot with the extension; what is too long for an extension is none."""
    stem, dot, extension = name.rpartition(".")
    if not stem.strip(".") or not extension or len(extension.encode(errors="replace")) > _EXTENSION_BYTES:
        return name, ""
    return stem, dot + extension


def _cut_name(name: str) -> str:
    if len(name.encode()) <= _NAME_BYTES:
        return name
    stem, extension = _split(name)
    return _cut(stem, _NAME_BYTES - len(extension.encode())) + extension


def _cut(text: str, room_bytes: int) -> str:
    """Return as much of a text as fits, never half a character, and nothing that ends as a relative part."""
    encoded = text.encode()
    if len(encoded) <= room_bytes:
        return text
    cut = encoded[:room_bytes].decode(errors="ignore")
    folder, slash, last = cut.rpartition("/")
    return cut if last.strip(".") else folder + slash.rstrip("/")
