"""GIF's blocks (https://www.w3.org/Graphics/GIF/spec-gif89a.txt): what must stay of them for the same look."""

from __future__ import annotations

from comfyworker.delivery.pictures.pieces import Piece, require

_EXTENSION, _PICTURE, _TRAILER = 0x21, 0x2C, 0x3B
_COMMENT, _APPLICATION = 0xFE, 0xFF
_LOOK = (b"NETSCAPE2.0", b"ANIMEXTS1.0", b"ICCRGBG1012")
"""Applications' blocks that readers need: how often an animation repeats, the colour profile."""


def strip_gif(data: bytes) -> list[Piece]:
    """Return the file without comments, applications' own blocks and what follows its end."""
    view = memoryview(data)
    position = 13 + _table_bytes(data[10])
    pieces: list[Piece] = [view[:position]]
    while data[position] != _TRAILER:
        if data[position] == _PICTURE:
            # Place, size and flags; colours; the size of the first codes.
            end = _end_of_blocks(data, position + 11 + _table_bytes(data[position + 9]))
            is_kept = True
        else:
            require(data[position] == _EXTENSION)
            label = data[position + 1]
            end = _end_of_blocks(data, position + 2)
            is_kept = label not in {_COMMENT, _APPLICATION} or data[position + 3 : position + 14] in _LOOK
        if is_kept:
            pieces.append(view[position:end])
        position = end
    pieces.append(view[position : position + 1])
    return pieces


def _table_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _end_of_blocks(data: bytes, position: int) -> int:
    while data[position]:
        position += 1 + data[position]
    return position + 1
