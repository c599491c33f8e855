"""One message to a webhook: what it says, and all that is needed to say it again after a restart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, JsonValue, SecretStr, ValidationError

from comfyworker.jobs import WebhookEvent
from comfyworker.webhooks.encoding import encode
from comfyworker.webhooks.hook import Hook
from comfyworker.workflow.urls import shown_url


class Unreadable(Exception):
    """What was read is no message."""


class Envelope(BaseModel):
    """Everything about a message but its body."""

    model_config = ConfigDict(frozen=True)

    id: str
    """The same on each attempt, and for a repeat of the same job."""
    job_id: str
    event: WebhookEvent
    created_at: float
    """Seconds of Unix time."""
    url: str = Field(repr=False)
    is_operators: bool
    secret: SecretStr | None
    """As in Hook: None means the worker's secret, which is not written down."""
    timeout_s: float
    size_bytes: int
    """Of the body."""

    @property
    def host(self) -> str:
        """Where it goes, as far as a log may say it."""
        return shown_url(self.url)


class Message(NamedTuple):
    """A message whole."""

    envelope: Envelope
    body: bytes
    """JSON, the same bytes on each attempt."""


def make_message(
    hook: Hook, event: WebhookEvent, body: Mapping[str, JsonValue], *, key: str, max_bytes: int, now: float
) -> Message:
    """Return the message that tells of `event`.

    Args:
        hook: Who is told.
        event: What happened.
        body: What is told of the job; left as it was.
        key: Tells apart several messages of one event of one job.
        max_bytes: Base64 is left out of a body that would be larger, the longest first.
        now: Seconds of Unix time.
    """
    data = encode(_fitting(_with_extra(hook, event, body), max_bytes))
    envelope = Envelope(
        id=_message_id(hook, event, key),
        job_id=hook.job_id,
        event=event,
        created_at=now,
        url=hook.url,
        is_operators=hook.is_operators,
        secret=hook.secret,
        timeout_s=hook.timeout_s,
        size_bytes=len(data),
    )
    return Message(envelope, data)


def pack(message: Message) -> bytes:
    """Return a message as it is written down: a line of JSON about it, then its body. The request's secret is in it."""
    envelope = message.envelope
    about: dict[str, JsonValue] = envelope.model_dump(mode="json", exclude={"secret"})
    about["secret"] = None if envelope.secret is None else envelope.secret.get_secret_value()
    return encode(about) + b"\n" + message.body


def unpack_envelope(line: bytes) -> Envelope:
    """Return what the first line of a message says.

    Raises:
        Unreadable: it is no such line.
    """
    try:
        return Envelope.model_validate_json(line)
    except ValidationError:
        raise Unreadable from None  # The chain would show the URL and the secret.


def unpack(data: bytes) -> Message:
    """Return the message that `pack` wrote.

    Raises:
        Unreadable: it is none, or not whole.
    """
    line, _, body = data.partition(b"\n")
    envelope = unpack_envelope(line)
    if len(body) != envelope.size_bytes or not _is_text(body):
        raise Unreadable
    return Message(envelope, body)


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _message_id(hook: Hook, event: WebhookEvent, key: str) -> str:
    # Of what does not change when a platform hands the same job out again, so that its receiver can see the repeat.
    told = encode([hook.job_id, event.value, key, hook.url])
    return f"msg_{hashlib.sha256(told).hexdigest()[:32]}"


def _with_extra(hook: Hook, event: WebhookEvent, body: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return `body` with its event and the caller's own.

    Clients of comfyui-api-wrapper read those under `extra`, clients of its older versions beside the rest.
    """
    told: dict[str, JsonValue] = {**body, "event": event.value}
    if hook.extra_params:
        told["extra"] = dict(hook.extra_params)
    return {**{name: value for name, value in hook.extra_params.items() if name not in told}, **told}


def _fitting(body: dict[str, JsonValue], max_bytes: int) -> dict[str, JsonValue]:
    """Return `body` with as much of the base64 in its `output` as fits, the shortest first."""
    output = body.get("output")
    if not isinstance(output, list):
        return body
    left = max_bytes - len(encode({**body, "output": [_without_data(item) for item in output]}))
    chosen: list[JsonValue] = list(output)
    for index in sorted(range(len(output)), key=lambda index: _data_cost(output[index])):
        left -= _data_cost(output[index])
        if left < 0:
            chosen[index] = _without_data(output[index])
    return {**body, "output": chosen}


def _without_data(item: JsonValue) -> JsonValue:
    if not isinstance(item, dict) or not _data_cost(item):
        return item
    rest: dict[str, JsonValue] = {name: value for name, value in item.items() if name != "data"}
    return {**rest, "data_omitted": True}


def _data_cost(item: JsonValue) -> int:
    """Return by how many bytes of JSON an item is longer with its base64 than with the word that it was left out."""
    data = item.get("data") if isinstance(item, dict) else None
    if not isinstance(data, str):
        return 0
    return max(0, len(f'"data":"{data}"') - len('"data_omitted":true'))
