"""Where models lie beside ComfyUI's own folder: network volumes and MODELS_PATH, each laid out as people do it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from comfyworker.comfyui.model_kinds import COMMON_NAMES, NO_KINDS, core_folders, kind_of_folder
from comfyworker.settings import VolumeSettings

MODEL_TREES = (
    "models",
    "ComfyUI/models",
    "runpod-slim/ComfyUI/models",
    "madapps/ComfyUI/models",
    "runpod-volume/models",
    "workspace/models",
)
"""Where a volume may hold a folder of models, with a folder for each kind.

The first is worker-comfyui's, the second a ComfyUI that was installed on the volume, the next two what RunPod's own
pod templates make, the last two what becomes of uploads whose key begins with the mount point.
"""

_OURS = "comfyworker"


class Origin(StrEnum):
    """Why a place was looked at."""

    MODELS_PATH = "MODELS_PATH"
    NETWORK_VOLUME = "network volume"
    """What RunPod mounts for serverless workers."""
    POD_VOLUME = "pod volume"
    """Where pods have their volume."""
    WORKSPACE = "workspace"
    """The working directory's own."""
    IMAGE = "image"
    """What the container's image brings, beside a ComfyUI that lives elsewhere."""


KNOWN_VOLUMES = ((Origin.NETWORK_VOLUME, Path("/runpod-volume")), (Origin.POD_VOLUME, Path("/workspace")))
"""Where platforms mount their volumes."""


class ModelTree(BaseModel):
    """A folder that holds models, a folder for each kind."""

    model_config = ConfigDict(frozen=True)

    path: Path
    folders: tuple[str, ...]
    """Which folders for kinds were there, by name."""
    takes_all: bool
    """Whether every folder in it is a kind, or only those whose names are known."""


class ModelPlace(BaseModel):
    """One place where models may lie."""

    model_config = ConfigDict(frozen=True)

    root: Path
    origin: Origin
    is_mounted: bool = False
    trees: tuple[ModelTree, ...] = ()
    problem: str | None = None
    """Why nothing in it can be used now; None if it can."""


def find_model_places(
    settings: VolumeSettings,
    *,
    cwd: Path,
    own_models: Path | None,
    image_models: Path | None = None,
    volumes: Sequence[tuple[Origin, Path]] | None = None,
) -> tuple[ModelPlace, ...]:
    """Return the places that were looked at, in the order in which ComfyUI shall search them.

    Of each, one level of folders is listed, so it takes no longer on a large volume than on a small one. A place that
    is of no use is there too, with its problem; `/workspace` and `./workspace` only where they hold models.

    Args:
        settings: MODELS_PATH.
        cwd: Where `./workspace` lies, and a relative MODELS_PATH.
        own_models: The models folder of the ComfyUI itself, which needs no second mention; None if there is none.
        image_models: The models folder of the image's ComfyUI, which is searched last; None if there is none.
        volumes: Where volumes are mounted; None is where platforms do that.
    """
    own = _real(own_models)
    found = []
    if settings.models_path is not None:
        path = (cwd / settings.models_path.expanduser()).absolute()
        found.append(_examine(path, Origin.MODELS_PATH, own))
    seen = {_real(place.root) for place in found}
    for origin, root in KNOWN_VOLUMES if volumes is None else volumes:
        place = _examine(root, origin, own)
        # /workspace is often a link to /runpod-volume, so that a pod's paths work for both.
        if (origin is Origin.NETWORK_VOLUME or place.trees) and _real(root) not in seen:
            found.append(place)
            seen.add(_real(root))
    if not any(place.trees for place in found):
        place = _examine((cwd / "workspace").absolute(), Origin.WORKSPACE, own)
        if place.trees and _real(place.root) not in seen:
            found.append(place)
    if image_models is not None and image_models.is_dir() and _real(image_models) != own:
        tree = ModelTree(path=image_models, folders=_list_folders(image_models), takes_all=True)
        found.append(ModelPlace(root=image_models, origin=Origin.IMAGE, trees=(tree,)))
    return tuple(found)


def _examine(root: Path, origin: Origin, own: Path | None) -> ModelPlace:
    try:
        is_mounted = root.is_mount()
        names = _list_folders(root)
        if origin is Origin.NETWORK_VOLUME and not is_mounted and not _holds_content(root):
            problem = "it is an empty folder: no volume is mounted there"
            return ModelPlace(root=root, origin=origin, problem=problem)
        trees = tuple(tree for tree in _trees(root, names, origin) if _real(tree.path) != own)
    except FileNotFoundError:
        # What was named may still come: downloads run while ComfyUI starts, and make the folder.
        trees = (ModelTree(path=root, folders=(), takes_all=True),) if origin is Origin.MODELS_PATH else ()
        return ModelPlace(root=root, origin=origin, trees=trees, problem="it is not there")
    except NotADirectoryError:
        return ModelPlace(root=root, origin=origin, problem="it is no folder")
    except OSError as error:
        return ModelPlace(root=root, origin=origin, problem=f"it cannot be read: {error.strerror}")
    return ModelPlace(root=root, origin=origin, is_mounted=is_mounted, trees=trees)


def _trees(root: Path, names: Sequence[str], origin: Origin) -> Iterator[ModelTree]:
    """Yield each folder of models in a place, by what is there; where nothing is there yet, the one that shall be."""
    is_named = origin is Origin.MODELS_PATH
    found = [
        ModelTree(path=root / tree, folders=_list_folders(root / tree), takes_all=True)
        for tree in MODEL_TREES
        if tree.partition("/")[0] in names and (root / tree).is_dir()
    ]
    known = tuple(name for name in names if kind_of_folder(name))
    if any(name in core_folders() and name not in COMMON_NAMES for name in known):
        takes_all = is_named and not found
        found.append(ModelTree(path=root, folders=names if takes_all else known, takes_all=takes_all))
    elif is_named and not found:
        found.append(ModelTree(path=root, folders=names, takes_all=True))
    elif origin is Origin.NETWORK_VOLUME and not found:
        found.append(ModelTree(path=root / "models", folders=(), takes_all=True))
    yield from found


def _list_folders(path: Path) -> tuple[str, ...]:
    """Return the names of the folders in `path`, sorted; hidden ones and those that hold no models left out.

    Raises:
        OSError: it cannot be listed.
    """
    with os.scandir(path) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".") and is_folder(entry)]
    # A name that is no text can be written into no file for ComfyUI.
    return tuple(sorted(name for name in names if name not in NO_KINDS and is_text(name)))


def is_text(name: str) -> bool:
    """Tell whether a name is text in the file system's encoding; of others Python keeps bytes as lone surrogates."""
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in name)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:
        return False  # links in a circle


def _holds_content(root: Path) -> bool:
    """Tell whether there is anything in a folder that we have not put there ourselves."""
    with os.scandir(root) as entries:
        return any(not entry.name.startswith((".", _OURS)) and entry.name != "lost+found" for entry in entries)


def _real(path: Path | None) -> Path | None:
    try:
        return path.resolve() if path is not None else None
    except (OSError, RuntimeError):
        return path  # links in a circle
