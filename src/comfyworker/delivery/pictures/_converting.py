"""A still picture made into another format."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

from PIL import AvifImagePlugin, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin

from comfyworker.delivery.pictures._colours import Coloured, UnsuitableColours, suit_colours
from comfyworker.delivery.pictures._metadata import Metadata, Written, exif_options, png_options, read_metadata
from comfyworker.delivery.pictures.formats import FORMATS
from comfyworker.jobs import PictureFormat

# Pillow looks for a format's plugin only among those that were imported.
PLUGINS = (AvifImagePlugin, TiffImagePlugin, WebPImagePlugin)

_READABLE = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "TIFF", "GIF")
_MAX_PIXELS = 400_000_000
_FINE_QUALITY = 90  # from which colours are kept as sharp as brightness

# What Pillow's readers and writers raise for a picture that they cannot take (seen with altered files).
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
)


class CannotConvert(Exception):
    """The picture stays as it is; the message says why, to follow the file's name."""


class Wanted(NamedTuple):
    """What a picture is to be made into."""

    format: PictureFormat
    quality: int | None
    """None takes the format's usual one, and leaves a picture of that format alone."""
    strip_metadata: bool


class Converted(NamedTuple):
    """A picture in the wanted format."""

    content: bytes
    lost_transparency: bool
    left_out: tuple[str, ...]
    """The names of the metadata that found no place."""


def count_pixels(path: Path) -> int:
    """Return how many pixels a picture has, by its header; 0 if it cannot be read."""
    try:
        with _open(path) as picture:
            return picture.width * picture.height
    except _BROKEN:
        return 0


def convert(path: Path, wanted: Wanted) -> Converted | None:
    """Return a picture in another format; None if it is in that format already and nothing speaks for a new one.

    Raises:
        CannotConvert: it is animated, broken, or more than the format can hold.
        MemoryError: there is not enough for its pixels.
    """
    facts = FORMATS[wanted.format]
    try:
        with _open(path) as picture:
            has_format = picture.format == facts.pillow_name or (
                picture.format == "MPO" and facts.pillow_name == "JPEG"
            )
            if has_format and (wanted.quality is None or facts.usual_quality is None):
                return None
            _check(picture, wanted.format)
            ImageOps.exif_transpose(picture, in_place=True)
            metadata = None if wanted.strip_metadata else read_metadata(picture)
            coloured = suit_colours(picture, wanted.format)
    except UnidentifiedImageError as error:
        raise CannotConvert(f"it is none of {', '.join(_READABLE).lower()}, or broken") from error
    except _BROKEN as error:
        raise CannotConvert("it is broken") from error
    except UnsuitableColours as error:
        raise CannotConvert(str(error)) from error
    try:
        return _write(coloured, metadata, wanted)
    except _BROKEN as error:
        raise CannotConvert(f"it cannot be written as {wanted.format}") from error


def _open(path: Path) -> Image.Image:
    # The limit is ours, in `_check`. Pillow's own warns through a filter of the whole process, and ComfyUI makes
    # larger pictures.
    Image.MAX_IMAGE_PIXELS = None
    return Image.open(path, formats=_READABLE)


def _check(picture: Image.Image, format_: PictureFormat) -> None:
    if picture.format != "MPO" and getattr(picture, "is_animated", False):  # a JPEG's further pictures are the same one
        raise CannotConvert("it is more than a still picture")
    width, height = picture.size
    if width * height > _MAX_PIXELS:
        raise CannotConvert(f"{width} x {height} pixels are more than the {_MAX_PIXELS} that can be converted")
    if max(width, height) > FORMATS[format_].max_side:
        raise CannotConvert(
            f"{width} x {height} pixels are more than {format_} can hold ({FORMATS[format_].max_side} a side)"
        )


def _write(coloured: Coloured, metadata: Metadata | None, wanted: Wanted) -> Converted:
    facts = FORMATS[wanted.format]
    if metadata is None:
        written = Written({})
    elif wanted.format == PictureFormat.PNG:
        written = png_options(metadata)
    else:
        written = exif_options(metadata, is_jpeg=wanted.format == PictureFormat.JPEG)
    picture = coloured.picture
    picture.info = {}  # what is written is said here, not found there
    # In memory, so that a fault of the encoder is never taken for one of the disk.
    content = io.BytesIO()
    picture.save(
        content,
        facts.pillow_name,
        icc_profile=coloured.icc_profile,
        **_encoding(wanted),
        **written.options,
    )
    # Not getbuffer: the collector of Python 3.12 may crash on a buffer that is still exported. Both copy nothing.
    return Converted(content.getvalue(), coloured.lost_transparency, written.left_out)


def _encoding(wanted: Wanted) -> dict[str, int | str]:
    quality = wanted.quality or FORMATS[wanted.format].usual_quality or 0
    sampling = "4:4:4" if quality >= _FINE_QUALITY else "4:2:0"
    match wanted.format:
        case PictureFormat.PNG:
            return {"compress_level": 4}  # as ComfyUI does: 6 takes twice the time for 2 % less
        case PictureFormat.WEBP:
            return {"quality": quality}
        case PictureFormat.JPEG | PictureFormat.AVIF:
            return {"quality": quality, "subsampling": sampling}
