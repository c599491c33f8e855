"""Artifacts for tests: a picture of node 9, and whatever a test wants otherwise."""

from pathlib import Path
from typing import Any

from comfyworker.jobs import Artifact, ArtifactKind


def artifact(name: str = "a.png", **fields: Any) -> Artifact:
    """Return a picture of 3 bytes; `fields` say what is otherwise."""
    usual = {"kind": ArtifactKind.IMAGE, "node_id": "9", "output_key": "images", "content_type": "image/png"}
    return Artifact.model_validate({"name": name, "size_bytes": 3, **usual, **fields})


def file_artifact(path: Path, **fields: Any) -> Artifact:
    """Return the artifact that a file is."""
    return artifact(**{"name": path.name, "size_bytes": path.stat().st_size, "path": path, **fields})


def text_artifact(text: str, **fields: Any) -> Artifact:
    """Return a text that a node reported."""
    usual = {"kind": ArtifactKind.TEXT, "output_key": "text", "content_type": "text/plain", "folder_type": ""}
    size_bytes = len(text.encode(errors="replace"))
    return artifact(**{"name": "text_00001.txt", "size_bytes": size_bytes, "text": text, **usual, **fields})
