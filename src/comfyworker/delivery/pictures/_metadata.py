"""What a picture's file tells beside the picture, kept where ComfyUI's page looks for it.

ComfyUI writes `prompt` and `workflow` (JSON) as PNG text; into the EXIF data of other formats as `prompt:…` under Model
and `workflow:…` under Make, anything more under the tags below that. Its page reads all of these back from a file that
is dropped on it.
Wire source: ComfyUI `comfy_api/latest/_ui.py` ImageSaveHelper; the page's `getWebpMetadata`, `parseAvifMetadata`.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple, TypedDict

from PIL import ExifTags, Image, PngImagePlugin

_PROMPT_TAG = 0x0110
_OTHER_TAGS = (0x010F, 0x010E, 0x010D, 0x010C, 0x010B)
"""Where ComfyUI puts the rest, in its order; the tags below have other types than text."""
_JSON_TEXT = re.compile(r"([A-Za-z][\w .-]{0,78}):(?=\s*[{\[\"])")
_OF_TIFF = frozenset({0x010D, 0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298, 0x8769, 0x8825})
"""What of a TIFF's tags tells about the picture; the others say how the file is built."""
_NOT_TEXT = frozenset({"XML:com.adobe.xmp", "Raw profile type exif"})
"""Texts of a PNG that hold what other formats have a place of its own for."""
_JPEG_BYTES = 65_533  # what one segment holds
_XMP_BYTES = _JPEG_BYTES - 29  # behind its own heading


class Metadata(NamedTuple):
    """What a picture's file tells."""

    texts: dict[str, str]
    """ComfyUI's `prompt` and `workflow`, and any other text with a name."""
    exif: Image.Exif
    """The rest of the EXIF data, without the orientation."""
    xmp: bytes | None


class SaveOptions(TypedDict, total=False):
    """What Pillow is given to write."""

    exif: Image.Exif
    xmp: bytes
    pnginfo: PngImagePlugin.PngInfo


class Written(NamedTuple):
    """What is written, and the names of what found no place."""

    options: SaveOptions
    left_out: tuple[str, ...] = ()


def read_metadata(picture: Image.Image) -> Metadata:
    """Return what a picture's file tells; call it when the picture is loaded and its orientation applied."""
    exif = picture.getexif()
    exif.pop(ExifTags.Base.Orientation, None)
    if picture.format == "TIFF":
        for tag in set(exif) - _OF_TIFF:
            del exif[tag]
    texts: dict[str, str] = {}
    for tag in (_PROMPT_TAG, *_OTHER_TAGS):
        value = _text_of(exif.get(tag))
        found = _JSON_TEXT.match(value or "")
        if value and found:
            texts[found[1]] = value[found.end() :]
            del exif[tag]
    if isinstance(picture, PngImagePlugin.PngImageFile):
        texts |= _comf_texts(picture)
        texts |= {name: str(text) for name, text in picture.text.items() if name not in _NOT_TEXT}
    comment = picture.info.get("comment")
    if isinstance(comment, bytes) and comment:
        texts["Comment"] = comment.decode(errors="replace")
    xmp = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp")
    return Metadata(texts, exif, xmp.encode() if isinstance(xmp, str) else xmp or None)


def png_options(metadata: Metadata) -> Written:
    """Return what is to be written into a PNG."""
    info = PngImagePlugin.PngInfo()
    left_out = []
    for name, text in metadata.texts.items():
        try:
            info.add_text(name, text)
        except UnicodeError:  # the name: its text may be in any letters
            left_out.append(name)
    options: SaveOptions = {"pnginfo": info}
    if metadata.xmp:
        info.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode(errors="replace"))
    if _is_writable(metadata.exif):
        options["exif"] = metadata.exif
    return Written(options, tuple(left_out))


def exif_options(metadata: Metadata, *, is_jpeg: bool) -> Written:
    """Return what is to be written into a format without texts."""
    exif, left_out = _with_texts(metadata)
    # The largest goes first: the workflow, which is the page's, before the prompt, which can be run.
    tags = sorted(exif, key=lambda tag: len(exif[tag]) if isinstance(exif[tag], str | bytes) else 0)
    while is_jpeg and tags and len(exif.tobytes()) > _JPEG_BYTES:
        tag = tags.pop()
        value = exif.pop(tag)
        name = (value.decode() if isinstance(value, bytes) else str(value)).partition(":")[0]
        left_out.append(name if name in metadata.texts else f"EXIF tag {tag}")
    options: SaveOptions = {"exif": exif} if exif else {}
    if metadata.xmp and not (is_jpeg and len(metadata.xmp) > _XMP_BYTES):
        options["xmp"] = metadata.xmp
    elif metadata.xmp:
        left_out.append("XMP")
    return Written(options, tuple(left_out))


def _with_texts(metadata: Metadata) -> tuple[Image.Exif, list[str]]:
    """Return EXIF data that tells the texts, too, and the names of those for which there was no tag."""
    exif = metadata.exif if _is_writable(metadata.exif) else Image.Exif()
    free = [tag for tag in _OTHER_TAGS if tag not in exif]
    left_out = []
    # The workflow before anything else: there are few tags.
    for name in sorted(metadata.texts, key=lambda name: (name != "prompt", name != "workflow")):
        if name == "prompt" and _PROMPT_TAG not in exif:
            tag = _PROMPT_TAG
        elif free:
            tag = free.pop(0)
        else:
            left_out.append(name)
            continue
        text = f"{name}:{metadata.texts[name]}"
        # Pillow puts question marks for what is not ASCII, but takes bytes for the tags that it knows to be text.
        exif[tag] = text if text.isascii() else text.encode(errors="replace")
    return exif, left_out


def _text_of(value: object) -> str | None:
    """Return what an EXIF tag says; Pillow reads UTF-8 as if each byte were a letter."""
    if not isinstance(value, str):
        return None
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _comf_texts(picture: PngImagePlugin.PngImageFile) -> dict[str, str]:
    """Return what ComfyUI's SaveAnimatedPNG tells, in a chunk of its own, also of an animation of one picture."""
    texts = {}
    for chunk in picture.private_chunks:
        name, separator, text = chunk[1].partition(b"\0")
        if chunk[0] == b"comf" and separator:
            texts[name.decode("latin-1")] = text.decode("latin-1")
    return texts


def _is_writable(exif: Image.Exif) -> bool:
    """Tell whether there is something to write, and whether it is of the types that it says."""
    try:
        return bool(exif) and bool(exif.tobytes())
    except (ArithmeticError, LookupError, TypeError, ValueError, OSError, struct.error):
        return False
