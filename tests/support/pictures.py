"""Pictures for the tests: made here, so that every pixel and every word in them is known."""

from __future__ import annotations

import functools
import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import AvifImagePlugin, Image, ImageCms, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from comfyworker.jobs import Artifact, ArtifactKind

PLUGINS = (AvifImagePlugin, TiffImagePlugin, WebPImagePlugin)
PROMPT = json.dumps({"6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a secret fox, ünïcode"}}})
WORKFLOW = json.dumps({"nodes": [{"id": 6, "widgets_values": ["a secret fox"]}]})
ORIENTATION, MAKE, MODEL = 0x0112, 0x010F, 0x0110


def gradient(width: int = 48, height: int = 32) -> Image.Image:
    """Return a smooth picture whose four corners differ, so that a turned one is seen to be."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(
        np.stack([x * 255 // (width - 1), y * 255 // (height - 1), 255 - x * 255 // (width - 1)], -1).astype("uint8")
    )


def encoded(picture: Image.Image, format_: str, **options: Any) -> bytes:
    """Return a picture's file."""
    target = io.BytesIO()
    picture.save(target, format_, **options)
    return target.getvalue()


def comfyui_png(**texts: str) -> bytes:
    """Return a PNG as ComfyUI's SaveImage writes it."""
    info = PngImagePlugin.PngInfo()
    for name, text in (texts or {"prompt": PROMPT, "workflow": WORKFLOW}).items():
        info.add_text(name, text)
    return encoded(gradient(), "PNG", pnginfo=info)


def exif(*, orientation: int | None = None, **texts: str) -> Image.Exif:
    """Return EXIF data as ComfyUI's SaveAnimatedWEBP writes it."""
    data = Image.Exif()
    if texts:
        data[MODEL], data[MAKE] = f"prompt:{texts['prompt']}", f"workflow:{texts['workflow']}"
    if orientation is not None:
        data[ORIENTATION] = orientation
    return data


def opened(content: bytes | Path) -> Image.Image:
    """Return a picture, wholly read."""
    picture = Image.open(io.BytesIO(content) if isinstance(content, bytes) else content)
    picture.load()
    return picture


def frames(content: bytes) -> list[bytes]:
    """Return the pixels of every frame."""
    picture = opened(content)
    found = []
    for index in range(getattr(picture, "n_frames", 1)):
        picture.seek(index)
        found.append(picture.convert("RGBA").tobytes())
    return found


def difference(one: Image.Image, other: Image.Image) -> float:
    """Return how far two pictures are apart: the mean over all pixels and colours, of 255."""
    assert one.size == other.size
    first, second = (np.asarray(picture.convert("RGBA"), dtype=float) for picture in (one, other))
    return float(np.abs(first - second).mean())


@functools.cache
def profile(space: str) -> bytes:
    """Return a colour profile: `sRGB`, `red` (sRGB with red and blue exchanged) or `grey` with a gamma of its own.

    It bears the second in which it was made, so each is made once.
    """
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if space == "sRGB":
        return srgb
    if space == "red":
        return srgb.replace(b"rXYZ", b"tmp ", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"tmp ", b"bXYZ", 1)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, 256) + b"\0\0"  # gamma 1: twice as bright in the middle
    white = b"XYZ \0\0\0\0" + struct.pack(">iii", 63190, 65536, 54061)
    header = bytearray(srgb[:128])
    header[16:20] = b"GRAY"
    table = struct.pack(">I4sII4sII", 2, b"wtpt", 156, len(white), b"kTRC", 156 + len(white), len(curve))
    body = bytes(header[4:]) + table + white + curve
    return struct.pack(">I", len(body) + 4) + body


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Return one chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def artifact(path: Path, *, kind: ArtifactKind = ArtifactKind.IMAGE, subfolder: str = "") -> Artifact:
    """Return the artifact that a file is."""
    return Artifact(
        name=path.name,
        kind=kind,
        node_id="9",
        output_key="images",
        content_type="image/unknown",
        size_bytes=path.stat().st_size if path.exists() else 0,
        subfolder=subfolder,
        path=path,
        comfyui_url=f"http://127.0.0.1:8188/view?filename={path.name}",
    )
