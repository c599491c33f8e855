"""Where ComfyUI looks for models, and in which order: so also which file a name means."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from comfyworker.comfyui.locate import Installation
from comfyworker.comfyui.model_folders import EXTRA_PATHS_NAME
from comfyworker.comfyui.model_kinds import CORE_KINDS, LEGACY_NAMES
from comfyworker.comfyui.slots import folders_from_args

_EXTRA_FLAG = "--extra-model-paths-config"
_SEARCHED_FIRST = {"diffusion_models": "unet"}
"""Of two folders for one kind ComfyUI looks into the older one first here (its `folder_paths.py`)."""


class ModelFile(BaseModel):
    """A model file as it is now."""

    model_config = ConfigDict(frozen=True)

    kind: str
    name: str
    """Below the folder of its kind, as a workflow names it."""
    path: Path
    size_bytes: int
    mtime_ns: int
    device: int
    """The file system that it lies on, as this machine numbers it."""

    @property
    def content(self) -> tuple[str, int, int]:
        """What tells it from a later file of the same path."""
        return str(self.path), self.size_bytes, self.mtime_ns


class SearchOrder(BaseModel):
    """The folders that ComfyUI looks through for each kind of model, the first one first."""

    model_config = ConfigDict(frozen=True)

    folders: dict[str, tuple[Path, ...]]
    """By kind."""
    volumes: tuple[Path, ...] = ()
    """Which folders are on volumes, with all below them."""

    @property
    def digest(self) -> str:
        """A short name for it: the same for all who look into the same folders."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    def find(self, kind: str, name: str) -> ModelFile | None:
        """Return the file that ComfyUI would load, local copies left out; None if there is none. Blocks.

        Wire source: ComfyUI `folder_paths.py`, get_full_path.

        Raises:
            OSError: a folder cannot be read now.
        """
        plain = os.path.relpath(os.path.join("/", name.replace("\\", "/")), "/")  # noqa: PTH118  # as ComfyUI does it
        for folder in self.folders.get(LEGACY_NAMES.get(kind, kind), ()):
            path = folder / plain
            try:
                found = path.stat()
            except (FileNotFoundError, NotADirectoryError, ValueError):  # the last for a name with a zero byte
                continue
            if stat.S_ISREG(found.st_mode):
                return ModelFile(
                    kind=LEGACY_NAMES.get(kind, kind),
                    name=plain,
                    path=path,
                    size_bytes=found.st_size,
                    mtime_ns=found.st_mtime_ns,
                    device=found.st_dev,
                )
        return None

    def find_anywhere(self, name: str) -> ModelFile | None:
        """Return the first file of that name, of whichever kind; for names whose kind is not known. Blocks.

        Raises:
            OSError: a folder cannot be read now.
        """
        return next((found for kind in self.folders if (found := self.find(kind, name)) is not None), None)

    def is_on_volume(self, path: Path) -> bool:
        """Tell whether a file lies on one of the volumes."""
        return any(path.is_relative_to(volume) for volume in self.volumes)


def order_of(
    installation: Installation, args: Sequence[str], paths: Mapping[str, Sequence[Path]], volumes: Sequence[Path]
) -> SearchOrder:
    """Return the search order of a ComfyUI that is started here. Blocks for a moment.

    Args:
        installation: The ComfyUI.
        args: COMFYUI_ARGS.
        paths: What the worker tells it of volumes: folders by kind.
        volumes: The folders on volumes, each with kinds below it.
    """
    own = folders_from_args(installation.base_dir, tuple(args)).models
    found = _own_folders(own or installation.base_dir / "models")
    for file in (installation.path / EXTRA_PATHS_NAME, *_named_files(args, installation.base_dir)):
        for kind, folder, is_first in _read_extra_paths(file):
            _add(found, kind, folder, is_first=is_first)
    for kind, folders in paths.items():
        for folder in folders:
            _add(found, kind, folder, is_first=False)
    return SearchOrder(
        folders={kind: tuple(folders) for kind, folders in found.items()},
        volumes=tuple(dict.fromkeys((*volumes, *(path.resolve() for path in volumes)))),
    )


def order_of_folders(own_models: Path, paths: Mapping[str, Sequence[Path]], volumes: Sequence[Path]) -> SearchOrder:
    """Return the likely search order of a ComfyUI that others have started, and whose files lie on this disk."""
    found = _own_folders(own_models)
    for kind, folders in paths.items():
        for folder in folders:
            _add(found, kind, folder, is_first=False)
    return SearchOrder(folders={kind: tuple(folders) for kind, folders in found.items()}, volumes=tuple(volumes))


def _own_folders(models: Path) -> dict[str, list[Path]]:
    return {
        kind: [models / name for name in sorted(names, key=lambda name: name != _SEARCHED_FIRST.get(kind))]
        for kind, names in CORE_KINDS.items()
    }


def _add(found: dict[str, list[Path]], kind: str, folder: Path, *, is_first: bool) -> None:
    """Add a folder as ComfyUI does (`folder_paths.py`, add_model_folder_path)."""
    folders = found.setdefault(LEGACY_NAMES.get(kind, kind), [])
    if folder in folders:
        if not is_first:
            return
        folders.remove(folder)
    folders.insert(0 if is_first else len(folders), folder)


def _named_files(args: Sequence[str], base_dir: Path) -> Iterator[Path]:
    """Yield the files that `--extra-model-paths-config` names; it takes several, and may stand there twice."""
    is_open = False
    for arg in args:
        flag, equals, value = arg.partition("=")
        if flag.startswith("-"):
            is_open = flag == _EXTRA_FLAG
            if is_open and equals:
                yield base_dir / value
        elif is_open:
            yield base_dir / arg


def _read_extra_paths(file: Path) -> Iterator[tuple[str, Path, bool]]:
    """Yield kind, folder, and whether it goes before all others, as ComfyUI reads them (`utils/extra_config.py`).

    A file that cannot be read names nothing: it is ComfyUI that says what is wrong with it.
    """
    if not file.is_file():
        return
    import yaml  # noqa: PLC0415  # few have such a file

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return
    sections = content.values() if isinstance(content, dict) else ()
    for section in (section for section in sections if isinstance(section, dict)):
        base = file.parent.absolute()
        if section.get("base_path"):
            base = base / os.path.expandvars(Path(str(section["base_path"])).expanduser())
        for kind, lines in section.items():
            if kind in ("base_path", "is_default") or not isinstance(lines, str):
                continue
            for line in filter(None, lines.split("\n")):
                yield str(kind), Path(os.path.normpath(base / line)), bool(section.get("is_default"))
