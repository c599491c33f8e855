"""JSON in pieces, so that an answer with large artifacts inside is never built a second time in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import orjson
from pydantic import JsonValue

_SLICE_CHARS = 1024 * 1024


def iter_json(value: JsonValue, *, slice_chars: int = _SLICE_CHARS) -> Iterator[bytes]:
    """Yield `value` as compact JSON in UTF-8, piece by piece.

    Args:
        value: The document. Must not change while it is being written.
        slice_chars: Strings longer than this are escaped and yielded a slice at a time.
    """
    if isinstance(value, str) and len(value) > slice_chars:
        yield from _iter_string(value, slice_chars)
    elif not _holds_long_string(value, slice_chars):
        yield _dumps(value)
    elif isinstance(value, dict):
        before = b"{"
        for key, item in value.items():
            yield before + _dumps(key) + b":"
            yield from iter_json(item, slice_chars=slice_chars)
            before = b","
        yield b"}"
    elif isinstance(value, list):
        before = b"["
        for item in value:
            yield before
            yield from iter_json(item, slice_chars=slice_chars)
            before = b","
        yield b"]"


def _iter_string(text: str, slice_chars: int) -> Iterator[bytes]:
    yield b'"'
    for start in range(0, len(text), slice_chars):
        yield _dumps(text[start : start + slice_chars])[1:-1]
    yield b'"'


def _holds_long_string(value: JsonValue, limit: int) -> bool:
    inner: Iterable[JsonValue] = ()
    if isinstance(value, str):
        return len(value) > limit
    if isinstance(value, dict):
        inner = value.values()
    elif isinstance(value, list):
        inner = value
    return any(_holds_long_string(item, limit) for item in inner)


def _dumps(value: JsonValue) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        # Whole numbers above 64 bits, half a surrogate pair in a text that a node reported, deep nesting.
        return json.dumps(value, separators=(",", ":")).encode()
