"""What a file is, by its bytes: the name that it came with is only a label."""

from __future__ import annotations

import mmap
from typing import NamedTuple

import orjson

from comfyworker.errors import InvalidRequest
from comfyworker.inputs._problems import beginning, refuse
from comfyworker.jobs import ArtifactKind


class Media(NamedTuple):
    """What a file is."""

    kind: ArtifactKind
    extension: str
    """The usual extension of the format, without a dot."""


_PICTURE_FORMATS = {
    "PNG": "png",
    "JPEG": "jpg",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tiff",
    "AVIF": "avif",
}
"""Pillow's name of each picture format that is taken, and its extension."""
_PICTURE_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_PICTURE_EXTENSIONS = frozenset({*_PICTURE_FORMATS.values(), "jpeg", "tif"})
_BMP_HEADER_SIZES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_MAX_SAFETENSORS_HEADER = 100_000_000
_TEXT_MARGIN = 64
_MAX_EXTENSION_CHARS = 12

Content = bytes | mmap.mmap
"""A file's bytes: in memory, or where they lie on the disk."""

_BY_START = (
    (b"fLaC", Media(ArtifactKind.AUDIO, "flac")),
    (b"ID3", Media(ArtifactKind.AUDIO, "mp3")),
    (b"glTF", Media(ArtifactKind.FILE, "glb")),
    (b"PK\x03\x04", Media(ArtifactKind.FILE, "zip")),
)
_BY_RIFF_TYPE = {b"WAVE": Media(ArtifactKind.AUDIO, "wav"), b"AVI ": Media(ArtifactKind.VIDEO, "avi")}
_BY_BRAND = {
    b"qt  ": Media(ArtifactKind.VIDEO, "mov"),
    b"M4A ": Media(ArtifactKind.AUDIO, "m4a"),
    b"M4B ": Media(ArtifactKind.AUDIO, "m4a"),
}
_STILL_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"})
_OTHERS = (
    (b"%pdf", "a PDF"),
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<svg", "an SVG picture"),
    (b"<?xml", "XML"),
    (b"{", "JSON"),
)


def identify(
    data: Content, *, name: str, path: str, max_pixels: int, quotes_text: bool = True, takes_all: bool = False
) -> Media:
    """Return what `data` is; a picture is also checked to be whole.

    Taken are the pictures, videos, sounds, 3D models, tensors and archives that ComfyUI's loaders read: clients send
    all of them under `images`.

    Args:
        data: The file's bytes.
        name: The name that it came with; one of a picture must hold a picture.
        path: Where it stood in the request, for the error.
        max_pixels: Most pixels that a picture may have.
        quotes_text: Show the beginning of a text in the error.
        takes_all: Take a file of an unknown kind as what its name says.

    Raises:
        InvalidRequest: with what is there instead.
    """
    picture_format = _picture_format(data)
    if picture_format is not None:
        # Pillow takes 40 ms to import, which only jobs with pictures need.
        from comfyworker.inputs._pictures import check_picture  # noqa: PLC0415

        check_picture(data, picture_format, path=path, max_pixels=max_pixels)
        return Media(ArtifactKind.IMAGE, _PICTURE_FORMATS[picture_format])
    media = _other_media(data) or (_by_name(name) if takes_all else None)
    if media is None:
        raise _unknown(data, path, quotes_text=quotes_text)
    extension = name.rpartition(".")[2].lower()
    if extension in _PICTURE_EXTENSIONS:
        raise refuse(
            f"{path} is named as a picture (.{extension}), but is {media.kind} ({media.extension})",
            code="not_a_picture",
            path=path,
            hint="Send the picture, or name the file as what it is.",
        )
    return media


def _by_name(name: str) -> Media:
    extension = name.rpartition(".")[2].lower() if "." in name else ""
    is_plain = extension.isascii() and extension.isalnum() and len(extension) <= _MAX_EXTENSION_CHARS
    return Media(ArtifactKind.FILE, extension if is_plain else "bin")


def _picture_format(data: Content) -> str | None:
    """Return Pillow's name of the picture format that the first bytes promise."""
    for signature, format_name in _PICTURE_SIGNATURES:
        if data[: len(signature)] == signature:
            return format_name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return "AVIF"
    is_bmp = data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADER_SIZES
    return "BMP" if is_bmp else None


def _other_media(data: Content) -> Media | None:
    for start, media in _BY_START:
        if data[: len(start)] == start:
            return media
    return _container(data) or (Media(ArtifactKind.AUDIO, "mp3") if _is_mp3_frame(data) else _tensors(data))


def _container(data: Content) -> Media | None:
    """Return what is in a container that names its content: RIFF, MP4 and kin, Matroska, Ogg."""
    if data[:4] in (b"RIFF", b"RF64"):
        return _BY_RIFF_TYPE.get(data[8:12])
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        return None if brand in _STILL_BRANDS else _BY_BRAND.get(brand, Media(ArtifactKind.VIDEO, "mp4"))
    if data[:4] == b"\x1aE\xdf\xa3":  # EBML; its DocType stands within the first bytes.
        return Media(ArtifactKind.VIDEO, "webm" if b"webm" in data[:64] else "mkv")
    if data[:4] == b"OggS":
        return Media(ArtifactKind.AUDIO, "opus" if b"OpusHead" in data[:64] else "ogg")
    return None


def _is_mp3_frame(data: Content) -> bool:
    """Tell whether the bytes begin with the header of an MPEG layer III frame, as an MP3 without tags does."""
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE6 != 0xE2:  # Sync, and layer III.
        return False
    bitrate, sample_rate = data[2] >> 4, data[2] >> 2 & 3
    return bitrate not in (0, 15) and sample_rate != 3


def _tensors(data: Content) -> Media | None:
    """Return what a safetensors file is; ComfyUI's latents are such files (`nodes.py` SaveLatent)."""
    header_bytes = int.from_bytes(data[:8], "little")
    if data[8:9] != b"{" or header_bytes > min(len(data) - 8, _MAX_SAFETENSORS_HEADER):
        return None
    try:
        header = orjson.loads(data[8 : 8 + header_bytes])
    except orjson.JSONDecodeError:
        return None
    if "latent_tensor" in header:
        return Media(ArtifactKind.LATENT, "latent")
    return Media(ArtifactKind.FILE, "safetensors")


def _unknown(data: Content, path: str, *, quotes_text: bool) -> InvalidRequest:
    return refuse(
        f"{path} is {_describe(data, quotes_text=quotes_text)}, which is not a picture or other file that is taken",
        code="unknown_media",
        path=path,
        hint="Taken are PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF, MP4, MOV, WebM, MKV, AVI, WAV, MP3, FLAC, Ogg, Opus, "
        "M4A, GLB, safetensors, latent and ZIP.",
    )


def _describe(data: Content, *, quotes_text: bool) -> str:
    start = data[:_TEXT_MARGIN].lstrip().lower()
    for beginning_bytes, what in _OTHERS:
        if start.startswith(beginning_bytes):
            return what
    if data[4:8] == b"ftyp":
        return "a HEIF picture"
    text = data[:_TEXT_MARGIN].decode("utf-8", "ignore")
    if text and all(character.isprintable() or character.isspace() for character in text) and b"\0" not in data[:64]:
        return f"text that {beginning(text)}" if quotes_text else "text"
    return f"{len(data)} bytes of an unknown kind"
