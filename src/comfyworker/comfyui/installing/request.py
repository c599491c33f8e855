"""What is asked of an install, and what came of it."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from comfyworker.comfyui.install_record import InstallRecord
from comfyworker.errors import InstallFailed

DEFAULT_REF = "v0.3.75"
"""The ComfyUI that is installed when nobody names another, and the one that the package carries."""

DEFAULT_PATH = Path("workspace/ComfyUI")
REPOSITORY = "https://github.com/comfyanonymous/ComfyUI"

_REF = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]*")


class InstallRequest(BaseModel):
    """What to install, and where."""

    model_config = ConfigDict(frozen=True)

    path: Path
    """The folder that shall hold main.py, absolute."""
    source: str = "auto"
    """`git`, `package`, `auto` (git where it can be reached), or the folder of a ComfyUI to copy."""
    ref: str | None = None
    """Git tag, branch or commit; None takes the default."""
    cpu: bool | None = None
    """Whether torch shall be a build without GPU; None decides by what GPU there is."""
    python: Path | None = None
    """The interpreter to make the environment with; None takes the worker's own."""
    force: bool = False
    """Make it anew where a whole one is there. Models, inputs, outputs and custom nodes stay."""
    check: bool = True
    """Import torch and start ComfyUI once at the end."""


class InstallOutcome(BaseModel):
    """What came of an install."""

    model_config = ConfigDict(frozen=True)

    path: Path
    is_new: bool
    """False when a ComfyUI was there already and was left alone."""
    record: InstallRecord | None
    """None for a ComfyUI that no install of ours has made."""
    version: str | None


def normalize_ref(ref: str | None) -> str:
    """Return the git ref that is meant: `0.3.75` is the tag `v0.3.75`.

    Raises:
        InstallFailed: what was given can be no ref.
    """
    if ref is None:
        return DEFAULT_REF
    if not _REF.fullmatch(ref) or ".." in ref:
        raise InstallFailed(f"--ref: '{ref}' is no git tag, branch or commit", hint=f"Give one as {DEFAULT_REF}.")
    return f"v{ref}" if re.fullmatch(r"\d+(\.\d+)+", ref) else ref
