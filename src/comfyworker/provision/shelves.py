"""The custom nodes that a ComfyUI loads: ours with their versions, and others'."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from comfyworker.comfyui.locate import Installation
from comfyworker.provision.nodes.remotes import show_url
from comfyworker.provision.nodes.shelf import Shelf
from comfyworker.provision.place import STATE_NAME
from comfyworker.provision.records import read_nodes
from comfyworker.provision.state import environment_key

_SHORT_COMMIT = 7


class ShelvedNode(BaseModel):
    """A folder in custom_nodes."""

    model_config = ConfigDict(frozen=True)

    folder: str
    is_ours: bool
    """Whether the worker placed it."""
    is_good: bool | None = None
    """Whether it has its packages and loads; None if it is not ours, so that nobody looked."""
    version: str | None = None
    """Its release, with the commit where it has one."""
    asked_as: str | None = None
    """`latest`, `nightly`, a tag, a commit, a branch."""
    commit: str | None = None
    source: str | None = None
    """Its repository, or its name in the Comfy Registry."""


def list_nodes(installation: Installation) -> tuple[ShelvedNode, ...]:
    """Return every custom node that ComfyUI would load, by folder. Blocks."""
    shelf = Shelf(installation.base_dir / "custom_nodes")
    state = read_nodes(installation.base_dir / STATE_NAME)
    environment = environment_key(installation)
    found = []
    for folder in shelf.names():
        placed = shelf.read(folder)
        if placed is None:
            found.append(ShelvedNode(folder=folder, is_ours=False))
            continue
        locked, record = placed.locked, state.nodes.get(folder)
        commit = locked.commit[:_SHORT_COMMIT] if locked.commit else None
        is_same = record is not None and record.resolved.digest == locked.digest
        found.append(
            ShelvedNode(
                folder=folder,
                is_ours=True,
                is_good=is_same and record is not None and record.environment == environment,
                version=f"{locked.release} ({commit})" if locked.release and commit else locked.release or commit,
                asked_as=locked.version,
                commit=locked.commit,
                source=show_url(locked.url) if locked.url else locked.name,
            )
        )
    return tuple(found)
