"""A picture's colours in the terms of another format, so that it looks the same."""

from __future__ import annotations

import io
from typing import NamedTuple

from PIL import Image, ImageCms

from comfyworker.jobs import PictureFormat

_GREY = frozenset({"1", "L", "LA", "I;16", "I;16B", "I;16L", "I;16N"})
_COLOUR = frozenset({"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"})
_MODES_OF_PNG = frozenset({"1", "L", "LA", "I;16", "RGB", "RGBA"})
_SPACES = {"GRAY": "L", "RGB ": "RGB", "CMYK": "CMYK"}
"""What a colour profile calls the colours that it is about, and Pillow's mode for them."""


class UnsuitableColours(Exception):
    """The picture's values are not colours, or not ones that we can translate."""


class Coloured(NamedTuple):
    """A picture in colours that the wanted format has."""

    picture: Image.Image
    icc_profile: bytes | None
    """Its colour profile; None means sRGB."""
    lost_transparency: bool = False


def suit_colours(picture: Image.Image, format_: PictureFormat) -> Coloured:
    """Return a picture with its colours as `format_` can hold them.

    Raises:
        UnsuitableColours: it holds no colours: single numbers of more than 16 bits.
    """
    profile: bytes | None = picture.info.get("icc_profile") or None
    if picture.mode not in _GREY | _COLOUR:
        raise UnsuitableColours(f"its values ({picture.mode}) are not colours that {format_} can hold")
    if picture.has_transparency_data and not picture.mode.startswith("I;16"):
        return _suit_transparent(picture, profile, format_)
    if format_ == PictureFormat.PNG and picture.mode in _MODES_OF_PNG and picture.mode != "RGB":
        return Coloured(picture, profile if _mode_of(profile) == "L" else None)
    is_grey = picture.mode in _GREY and format_ != PictureFormat.WEBP  # which has no grey
    return Coloured(*_converted(_eight_bits(picture), profile, "L" if is_grey else "RGB"))


def _suit_transparent(picture: Image.Image, profile: bytes | None, format_: PictureFormat) -> Coloured:
    whole = picture if picture.mode in {"LA", "RGBA"} else picture.convert("RGBA")
    alpha = whole.getchannel("A")
    opaque = whole.convert("L" if whole.mode == "LA" else "RGB")
    is_grey = whole.mode == "LA" and format_ in {PictureFormat.PNG, PictureFormat.JPEG}
    opaque, profile = _converted(opaque, profile, "L" if is_grey else "RGB")
    is_seen_through = alpha.getextrema() != (255, 255)
    if format_ == PictureFormat.JPEG:
        if is_seen_through:
            white = Image.new(opaque.mode, opaque.size, 255 if is_grey else (255, 255, 255))
            opaque = Image.composite(opaque, white, alpha)
        return Coloured(opaque, profile, lost_transparency=is_seen_through)
    opaque.putalpha(alpha)
    return Coloured(opaque, profile)


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Return a picture of at most 8 bits a channel; Pillow's own conversion cuts 16 bits off at 255."""
    if not picture.mode.startswith("I;16"):
        return picture
    return picture.point(lambda value: value * (1 / 257) + 0.5).convert("L")


def _converted(picture: Image.Image, profile: bytes | None, mode: str) -> tuple[Image.Image, bytes | None]:
    """Return a picture without transparency in another mode; its profile stays where it fits, else it is applied."""
    about = _mode_of(profile)
    if about == mode:
        return (picture if picture.mode == mode else picture.convert(mode)), profile
    if profile is not None and about == picture.mode:
        try:
            source = ImageCms.getOpenProfile(io.BytesIO(profile))
            applied = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except ImageCms.PyCMSError:
            applied = None
        if applied is not None:
            return (applied if mode == "RGB" else applied.convert(mode)), None
    return (picture if picture.mode == mode else picture.convert(mode)), None


def _mode_of(profile: bytes | None) -> str | None:
    """Return the mode that a profile is about; None without one, or if it cannot be read."""
    if profile is None:
        return None
    try:
        space: str = ImageCms.getOpenProfile(io.BytesIO(profile)).profile.xcolor_space
    except (ImageCms.PyCMSError, OSError):
        return None
    return _SPACES.get(space)
