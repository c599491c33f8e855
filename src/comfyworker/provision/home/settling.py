"""ComfyUI brought to where it shall live, before the first job: placed once, and every later start finds it there."""

from __future__ import annotations

import os
import time
from pathlib import Path

import structlog

from comfyworker.comfyui.home import (
    HomeRecord,
    TreeRecord,
    current_tree,
    environments_folder,
    is_home,
    trees_folder,
    write_home,
)
from comfyworker.comfyui.install_record import UNFINISHED_NAME
from comfyworker.comfyui.locate import IMAGE_PLACES, find_python
from comfyworker.comfyui.overlay import read_overlay, wants_overlay
from comfyworker.comfyui.settlement import find_unsettled
from comfyworker.errors import ComfyUINotFound
from comfyworker.finishing import in_thread
from comfyworker.provision.home.environments import make_overlay
from comfyworker.provision.home.sharing import alone_in
from comfyworker.provision.home.trees import (
    bring,
    clear_leftovers,
    copy_whole,
    image_target,
    lay_data_folders,
    named_disk_faults,
    require_room,
    size_of,
)
from comfyworker.settings import ComfyUISettings, ProvisionSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SEEDED = ("user", "input")
_BROUGHT = ("custom_nodes", *_SEEDED)
"""Data folders of the image that a home begins with; models stay there, and pictures that it made."""


async def settle_comfyui(comfyui: ComfyUISettings, settings: ProvisionSettings, *, cwd: Path) -> None:
    """See that ComfyUI is where COMFYUI_HOME says, and that its Python environment is whole for this image.

    Where there is a ComfyUI already, whoever made it, it is used and not written to. Else that of COMFYUI_IMAGE_PATH is
    copied there, by one worker, while others wait. It takes milliseconds where there is nothing to do.

    Raises:
        ComfyUINotFound: there is neither a ComfyUI there nor one of an image, or no Python that fits it.
        InsufficientStorage: the disk is full.
        InstallFailed: it could not be placed, or what it needs could not be installed.
    """
    home = await in_thread(lambda: find_unsettled(comfyui, cwd=cwd))
    if home is None:
        return
    begun_at = time.monotonic()
    with named_disk_faults("the volume that ComfyUI shall live on"):
        await in_thread(lambda: _require_writable(home))
        await alone_in(home, lambda: _settle(home, comfyui, settings, cwd), note=_note)
    log.info("home.settled", home=str(home), duration_s=round(time.monotonic() - begun_at, 3))


async def _settle(home: Path, comfyui: ComfyUISettings, settings: ProvisionSettings, cwd: Path) -> None:
    await in_thread(lambda: clear_leftovers(home))
    if not await in_thread(lambda: is_home(home)):
        await _land(home, comfyui, settings, cwd)
    base = await in_thread(lambda: find_python(home, comfyui, cwd=cwd))
    if base is None:
        raise ComfyUINotFound(
            "ComfyUI is in its place, but there is no Python with torch for it",
            hint="Name the interpreter with COMFYUI_PYTHON, or the image's ComfyUI with COMFYUI_IMAGE_PATH.",
        )
    tree = await in_thread(lambda: current_tree(home))
    if wants_overlay(home, tree, base):
        current = await in_thread(lambda: _newest_overlay(home))
        await make_overlay(home, tree, base, current=current, note=_note)
        log.info("home.environment_made", home=str(home), begun_with=current is not None)


async def _land(home: Path, comfyui: ComfyUISettings, settings: ProvisionSettings, cwd: Path) -> None:
    """Place the image's ComfyUI in a home that has none."""
    image = await in_thread(lambda: _image_of(home, comfyui, cwd))
    target = image_target(image)
    if image is None:  # never: image_target has refused it
        return
    log.info("home.landing", home=str(home), version=target.version)
    needed = await in_thread(lambda: sum(size_of(folder) for folder in (image, *(image / name for name in _BROUGHT))))
    await in_thread(lambda: require_room(home, needed, "ComfyUI"))
    tree = await bring(target, home, comfyui.repository, settings, image, _Quiet())
    await in_thread(lambda: _furnish(home, image, tree))
    await in_thread(lambda: write_home(home, HomeRecord(current=tree)))


def _furnish(home: Path, image: Path, tree: TreeRecord) -> None:
    """Make what persists: the data folders, and in them what the image brings, its custom nodes too."""
    lay_data_folders(trees_folder(home) / tree.name, home)
    seeds = [file for name in _SEEDED for file in sorted((image / name).rglob("*")) if file.is_file()]
    custom_nodes = image / "custom_nodes"
    packs = sorted(custom_nodes.iterdir()) if custom_nodes.is_dir() else []
    seeds += [pack for pack in packs if pack.is_dir() and pack.name != "__pycache__"]
    for seed in seeds:
        place = home / seed.relative_to(image)
        if not os.path.lexists(place):
            copy_whole(seed, place, home)


def _image_of(home: Path, comfyui: ComfyUISettings, cwd: Path) -> Path | None:
    """Return the ComfyUI that is to be copied: the image's, by name or where images have it.

    Raises:
        ComfyUINotFound: there is none.
    """
    if (home / UNFINISHED_NAME).exists():
        raise ComfyUINotFound(
            "COMFYUI_HOME names a folder in which an install was not finished",
            hint="Run `comfyworker comfyui install --path` with that folder again; it goes on where it stopped.",
        )
    for place in (comfyui.image_path, *IMAGE_PLACES):
        path = current_tree(cwd / place) if place is not None else None
        if path is not None and path != home and is_home(path):
            return path
    raise ComfyUINotFound(
        "there is no ComfyUI in COMFYUI_HOME, and none of an image that could be placed there",
        hint="Set COMFYUI_IMAGE_PATH to the one in the image, or make one: `comfyworker comfyui install --path` with "
        "the folder that COMFYUI_HOME means.",
    )


def _newest_overlay(home: Path) -> Path | None:
    """Return the interpreter of the overlay that was used last, whatever it was made for."""
    folder = environments_folder(home)
    found = [entry for entry in folder.iterdir() if read_overlay(entry) is not None] if folder.is_dir() else []
    newest = max(found, key=lambda entry: entry.stat().st_mtime, default=None)
    return newest / "bin" / "python" if newest is not None else None


def _require_writable(home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)


def _note(text: str) -> None:
    log.info("home.noted", note=text)


class _Quiet:
    """An install's reporter for a worker that starts: its log tells enough."""

    def step(self, number: int, total: int, title: str) -> None:
        """Called when a step begins."""

    def line(self, text: str) -> None:
        """Called for a line of a program's output."""

    def note(self, text: str) -> None:
        """Called with a sentence."""
        _note(text)
