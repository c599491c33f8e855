"""Values as they are written down: whatever a job tells comes back, half surrogate pairs and huge integers included."""

from __future__ import annotations

import json
from typing import Any

from comfyworker.delivery import iter_json


def pack(value: Any) -> bytes:  # noqa: ANN401  # JSON of whatever shape
    """Return `value` as JSON."""
    return b"".join(iter_json(value))


def unpack(packed: bytes | str) -> Any:  # noqa: ANN401  # JSON of whatever shape
    """Return what was packed."""
    # Not orjson: it makes floats of large integers, and refuses half surrogate pairs.
    return json.loads(packed)


def whole_text(text: str) -> str:
    """Return `text` with `?` for each half of a surrogate pair, which neither SQLite nor a header takes."""
    return text.encode(errors="replace").decode()
