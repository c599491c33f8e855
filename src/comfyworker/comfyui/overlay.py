"""What a home adds to a Python environment that lies elsewhere, as in an image: packages of its own, in front of it.

torch and ComfyUI's requirements stay where they are, which is a fast disk; what custom nodes or a newer ComfyUI need
beyond that lies in the home and persists with it. An overlay is an environment like any other, whose site-packages
names that of the one below. It belongs to just one environment below and one tree's requirements: its name tells
which. Behind another image there is another overlay, so that nothing which was built for one torch meets another.
"""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from comfyworker.comfyui.home import environments_folder

NOTE_NAME = "comfyworker-overlay.json"
_KEY_LENGTH = 12
_INFO = ".dist-info"
_TORCH = re.compile(r"^torch-(\S+)\.dist-info$", re.IGNORECASE)


class OverlayNote(BaseModel):
    """What an overlay was made for; it is written last, so one without it is none."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    python: str
    """The interpreter of the environment below."""
    library: str
    """The name of the folder that its site-packages is in, as `python3.11`."""
    torch: str | None
    below: tuple[str, ...] = ()
    """The packages of the environment below, as `name-version`: uv sees them in the overlay, too."""


def read_overlay(environment: Path) -> OverlayNote | None:
    """Return what an overlay was made for; None if that is none."""
    try:
        return OverlayNote.model_validate_json((environment / NOTE_NAME).read_bytes())
    except (OSError, ValidationError):
        return None


def find_overlay(home: Path, tree: Path, base: Path) -> Path | None:
    """Return the interpreter of the overlay on the environment of `base` for a tree, if it has been made. Blocks."""
    environment = overlay_path(home, tree, base)
    if environment is None or read_overlay(environment) is None:
        return None
    return environment / "bin" / "python"


def overlay_path(home: Path, tree: Path, base: Path) -> Path | None:
    """Return where the overlay on the environment of `base` for a tree lies, or would; None if `base` is in none."""
    site = site_packages(base)
    if site is None:
        return None
    parts = [str(base), platform.machine(), *list_packages(site), _text(tree / "requirements.txt")]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_KEY_LENGTH]
    return environments_folder(home) / f"{site.parent.name}-torch{torch_of(site) or ''}-{digest}"


def wants_overlay(home: Path, tree: Path, base: Path) -> bool:
    """Tell whether what a tree needs beyond the environment of `base` goes into an overlay.

    It does where that environment does not persist with the home, and where it is that of another tree.
    """
    return tree != home or not base.is_relative_to(home.parent)


def below(python: Path) -> Path:
    """Return the interpreter of the environment that an overlay lies on; of any other environment, its own."""
    note = read_overlay(python.parent.parent)
    return Path(note.python) if note is not None else python


def site_packages(python: Path) -> Path | None:
    """Return the folder of the packages in the environment of an interpreter; None if it is in none."""
    environment = python.parent.parent
    if not (environment / "pyvenv.cfg").is_file():
        return None
    return next((environment / "lib").glob("python*/site-packages"), None)


def list_packages(site: Path) -> tuple[str, ...]:
    """Return the packages in a folder of packages, as `name-version`, sorted."""
    return tuple(sorted(_packages(site)))


def torch_of(site: Path) -> str | None:
    """Return the version of the torch in a folder of packages; None if there is none."""
    for path in site.glob("torch-*.dist-info"):
        match = _TORCH.match(path.name)
        if match:
            return match.group(1)
    return None


def _packages(site: Path) -> Iterator[str]:
    try:
        names = [entry.name for entry in site.iterdir()]
    except OSError:
        return
    for name in names:
        if name.endswith(_INFO):
            yield name.removesuffix(_INFO)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
