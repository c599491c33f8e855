"""JSON as ComfyUI writes it."""

from __future__ import annotations

import json
from typing import Any

import orjson


def parse_json(content: bytes | str) -> Any:  # noqa: ANN401  # JSON from outside: checked by who reads it
    """Return what `content` says.

    ComfyUI writes NaN and Infinity, which JSON does not know, where a node's bounds or outputs hold them.

    Raises:
        ValueError: it is not JSON, even so.
    """
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return json.loads(content)
