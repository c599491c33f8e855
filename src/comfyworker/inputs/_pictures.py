"""Still pictures: whether Pillow can read one, without decoding more of it than needed."""

from __future__ import annotations

import io
import mmap
import struct
import zlib
from typing import IO, cast

from PIL import AvifImagePlugin, BmpImagePlugin, Image, TiffImagePlugin, WebPImagePlugin

from comfyworker.inputs._problems import refuse

# Pillow looks for a format's plugin only among those that were imported.
PLUGINS = (AvifImagePlugin, BmpImagePlugin, TiffImagePlugin, WebPImagePlugin)

# What Pillow's readers raise for bytes that are not as their format says (seen with altered files of every format).
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    OverflowError,
    RuntimeError,
    struct.error,
    zlib.error,
)

_TIFF_OFFSETS_AND_SIZES = ((273, 279), (324, 325))
"""Tags of a TIFF's strips and tiles: where each begins and how long it is."""


def check_picture(data: bytes | mmap.mmap, format_name: str, *, path: str, max_pixels: int) -> None:
    """Refuse a picture that is broken, cut off or too large.

    Args:
        data: The picture's bytes, in memory or on the disk.
        format_name: Pillow's name of the format that its first bytes promise.
        path: Where it stood in the request, for the error.
        max_pixels: Most pixels it may have, by its header: a small file can hold a picture that fills the memory.

    Raises:
        InvalidRequest: with the one problem of this picture.
    """
    # The limit below is ours. Pillow's own warns through a filter of the whole process, and raises from twice its
    # default, which is less than ours.
    Image.MAX_IMAGE_PIXELS = None
    reason = "is cut off"
    try:
        with Image.open(_as_file(data), formats=(format_name,)) as picture:
            width, height = picture.size
            is_whole = width * height > max_pixels or _is_whole(picture, data, format_name)
    except _BROKEN as error:
        is_whole, reason = False, "is broken"
        cause: Exception | None = error
    else:
        cause = None
    if not is_whole:
        raise refuse(
            f"{path} {reason}: it begins as a {format_name} picture, but cannot be read as one",
            code="broken_picture",
            path=path,
            hint="Look whether the whole file was read and encoded.",
        ) from cause
    if width * height > max_pixels:
        raise refuse(
            f"{path} has {width} x {height} pixels, more than the {max_pixels} that one picture may have",
            code="too_many_pixels",
            path=path,
            hint="INPUT_MAX_PIXELS of the worker sets the limit.",
        )


def _as_file(data: bytes | mmap.mmap) -> IO[bytes]:
    if isinstance(data, bytes):
        return io.BytesIO(data)
    data.seek(0)
    return cast("IO[bytes]", data)  # it reads and seeks as a file does, which is all that Pillow wants


def _is_whole(picture: Image.Image, data: bytes | mmap.mmap, format_name: str) -> bool:
    """Tell whether nothing is missing at the end; raises one of `_BROKEN` where Pillow itself finds out.

    Decoding everything would be the sure way, and costs 10 to 20 ms a megapixel, which ComfyUI spends anyway.
    """
    match format_name:
        case "PNG":
            picture.verify()  # The checksum of every chunk.
            return True
        case "JPEG":
            # Inside the compressed data no FF is followed by D9, so after its start this marks the end.
            return data.rfind(b"\xff\xd9") > _start_of_scan(data)
        case "WEBP":
            return int.from_bytes(data[4:8], "little") + 8 <= len(data)
        case "TIFF":
            return all(end <= len(data) for end in _tiff_ends(picture))
        case _:
            picture.load()  # The first frame only.
            return True


def _start_of_scan(data: bytes | mmap.mmap) -> int:
    """Return where a JPEG's compressed data begins: behind its headers, which may hold a whole thumbnail."""
    position = 2
    while data[position + 1 : position + 2] not in (b"\xda", b""):
        if data[position + 1] == 0xFF:  # Fill bytes may stand before a marker.
            position += 1
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return position


def _tiff_ends(picture: Image.Image) -> list[int]:
    tags = picture.tag_v2 if isinstance(picture, TiffImagePlugin.TiffImageFile) else {}
    return [
        offset + size
        for offsets, sizes in _TIFF_OFFSETS_AND_SIZES
        for offset, size in zip(tags.get(offsets, ()), tags.get(sizes, ()), strict=False)
    ]
