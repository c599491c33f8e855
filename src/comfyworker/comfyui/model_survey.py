"""What lies in a place for models: files counted by kind, and those that ComfyUI will not find or cannot load.

Walking a network volume is slow, so a survey ends after a number of entries, and says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from pydantic import BaseModel, ConfigDict

from comfyworker.comfyui.model_kinds import (
    CORE_KINDS,
    MODEL_ENDINGS,
    PACK_ENDINGS,
    kind_of_folder,
    nearest_folder,
)
from comfyworker.comfyui.model_places import ModelPlace, is_folder

MOST_ENTRIES = 20_000
"""How many files and folders one survey looks at."""
_MOST_DEPTH = 6
_MOST_NAMES = 10
_SMALLEST_MODEL_BYTES = 1024
_UNFINISHED = frozenset({".part", ".partial", ".aria2", ".crdownload", ".download", ".incomplete", ".tmp"})
_PACKED = frozenset({".zip", ".rar", ".7z", ".tar", ".gz", ".tgz", ".zst"})
_ANY_MODEL = MODEL_ENDINGS | PACK_ENDINGS


class FolderSurvey(BaseModel):
    """One folder for one kind of model."""

    model_config = ConfigDict(frozen=True)

    kind: str
    path: Path
    files: int
    size_bytes: int
    names: tuple[str, ...]
    """The first ones, relative to the folder."""


class Doubt(BaseModel):
    """One file or folder that is not as ComfyUI needs it."""

    model_config = ConfigDict(frozen=True)

    path: str
    text: str
    advice: str


class PlaceSurvey(BaseModel):
    """One place, looked through."""

    model_config = ConfigDict(frozen=True)

    place: ModelPlace
    folders: tuple[FolderSurvey, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    is_complete: bool = True
    """Whether all was looked at, or the limit was reached."""

    @property
    def files(self) -> int:
        """How many models there are."""
        return sum(folder.files for folder in self.folders)

    @property
    def size_bytes(self) -> int:
        """How large they are together."""
        return sum(folder.size_bytes for folder in self.folders)


class _Walk:
    """Counts the entries that are looked at, and ends when there were enough."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._seen: set[tuple[int, int]] = set()
        self.is_complete = True

    def files(self, top: Path, depth: int = _MOST_DEPTH) -> Iterator[tuple[Path, int | None]]:
        """Yield each file below `top` with its size in bytes, None for a link that leads nowhere."""
        if depth == 0 or not self._is_new(top):
            return
        for entry in self.entries(top):
            if is_folder(entry):
                yield from self.files(Path(entry.path), depth - 1)
                continue
            try:
                yield Path(entry.path), entry.stat().st_size
            except OSError:
                yield Path(entry.path), None

    def entries(self, folder: Path) -> Iterator[os.DirEntry[str]]:
        """Yield what is in a folder, by name; nothing if it cannot be read, and hidden entries are passed over."""
        try:
            with os.scandir(folder) as found:
                entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda one: one.name)
        except OSError:
            return
        for entry in entries:
            if self._left <= 0:
                self.is_complete = False
                return
            self._left -= 1
            yield entry

    def _is_new(self, folder: Path) -> bool:
        # Links may lead back to where the walk came from.
        try:
            status = folder.stat()
        except OSError:
            return False
        key = (status.st_dev, status.st_ino)
        is_new = key not in self._seen
        self._seen.add(key)
        return is_new


def survey_place(place: ModelPlace, *, most_entries: int = MOST_ENTRIES) -> PlaceSurvey:
    """Look through a place; blocks as long as its disk takes for at most `most_entries` files and folders."""
    walk = _Walk(most_entries)
    folders: list[FolderSurvey] = []
    doubts: list[Doubt] = []
    if all(tree.path != place.root for tree in place.trees):
        doubts += _misplaced(place.root, walk, also=("models", "ComfyUI"))
    for tree in place.trees:
        doubts += _misplaced(tree.path, walk)
    for tree in place.trees:
        for name in tree.folders:
            folder, odd = _survey_folder(tree.path / name, kind_of_folder(name) or name, walk)
            folders.append(folder)
            doubts += odd
    return PlaceSurvey(place=place, folders=tuple(folders), doubts=tuple(doubts), is_complete=walk.is_complete)


def _survey_folder(path: Path, kind: str, walk: _Walk) -> tuple[FolderSurvey, list[Doubt]]:
    count, size_bytes, names, doubts = 0, 0, list[str](), list[Doubt]()
    for file, size in walk.files(path):
        doubt = _doubt(file, size, kind)
        doubts += [doubt] if doubt is not None else []
        if file.suffix.lower() in _endings(kind) and size is not None:
            count, size_bytes = count + 1, size_bytes + size
            names += [_shown(file.relative_to(path))] if len(names) < _MOST_NAMES else []
    return FolderSurvey(kind=kind, path=path, files=count, size_bytes=size_bytes, names=tuple(names)), doubts


def _endings(kind: str) -> frozenset[str]:
    return frozenset({".yaml"}) if kind == "configs" else _ANY_MODEL


def _doubt(path: Path, size_bytes: int | None, kind: str) -> Doubt | None:
    ending = path.suffix.lower()
    if size_bytes is None:
        return Doubt(path=_shown(path), text="is a link that leads nowhere", advice="Put the file itself there.")
    if ending in _UNFINISHED:
        return Doubt(path=_shown(path), text="is a download that was not finished", advice="Download it again.")
    if ending in _PACKED:
        return Doubt(path=_shown(path), text="is packed", advice="Unpack it: ComfyUI loads no archives.")
    if ending in MODEL_ENDINGS and size_bytes < _SMALLEST_MODEL_BYTES:
        advice = "Download it again: it may be a Git LFS pointer or an error page."
        return Doubt(path=_shown(path), text=f"has only {size_bytes} bytes", advice=advice)
    if kind in CORE_KINDS and ending in PACK_ENDINGS:
        return Doubt(
            path=_shown(path),
            text=f"ends in {ending}, which ComfyUI's own loaders do not offer",
            advice="Use the loader of the node pack for it, as ComfyUI-GGUF's for .gguf.",
        )
    return None


def _misplaced(folder: Path, walk: _Walk, *, also: Sequence[str] = ()) -> Iterator[Doubt]:
    """Yield models that lie beside the folders for kinds, and folders whose names are nearly a kind's."""
    for entry in walk.entries(folder):
        path = _shown(Path(entry.path))
        if not is_folder(entry):
            if PurePath(entry.name).suffix.lower() in _ANY_MODEL:
                advice = "Move it into the folder for its kind, as models/checkpoints or models/loras."
                yield Doubt(path=path, text="lies in no folder for a kind of model", advice=advice)
        elif not kind_of_folder(entry.name) and (nearest := nearest_folder(entry.name, also=also)):
            advice = f"Rename it to {nearest}, if that is what it holds."
            yield Doubt(path=path, text="has no name that ComfyUI knows", advice=advice)


def _shown(path: Path) -> str:
    """Return a path as text, whatever bytes its name has."""
    return os.fsencode(path).decode(errors="replace")
