"""Previews: the pictures that ComfyUI sends while a node samples, as binary frames of its WebSocket.

Wire source: ComfyUI 0.3.75, `server.py` send_image and send_image_with_metadata, `protocol.py` BinaryEventTypes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

PreviewSink = Callable[[str, str, bytes], None]
"""Is told of a preview: node id, media type, bytes; called on the event loop, must not block."""

FEATURES = '{"type":"feature_flags","data":{"supports_preview_metadata":true}}'
"""The first message to ComfyUI: without it previews do not say whose they are."""

_PREVIEW_IMAGE = 1
_PREVIEW_IMAGE_WITH_METADATA = 4
_TYPES = {1: "image/jpeg", 2: "image/png"}


class Preview(NamedTuple):
    """One preview as it came."""

    content_type: str
    data: bytes
    prompt_id: str | None = None
    """None from a ComfyUI that does not say whose it is: then it is the running prompt's."""
    node_id: str | None = None
    display_node_id: str | None = None
    """The node of the submitted workflow, where the node was made while it ran."""


def read_preview(frame: bytes) -> Preview | None:
    """Return the preview that a binary frame holds; None if it holds something else."""
    kind = int.from_bytes(frame[:4], "big")
    if kind == _PREVIEW_IMAGE:
        content_type = _TYPES.get(int.from_bytes(frame[4:8], "big"))
        return None if content_type is None else Preview(content_type, frame[8:])
    if kind != _PREVIEW_IMAGE_WITH_METADATA:
        return None
    behind = 8 + int.from_bytes(frame[4:8], "big")
    try:
        metadata = orjson.loads(frame[8:behind])
    except orjson.JSONDecodeError:
        return None
    if not isinstance(metadata, dict):
        return None
    return Preview(
        content_type=_text(metadata, "image_type") or _TYPES[1],
        data=frame[behind:],
        prompt_id=_text(metadata, "prompt_id"),
        node_id=_text(metadata, "node_id"),
        display_node_id=_text(metadata, "display_node_id"),
    )


def _text(metadata: dict[str, Any], key: str) -> str | None:  # Any: JSON from outside
    value = metadata.get(key)
    return value if isinstance(value, str) else None
