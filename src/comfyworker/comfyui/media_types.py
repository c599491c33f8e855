"""What sort of artifact a file is, by its name."""

from __future__ import annotations

import functools
import mimetypes

from comfyworker.jobs import ArtifactKind

UNKNOWN_TYPE = "application/octet-stream"

# What ComfyUI and its custom nodes save. Before `mimetypes`, which lacks many of them and calls others by old names.
_TYPES: dict[str, tuple[ArtifactKind, str]] = {
    **{
        extension: (ArtifactKind.IMAGE, f"image/{subtype}")
        for extension, subtype in {
            "png": "png",
            "apng": "apng",
            "jpg": "jpeg",
            "jpeg": "jpeg",
            "webp": "webp",
            "avif": "avif",
            "gif": "gif",
            "svg": "svg+xml",
            "bmp": "bmp",
            "tif": "tiff",
            "tiff": "tiff",
            "exr": "x-exr",
            "hdr": "vnd.radiance",
        }.items()
    },
    **{
        extension: (ArtifactKind.VIDEO, f"video/{subtype}")
        for extension, subtype in {
            "mp4": "mp4",
            "m4v": "mp4",
            "webm": "webm",
            "mov": "quicktime",
            "mkv": "x-matroska",
            "avi": "x-msvideo",
        }.items()
    },
    **{
        extension: (ArtifactKind.AUDIO, f"audio/{subtype}")
        for extension, subtype in {
            "wav": "wav",
            "mp3": "mpeg",
            "flac": "flac",
            "ogg": "ogg",
            "opus": "ogg",
            "m4a": "mp4",
            "aac": "aac",
        }.items()
    },
    **{
        extension: (ArtifactKind.FILE, f"model/{subtype}")
        for extension, subtype in {
            "glb": "gltf-binary",
            "gltf": "gltf+json",
            "obj": "obj",
            "ply": "ply",
            "stl": "stl",
            "usdz": "vnd.usdz+zip",
            "fbx": "vnd.fbx",
        }.items()
    },
    "latent": (ArtifactKind.LATENT, UNKNOWN_TYPE),
    "safetensors": (ArtifactKind.FILE, UNKNOWN_TYPE),
    "json": (ArtifactKind.FILE, "application/json"),
    "txt": (ArtifactKind.TEXT, "text/plain"),
    "zip": (ArtifactKind.FILE, "application/zip"),
}

MODEL_EXTENSIONS = frozenset({"glb", "gltf", "obj", "ply", "stl", "usdz", "fbx", "splat", "ksplat", "spz"})
"""Extensions of 3D models."""

_KIND_OF_FAMILY = {
    "image": ArtifactKind.IMAGE,
    "video": ArtifactKind.VIDEO,
    "audio": ArtifactKind.AUDIO,
    "text": ArtifactKind.TEXT,
}
_KIND_OF_KEY = {
    "video": ArtifactKind.VIDEO,
    "videos": ArtifactKind.VIDEO,
    "audio": ArtifactKind.AUDIO,
    "latents": ArtifactKind.LATENT,
}


def kind_and_type(filename: str, output_key: str, format_hint: str | None = None) -> tuple[ArtifactKind, str]:
    """Return what a file is, and its content type.

    The name's extension decides: SaveVideo reports its videos under `images`, so the key says little. An animated GIF
    or WebP is a picture, a 3D model is a file.

    Args:
        filename: The file's name.
        output_key: The key under which it was reported; decides where the extension is unknown.
        format_hint: VideoHelperSuite's `format`, as `video/h264-mp4`; goes before the key.
    """
    extension = filename.rpartition(".")[2].lower() if "." in filename else ""
    if extension in _TYPES:
        return _TYPES[extension]
    guessed, encoding = _builtin_types().guess_type(f"file.{extension}")
    if guessed is not None and encoding is None:
        return _KIND_OF_FAMILY.get(guessed.partition("/")[0], ArtifactKind.FILE), guessed
    hinted = _KIND_OF_FAMILY.get((format_hint or "").partition("/")[0])
    return hinted or _KIND_OF_KEY.get(output_key, ArtifactKind.FILE), UNKNOWN_TYPE


@functools.cache
def _builtin_types() -> mimetypes.MimeTypes:
    # The module's own functions also know what the system's files say, so their answers differ between machines.
    return mimetypes.MimeTypes()
