"""A request as it is written down: without its secrets, which stay in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from blake3 import blake3
from pydantic import BaseModel, SecretStr

from comfyworker.errors import InternalError, InvalidRequest
from comfyworker.jobs import DeliveryMode, JobRequest

_NOT_ASKED_FOR = {"id", "warnings"}
"""What two submissions that ask for the same may differ in."""


class StoredRequest(NamedTuple):
    """A request in the form in which it is written down."""

    content: bytes
    fingerprint: str
    secret_parts: dict[str, Any]  # Any: each field has its own type
    """The fields of the request that hold secrets, whole; they are never written down."""
    pinned: dict[str, Path]
    """The files on our disk that the request names, by the place within the job's folder where `content` has them."""


def store_request(request: JobRequest) -> StoredRequest:
    """Return `request` in the form in which it is written down.

    Raises:
        InvalidRequest: it is nested too deeply to be written down.
    """
    secret_parts = {
        name: value for name in type(request).model_fields if _holds_secret(value := getattr(request, name))
    }
    pinned = {f"inputs/{index}": file.path for index, file in enumerate(request.files) if file.path is not None}
    try:
        plain = (_without_secrets(request) if secret_parts else request).model_dump()
        asked = {name: value for name, value in plain.items() if name not in _NOT_ASKED_FOR}
        digest = blake3(json.dumps(asked, sort_keys=True, default=_plain).encode()).hexdigest()
        for place in pinned:
            plain["files"][int(place.rpartition("/")[2])]["path"] = place
        # Not orjson: what the request holds comes back as it was, NaN and integers of any size included.
        content = json.dumps(plain, separators=(",", ":"), default=_plain).encode()
    except (RecursionError, ValueError) as error:
        raise InvalidRequest(
            "the request is nested too deeply", hint="Send a workflow of fewer levels; ComfyUI needs only three."
        ) from error
    return StoredRequest(content, digest, secret_parts, pinned)


def load_request(content: bytes, folder: Path, secret_parts: dict[str, Any] | None = None) -> JobRequest:
    """Return the request that was written down.

    Args:
        content: What was written.
        folder: The job's folder, where its files are pinned.
        secret_parts: What was not written, where it is still known.

    Raises:
        InternalError: another version wrote it, whose requests are not ours.
    """
    try:
        request = JobRequest.model_validate(json.loads(content))
    except ValueError as error:
        raise InternalError(
            "the job's request was written down by another version of the worker", hint="Send the request again."
        ) from error
    files = tuple(
        file if file.path is None else file.model_copy(update={"path": folder / file.path}) for file in request.files
    )
    return request.model_copy(update={"files": files, **(secret_parts or {})})


def wants_inline(request: JobRequest) -> bool:
    """Tell whether the client wants its files in the answer, where they do not go to object storage."""
    output = request.output
    mode = output.without_bucket if output.delivery is DeliveryMode.AUTO else output.delivery
    return mode is DeliveryMode.BASE64


def _plain(value: object) -> object:
    """Return what JSON has no word for in one that it has."""
    if isinstance(value, SecretStr):
        return ""  # Only empty ones are left here.
    return sorted(value) if isinstance(value, frozenset) else str(value)


def _holds_secret(value: object) -> bool:
    if isinstance(value, SecretStr):
        return bool(value.get_secret_value())  # An empty one says that there is to be none.
    if isinstance(value, BaseModel):
        return any(_holds_secret(getattr(value, name)) for name in type(value).model_fields)
    return isinstance(value, tuple) and any(_holds_secret(item) for item in value)


def _without_secrets(record: JobRequest) -> JobRequest:
    return record.model_copy(update=_blanked(record))


def _blanked(record: BaseModel) -> dict[str, object]:
    blanked: dict[str, object] = {}
    for name in type(record).model_fields:
        value = getattr(record, name)
        if not _holds_secret(value):
            continue
        blanked[name] = value.model_copy(update=_blanked(value)) if isinstance(value, BaseModel) else None
    return blanked
