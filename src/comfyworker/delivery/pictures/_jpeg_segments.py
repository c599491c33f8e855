"""JPEG's segments (ITU T.81, annex B): what must stay of them for the same look."""

from __future__ import annotations

import re
import struct

from comfyworker.delivery.pictures.pieces import Piece, orientation_only, require

_EXIF = b"Exif\0\0"
_START_OF_SCAN = 0xDA
_END = 0xD9
_COMMENT = 0xFE
_APP0, _APP1, _APP15 = 0xE0, 0xE1, 0xEF
_LOOK = {0xE0: b"JFIF\0", 0xE2: b"ICC_PROFILE\0", 0xEE: b"Adobe"}
"""Applications' segments that readers need: density, colour profile, how the colours are written."""

# Inside the compressed data an FF is followed by 00 or a restart's number; FF before a marker only fills.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def strip_jpeg(data: bytes) -> list[Piece]:
    """Return the file without EXIF, XMP, comments, thumbnails, further pictures and what follows its end."""
    view = memoryview(data)
    pieces: list[Piece] = [view[:2]]
    position = 2
    while True:
        require(data[position] == 0xFF)
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker == _END:
            pieces.append(view[position : position + 2])
            return pieces
        else:
            end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
            require(position + 4 <= end <= len(data))
            if marker == _START_OF_SCAN:
                end = _end_of_scan(data, end)
            pieces.extend(_kept(view, position, end))
            position = end


def _end_of_scan(data: bytes, start: int) -> int:
    found = _MARKER.search(data, start)
    require(found)
    return len(data) if found is None else found.start()


def _kept(view: memoryview, start: int, end: int) -> list[Piece]:
    marker, content = view[start + 1], view[start + 4 : end]
    if marker == _APP1 and content[: len(_EXIF)] == _EXIF:
        exif = orientation_only(bytes(content))
        return [] if exif is None else [_segment(_EXIF + exif)]
    if marker == _COMMENT:
        return []
    if _APP0 <= marker <= _APP15:
        wanted = _LOOK.get(marker)
        return [view[start:end]] if wanted is not None and content[: len(wanted)] == wanted else []
    return [view[start:end]]


def _segment(content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, _APP1, len(content) + 2) + content
