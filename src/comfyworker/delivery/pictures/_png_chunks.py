"""PNG's chunks (https://www.w3.org/TR/png-3/): what must stay of them for the same look."""

from __future__ import annotations

import struct
import zlib

from comfyworker.delivery.pictures.pieces import Piece, orientation_only, require

_SIGNATURE_BYTES = 8
_FRAME_BYTES = 12  # length, type and checksum around a chunk's data
_LOOK = frozenset(
    {
        b"tRNS",
        b"gAMA",
        b"cHRM",
        b"sRGB",
        b"iCCP",
        b"sBIT",
        b"cICP",
        b"mDCV",
        b"cLLI",
        b"bKGD",
        b"hIST",
        b"pHYs",
        b"sPLT",
    }
)
_ANIMATION = frozenset({b"acTL", b"fcTL", b"fdAT"})
_ANCILLARY = 0x20  # the bit of a type's first letter that makes it a small one: a reader may do without the chunk


def strip_png(data: bytes) -> list[Piece]:
    """Return the file without text, dates, EXIF, chunks of nobody's standard (ComfyUI's `comf`) and what follows."""
    view = memoryview(data)
    pieces: list[Piece] = [view[:_SIGNATURE_BYTES]]
    position = _SIGNATURE_BYTES
    kind = b""
    while kind != b"IEND":
        size = int.from_bytes(data[position : position + 4], "big")
        end = position + size + _FRAME_BYTES
        require(end <= len(data))
        kind = data[position + 4 : position + 8]
        if kind == b"eXIf":
            exif = orientation_only(data[position + 8 : end - 4])
            if exif is not None:
                pieces.append(_chunk(kind, exif))
        elif not kind[0] & _ANCILLARY or kind in _LOOK or kind in _ANIMATION:
            pieces.append(view[position:end])
        position = end
    return pieces


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
