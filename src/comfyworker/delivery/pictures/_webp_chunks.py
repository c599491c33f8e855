"""WebP's chunks (https://developers.google.com/speed/webp/docs/riff_container): what must stay for the same look."""

from __future__ import annotations

import struct

from comfyworker.delivery.pictures.pieces import Piece, length, orientation_only, require

_HEADER_BYTES = 12
_LOOK = frozenset({b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP"})
_HAS_EXIF, _HAS_XMP = 0x08, 0x04


def strip_webp(data: bytes) -> list[Piece]:
    """Return the file without EXIF, XMP, unknown chunks and what follows its end."""
    end = 8 + int.from_bytes(data[4:8], "little")
    require(end <= len(data))
    view = memoryview(data)
    kept: list[Piece] = []
    extended: int | None = None  # which of them is the one that tells what else there is
    exif: bytes | None = None
    position = _HEADER_BYTES
    while position + 8 <= end:
        kind = data[position : position + 4]
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        require(position + 8 + size <= end)
        # A chunk of an odd size is padded; some writers leave that out at the very end.
        next_position = min(position + 8 + size + size % 2, end)
        if kind == b"EXIF":
            exif = orientation_only(data[position + 8 : position + 8 + size])
        elif kind in _LOOK:
            if kind == b"VP8X":
                require(size >= 10)
                extended = len(kept)
            kept.append(view[position:next_position])
            if (next_position - position) % 2:
                kept.append(b"\0")
        position = next_position
    if position == end == len(data) and length(kept) == end - _HEADER_BYTES:
        return [view]
    if extended is not None:
        kept[extended] = _with_flags(bytes(kept[extended]), has_exif=exif is not None)
        if exif is not None:
            kept.append(b"EXIF" + struct.pack("<I", len(exif)) + exif)
    return [b"RIFF" + struct.pack("<I", length(kept) + 4) + b"WEBP", *kept]


def _with_flags(chunk: bytes, *, has_exif: bool) -> bytes:
    flags = chunk[8] & ~_HAS_XMP & ~_HAS_EXIF
    return chunk[:8] + bytes([flags | _HAS_EXIF if has_exif else flags]) + chunk[9:]
