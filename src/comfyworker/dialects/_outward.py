"""How a request wants its artifacts: `output`, `s3` or RunPod's `s3Config`, and `webhook`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from comfyworker.dialects._fields import Fields
from comfyworker.jobs import (
    FINAL_EVENTS,
    DeliveryMode,
    Output,
    PictureFormat,
    StoreOptions,
    WebhookEvent,
    WebhookOptions,
)

_OUTPUT_KEYS = ("delivery", "format", "quality", "strip_metadata", "prefix")
_S3_KEYS = (
    "access_key_id",
    "secret_access_key",
    "session_token",
    "endpoint_url",
    "bucket_name",
    "region",
    "connect_timeout",
    "connect_attempts",
)
_S3_CONFIG_KEYS = ("accessId", "accessSecret", "bucketName", "endpointUrl")
_WEBHOOK_KEYS = ("url", "extra_params", "secret", "events", "timeout")
_BASE64_KEY = "return_outputs_as_base64"
_SPELLINGS = {"jpg": PictureFormat.JPEG}
_QUALITY = range(1, 101)
_ATTEMPTS = range(1, 21)
_PREFIX_CHARS = 512


def read_output(fields: Fields, usual: Output, warnings: list[str]) -> Output:
    """Return how the artifacts are wanted.

    Args:
        fields: The request's `input`.
        usual: What the dialect's clients want if they do not say.
        warnings: Is told of keys that nobody knows.
    """
    wants_base64 = fields.flag(_BASE64_KEY)
    output = _object(fields, "output")
    warnings += output.unknown_keys(_OUTPUT_KEYS, where="output")
    delivery = output.choice("delivery", [mode.value for mode in DeliveryMode])
    said = {
        "delivery": DeliveryMode.BASE64 if wants_base64 and delivery is None else delivery,
        "format": _format(output),
        "quality": _within(output, "quality", _QUALITY),
        "strip_metadata": output.flag("strip_metadata"),
        "prefix": _prefix(output),
    }
    return Output.model_validate(
        {**usual.model_dump(), **{key: value for key, value in said.items() if value is not None}}
    )


def read_store(fields: Fields, beside: Fields, warnings: list[str]) -> StoreOptions | None:
    """Return the object storage that the request brings; None if it brings none.

    Args:
        fields: The request's `input`, whose `s3` goes before `s3Config`, field by field.
        beside: What holds `input`, and RunPod's `s3Config`.
        warnings: Is told of keys that nobody knows.
    """
    s3, config = _object(fields, "s3"), _object(beside, "s3Config")
    warnings += s3.unknown_keys(_S3_KEYS, where="s3")
    warnings += config.unknown_keys(_S3_CONFIG_KEYS, where="s3Config")
    first = {
        "endpoint_url": s3.text("endpoint_url"),
        "bucket": s3.text("bucket_name"),
        "access_key_id": s3.secret("access_key_id"),
        "secret_access_key": s3.secret("secret_access_key"),
        "session_token": s3.secret("session_token"),
        "region": s3.text("region"),
        "connect_timeout_s": s3.seconds("connect_timeout"),
        "attempts": _within(s3, "connect_attempts", _ATTEMPTS),
    }
    second = {
        "endpoint_url": config.text("endpointUrl"),
        "bucket": config.text("bucketName"),
        "access_key_id": config.secret("accessId"),
        "secret_access_key": config.secret("accessSecret"),
    }
    said = {key: _stripped(value) or second.get(key) for key, value in first.items()}
    # Limits alone name no store; upstream's clients send them with every field blank.
    names_store = any(said[key] for key in said if key not in {"connect_timeout_s", "attempts"})
    return StoreOptions.model_validate(said) if names_store else None


def read_webhook(fields: Fields, warnings: list[str]) -> WebhookOptions | None:
    """Return who wants to hear of the job; None if the request does not say."""
    webhook = _object(fields, "webhook")
    warnings += webhook.unknown_keys(_WEBHOOK_KEYS, where="webhook")
    if not any(webhook.given.get(key) for key in _WEBHOOK_KEYS):
        return None
    extra = webhook.mapping("extra_params") and webhook.json("extra_params")
    # An empty secret is a word of its own: this one is not signed, although the worker would.
    secret = SecretStr("") if webhook.given.get("secret") == "" else webhook.secret("secret")
    return WebhookOptions(
        url=_stripped(webhook.text("url")) or None,
        extra_params=extra if isinstance(extra, dict) else {},
        secret=secret,
        events=_events(webhook),
        timeout_s=webhook.seconds("timeout"),
    )


def _object(fields: Fields, key: str) -> Fields:
    """Return the object at `key` to read from; an empty one where there is none."""
    given: Mapping[str, Any] = fields.mapping(key) or {}  # Any: JSON from outside
    return Fields(given, fields.problems, fields.path(key))


def _stripped(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def _format(output: Fields) -> PictureFormat | None:
    given = output.given.get("format")
    if isinstance(given, str):
        spelled = given.strip().lower().removeprefix(".")
        known = _SPELLINGS.get(spelled, spelled)
        if known in list(PictureFormat):
            return PictureFormat(known)
    output.choice("format", [choice.value for choice in PictureFormat])
    return None


def _within(fields: Fields, key: str, bounds: range) -> int | None:
    value = fields.whole_number(key)
    if value is None or value in bounds:
        return value
    fields.add(key, f"must be from {bounds.start} to {bounds.stop - 1}, it is {value}", "value_out_of_range")
    return None


def _prefix(output: Fields) -> str | None:
    prefix = output.text("prefix")
    if prefix is None or len(prefix) <= _PREFIX_CHARS:
        return prefix
    output.add("prefix", f"must have at most {_PREFIX_CHARS} characters, it has {len(prefix)}", "invalid_value")
    return None


def _events(webhook: Fields) -> frozenset[WebhookEvent]:
    given = webhook.given.get("events")
    if given is None:
        return FINAL_EVENTS
    names = [event.value for event in WebhookEvent]
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        webhook.add("events", f"must be a list of {', '.join(names)}", "wrong_type")
        return FINAL_EVENTS
    for index, name in enumerate(given):
        if name not in names:
            near = difflib.get_close_matches(name[:40], names, n=1)
            meant = f"; did you mean '{near[0]}'?" if near else ""
            webhook.add(f"events[{index}]", f"must be one of {', '.join(names)}{meant}", "invalid_value")
    return frozenset(WebhookEvent(name) for name in given if name in names)
