"""JSON for the wire and the disk, of any value that JSON can hold."""

from __future__ import annotations

import json

import orjson
from pydantic import JsonValue


def encode(value: JsonValue) -> bytes:
    """Return `value` as compact JSON.

    Raises:
        RecursionError: it is nested too deeply.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        # Of integers over 64 bits, halves of UTF-16 pairs and deep nesting, orjson will know nothing.
        return json.dumps(value, separators=(",", ":")).encode()
