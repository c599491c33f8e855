"""Metadata taken out of a picture's file without decoding it: its pixels stay bit for bit what they were."""

from __future__ import annotations

from collections.abc import Callable

from comfyworker.delivery.pictures._avif_boxes import strip_avif
from comfyworker.delivery.pictures._gif_blocks import strip_gif
from comfyworker.delivery.pictures._jpeg_segments import strip_jpeg
from comfyworker.delivery.pictures._png_chunks import strip_png
from comfyworker.delivery.pictures._webp_chunks import strip_webp
from comfyworker.delivery.pictures.pieces import CannotStrip, Piece, length

_BMP = b"BM"
_STILL_BRANDS = (b"avif", b"avis", b"mif1", b"msf1", b"heic")


def strip_metadata(data: bytes) -> list[Piece] | None:
    """Return a picture's file without its metadata, in pieces to be written one after the other.

    What decides about the look stays: colour profiles, animation, and the orientation if it is not the usual one.
    None means that nothing had to go.

    Raises:
        CannotStrip: the format is not known, or the file is not as its format says.
    """
    strip = _strip_for(data)
    if strip is None:
        return None
    try:
        pieces = strip(data)
    except (IndexError, ValueError) as error:  # a length or an offset that leads out of the file
        raise CannotStrip("it is broken") from error
    is_whole = length(pieces) == len(data) and all(isinstance(piece, memoryview) for piece in pieces)
    return None if is_whole else pieces


def _strip_for(data: bytes) -> Callable[[bytes], list[Piece]] | None:
    """Return what strips a file of this beginning; None if its format holds no metadata."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return strip_png
    if data.startswith(b"\xff\xd8\xff"):
        return strip_jpeg
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return strip_webp
    if data.startswith((b"GIF87a", b"GIF89a")):
        return strip_gif
    if data[4:8] == b"ftyp" and data[8:12] in _STILL_BRANDS:
        return strip_avif
    if data.startswith(_BMP):
        return None
    raise CannotStrip("only png, jpeg, webp, avif and gif can be stripped")
