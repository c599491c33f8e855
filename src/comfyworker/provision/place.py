"""Where models, custom nodes and what is noted of them go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from comfyworker.comfyui.locate import Installation, find_comfyui
from comfyworker.comfyui.model_places import KNOWN_VOLUMES, ModelPlace, Origin, find_model_places
from comfyworker.errors import ComfyUINotFound
from comfyworker.settings import ComfyUISettings, VolumeSettings

STATE_NAME = ".comfyworker"
"""The folder for what is noted; one lies on each disk that something is noted of, so that they are lost together."""


class ProvisionPlace(BaseModel):
    """The disks that a config.yml is made true on."""

    model_config = ConfigDict(frozen=True)

    models: Path | None
    """Folder with a folder for each kind of model; None if there is nowhere to put models."""
    own_models: Path | None = None
    """ComfyUI's own models folder, where it looks first; None if that is where models go, or if there is none."""
    models_state: Path
    """Where it is noted what of the models is ours."""
    installation: Installation | None = None
    """The ComfyUI that custom nodes are for; None if there is none on this disk."""
    comfyui_repository: str = ""
    """Where other versions of ComfyUI are fetched from."""
    volume: Path | None = None
    """The persistent volume; None if there is none."""

    @property
    def custom_nodes(self) -> Path | None:
        """ComfyUI's folder of custom nodes."""
        return self.installation.base_dir / "custom_nodes" if self.installation else None

    @property
    def nodes_state(self) -> Path | None:
        """Where it is noted what of the custom nodes is ours: beside them, whether or not models lie elsewhere."""
        return self.installation.base_dir / STATE_NAME if self.installation else None

    def require_models(self) -> Path:
        """Return the folder for models.

        Raises:
            ComfyUINotFound: there is none.
        """
        if self.models is None:
            raise ComfyUINotFound(
                "there is nowhere to put models: no ComfyUI, no volume, no MODELS_PATH",
                hint="Make a ComfyUI with `comfyworker comfyui install`, or name a folder with MODELS_PATH.",
            )
        return self.models

    def require_installation(self) -> Installation:
        """Return the ComfyUI that custom nodes are for.

        Raises:
            ComfyUINotFound: there is none on this disk.
        """
        if self.installation is None:
            raise ComfyUINotFound(
                "there is no ComfyUI on this disk that custom nodes could be installed into",
                hint="Make one with `comfyworker comfyui install`, or name the folder of one with COMFYUI_PATH.",
            )
        return self.installation


def find_place(
    comfyui: ComfyUISettings,
    volume: VolumeSettings,
    *,
    cwd: Path,
    volumes: Sequence[tuple[Origin, Path]] | None = None,
) -> ProvisionPlace:
    """Return where models and custom nodes go.

    Models go to MODELS_PATH, else to the models folder of the persistent volume, else to ComfyUI's own. Custom nodes
    go to ComfyUI's. Blocks for a moment.

    Args:
        comfyui: Which ComfyUI.
        volume: MODELS_PATH.
        cwd: Where relative places lie.
        volumes: Where volumes are mounted; None is where platforms do that.

    Raises:
        ComfyUINotFound: COMFYUI_PATH or COMFYUI_PYTHON name something that cannot be used.
    """
    known = KNOWN_VOLUMES if volumes is None else volumes
    installation = find_comfyui(comfyui, cwd=cwd)
    places = find_model_places(volume, cwd=cwd, own_models=None, volumes=known)
    root = _persistent_root(places, known)
    own = _own_models(comfyui, installation, cwd)
    models = _named(places) or _on_volume(places, root) or own
    return ProvisionPlace(
        models=models,
        own_models=own if own != models else None,
        models_state=_disk_of(models, root, own, cwd) / STATE_NAME,
        installation=installation,
        comfyui_repository=comfyui.repository,
        volume=root,
    )


def _own_models(comfyui: ComfyUISettings, installation: Installation | None, cwd: Path) -> Path | None:
    if installation is not None:
        return installation.base_dir / "models"
    # Beside COMFY_API_URL, this is all that tells where the files of a ComfyUI lie that others run.
    return (cwd / comfyui.base_dir.expanduser()).absolute() / "models" if comfyui.base_dir is not None else None


def _named(places: Sequence[ModelPlace]) -> Path | None:
    return next((place.trees[0].path for place in places if place.origin is Origin.MODELS_PATH and place.trees), None)


def _persistent_root(places: Sequence[ModelPlace], known: Sequence[tuple[Origin, Path]]) -> Path | None:
    """Return the volume: one that holds models, or one that is mounted and is still empty."""
    lasting = (Origin.NETWORK_VOLUME, Origin.POD_VOLUME)
    for place in places:
        if place.origin in lasting and place.problem is None:
            return place.root
    return next((root for _, root in known if root.is_mount()), None)


def _on_volume(places: Sequence[ModelPlace], root: Path | None) -> Path | None:
    if root is None:
        return None
    trees = next((place.trees for place in places if place.root == root), ())
    return trees[0].path if trees else root / "models"


def _disk_of(models: Path | None, root: Path | None, own: Path | None, cwd: Path) -> Path:
    """Return the folder beside which the state of `models` lies, so that it is lost with them or not at all."""
    if models is None:
        return root or cwd
    if root is not None and models.is_relative_to(root):
        return root
    return models.parent if models == own else models


def state_beside(own_models: Path) -> Path:
    """Return where it is noted what is ours of the models in a ComfyUI's own folder."""
    return own_models.parent / STATE_NAME
