"""A file taken apart: the pieces of it that stay, and those that are made anew."""

from __future__ import annotations

import struct
from collections.abc import Sequence

Piece = bytes | memoryview
"""What was there is a view of the file's bytes, what is new are bytes of its own."""

_ORIENTATION = 0x0112
_SHORT = 3
_UPRIGHT = 1


class CannotStrip(Exception):
    """The metadata cannot be taken out; the message says why, to follow the file's name."""


def length(pieces: Sequence[Piece]) -> int:
    """Return how many bytes the pieces are together."""
    return sum(len(piece) for piece in pieces)


def require(condition: object) -> None:
    """Go on only if the file is as its format says."""
    if not condition:
        raise CannotStrip("it is broken")


def orientation(exif: bytes) -> int:
    """Return the orientation that EXIF data (a TIFF's header and first directory) tells; 1 if it tells none."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return _UPRIGHT
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
            if tag == _ORIENTATION and kind == _SHORT:
                (value,) = struct.unpack_from(f"{order}H", exif, entry + 8)
                return value if 1 <= value <= 8 else _UPRIGHT
    except struct.error:  # cut off: what readers do with it, too, is to ignore it
        pass
    return _UPRIGHT


def orientation_only(exif: bytes) -> bytes | None:
    """Return EXIF data that tells the same orientation and nothing else; None if there is no need for any."""
    value = orientation(exif)
    if value == _UPRIGHT:
        return None
    return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, _ORIENTATION, _SHORT, 1, value, 0, 0)
