"""JSON for the wire and the disk, of any value that JSON can hold."""

from __future__ import annotations

import json

import orjson
from pydantic import JsonValue


def encode(value: JsonValue) -> bytes:
    """Return `value` as compact JSON."""
    try:
        return orjson.dumps(value)
    except TypeError:
        # It refuses integers over 64 bits, halves of UTF-16 pairs, and the 255th level, where pydantic stops too.
        return json.dumps(value, separators=(",", ":")).encode()
