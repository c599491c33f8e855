"""The formats that still pictures can be made into."""

from __future__ import annotations

import os
from typing import NamedTuple

from comfyworker.errors import InvalidRequest, Problem
from comfyworker.jobs import PictureFormat

_NAME_BYTES = 255  # the longest name on the file systems in use


class FormatFacts(NamedTuple):
    """What must be known of a format to write it."""

    pillow_name: str
    feature: str
    """What Pillow calls its ability to write it."""
    extensions: tuple[str, ...]
    """The usual one first."""
    max_side: int
    """The most pixels that a side can have."""
    usual_quality: int | None
    """None for a format that loses nothing."""


FORMATS = {
    PictureFormat.PNG: FormatFacts("PNG", "zlib", (".png",), 2**31 - 1, None),
    PictureFormat.JPEG: FormatFacts("JPEG", "jpg", (".jpg", ".jpeg", ".jpe", ".jfif"), 65_500, 85),
    PictureFormat.WEBP: FormatFacts("WEBP", "webp", (".webp",), 16_383, 80),
    PictureFormat.AVIF: FormatFacts("AVIF", "avif", (".avif",), 65_536, 75),
}


def check_format(format_: PictureFormat | None, *, path: str = "output.format") -> None:
    """Refuse a format that this machine's Pillow cannot write.

    Args:
        format_: What is asked for; None asks for nothing.
        path: Where it was asked for, for the error.

    Raises:
        InvalidRequest: naming the formats that there are.
    """
    if format_ in {None, PictureFormat.PNG}:  # there is no Pillow without it
        return
    from PIL import features  # noqa: PLC0415  # heavy, and most requests ask for nothing

    there = [known for known, facts in FORMATS.items() if features.check(facts.feature)]
    if format_ in there:
        return
    message = f"{path}: this worker's Pillow cannot write {format_}"
    raise InvalidRequest(
        message,
        hint=f"Ask for one of {', '.join(there)}.",
        problems=[
            Problem(message=message, code="unsupported_format", path=path, received=format_, choices=tuple(there))
        ],
    )


def named_as(name: str, format_: PictureFormat) -> str:
    """Return a file's name with the usual extension of a format, unless it has one of its extensions already."""
    stem, extension = os.path.splitext(name)  # noqa: PTH122  # Path.suffix takes a bare dot for none
    known = FORMATS[format_].extensions
    return name if extension.lower() in known else _joined(stem, known[0])


def numbered(name: str, number: int) -> str:
    """Return a file's name with a number before its extension."""
    stem, extension = os.path.splitext(name)  # noqa: PTH122  # as above
    return _joined(stem, f"-{number}{extension}")


def _joined(stem: str, end: str) -> str:
    room_bytes = _NAME_BYTES - len(end.encode())
    return stem.encode(errors="surrogateescape")[:room_bytes].decode(errors="ignore") + end
