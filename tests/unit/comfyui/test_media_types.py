"""Media types: what an artifact is, by the name of its file."""

import pytest

from comfyworker.comfyui.media_types import kind_and_type
from comfyworker.jobs import ArtifactKind


@pytest.mark.parametrize(
    ("filename", "key", "kind", "content_type"),
    [
        ("ComfyUI_00001_.png", "images", ArtifactKind.IMAGE, "image/png"),
        ("a.JPG", "images", ArtifactKind.IMAGE, "image/jpeg"),
        ("animated.webp", "images", ArtifactKind.IMAGE, "image/webp"),
        ("a.avif", "images", ArtifactKind.IMAGE, "image/avif"),
        ("loop.gif", "gifs", ArtifactKind.IMAGE, "image/gif"),
        ("a.svg", "images", ArtifactKind.IMAGE, "image/svg+xml"),
        ("a.mp4", "images", ArtifactKind.VIDEO, "video/mp4"),
        ("a.webm", "gifs", ArtifactKind.VIDEO, "video/webm"),
        ("a.mov", "gifs", ArtifactKind.VIDEO, "video/quicktime"),
        ("a.mkv", "video", ArtifactKind.VIDEO, "video/x-matroska"),
        ("a.wav", "audio", ArtifactKind.AUDIO, "audio/wav"),
        ("a.mp3", "audio", ArtifactKind.AUDIO, "audio/mpeg"),
        ("a.flac", "audio", ArtifactKind.AUDIO, "audio/flac"),
        ("a.opus", "audio", ArtifactKind.AUDIO, "audio/ogg"),
        ("a.glb", "3d", ArtifactKind.FILE, "model/gltf-binary"),
        ("a.obj", "3d", ArtifactKind.FILE, "model/obj"),
        ("a.latent", "latents", ArtifactKind.LATENT, "application/octet-stream"),
        ("a.safetensors", "files", ArtifactKind.FILE, "application/octet-stream"),
        ("a.json", "files", ArtifactKind.FILE, "application/json"),
        ("a.txt", "files", ArtifactKind.TEXT, "text/plain"),
        ("a.zip", "files", ArtifactKind.FILE, "application/zip"),
        ("a.csv", "files", ArtifactKind.TEXT, "text/csv"),
        ("a.pdf", "files", ArtifactKind.FILE, "application/pdf"),
        ("a.unheard-of", "files", ArtifactKind.FILE, "application/octet-stream"),
        ("a.unheard-of", "audio", ArtifactKind.AUDIO, "application/octet-stream"),
        ("noextension", "images", ArtifactKind.FILE, "application/octet-stream"),
    ],
)
def test_a_file_is_what_its_extension_says(filename: str, key: str, kind: ArtifactKind, content_type: str) -> None:
    """The extension decides; the key only where nobody knows the extension."""
    assert kind_and_type(filename, key) == (kind, content_type)


def test_the_format_hint_decides_where_the_extension_is_unknown() -> None:
    """VideoHelperSuite says what it made; that goes before the key."""
    assert kind_and_type("a.nut", "files", "video/nut") == (ArtifactKind.VIDEO, "application/octet-stream")
