"""What a config.yml asks for: models, custom nodes, a version of ComfyUI, packages."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict

LATEST = "latest"
"""The newest release of a custom node."""
NIGHTLY = "nightly"
"""The tip of a custom node's default branch."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True)

    line: int | None = None
    """Where it stands in the file; it says nothing about what is wanted, and is in no digest."""
    optional: bool = False
    """Whether the rest counts as good without it."""


class ModelEntry(_Entry):
    """A model file that shall be there."""

    url: str
    """`https://…`, `s3://bucket/key`, `r2://bucket/key`, `file:///…`, or a path."""
    destination: str
    """A folder of ComfyUI's models, as `checkpoints`, or one below it, as `loras/wan`; aliases are resolved."""
    filename: str | None = None
    """Its name there; None is the name that its source gives it."""
    sha256: str | None = None
    """64 lower-case hexadecimal digits."""
    size_bytes: int | None = None


class NodeEntry(_Entry):
    """A custom node that shall be there: a git repository, or a name of the Comfy Registry."""

    url: str | None = None
    name: str | None = None
    version: str = LATEST
    """`latest`, `nightly`, a tag, a commit, a branch; for a name of the registry, a version."""


class Config(BaseModel):
    """All that a config.yml asks for."""

    model_config = ConfigDict(frozen=True)

    models: tuple[ModelEntry, ...] = ()
    nodes: tuple[NodeEntry, ...] = ()
    comfyui_version: str | None = None
    """Git tag, branch or commit of ComfyUI; None is whichever there is."""
    pip: tuple[str, ...] = ()
    """Requirements for ComfyUI's environment, beside those of the custom nodes."""


def likely_name(url: str) -> str:
    """Return the file's name that a model's address ends in; empty if it ends in none, as Civitai's do."""
    path = urlsplit(url).path if "://" in url else url
    name = unquote(path.rstrip("/").rpartition("/")[2])
    return name if "." in name else ""
