"""What there is of ComfyUI in a home."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from comfyworker.comfyui.home import TreeRecord, current_tree, read_home
from comfyworker.comfyui.locate import Installation, read_version
from comfyworker.comfyui.overlay import list_packages, read_overlay, site_packages, torch_of
from comfyworker.finishing import in_thread
from comfyworker.provision.home.updating import describe_current


class HomeStatus(BaseModel):
    """Which ComfyUI there is, and what it runs with."""

    model_config = ConfigDict(frozen=True)

    current: TreeRecord
    previous: TreeRecord | None
    """What a rollback leads to."""
    home: Path
    path: Path
    """The folder that holds main.py."""
    python: Path
    torch: str | None
    base_python: Path | None
    """The interpreter of the environment below; None if nothing is in front of one."""
    own_packages: tuple[str, ...]
    """The packages in front of it, as `name-version`."""
    image: str | None
    """The version that the image carries, if it is another one."""
    latest: str | None = None
    """The newest release, if it was asked for."""


async def look_at_home(installation: Installation, *, image_path: Path | None) -> HomeStatus:
    """Return what there is; nothing is changed and nobody is asked."""
    current = await describe_current(installation)
    return await in_thread(lambda: _look(installation, current, image_path))


def _look(installation: Installation, current: TreeRecord, image_path: Path | None) -> HomeStatus:
    record = read_home(installation.home)
    note = read_overlay(installation.python.parent.parent)
    site = site_packages(installation.python)
    shared = set(note.below) if note is not None else set()
    image = read_version(current_tree(image_path)) if image_path is not None else None
    return HomeStatus(
        current=current,
        previous=record.previous if record is not None else None,
        home=installation.home,
        path=installation.path,
        python=installation.python,
        torch=torch_of(site) if site is not None else None,
        base_python=installation.base_python if note is not None else None,
        own_packages=tuple(name for name in list_packages(site) if name not in shared)
        if note is not None and site is not None
        else (),
        image=image if image != installation.version else None,
    )
