"""What an install leaves in ComfyUI's folder, so that a half-made one is never taken for a whole one.

Two files, of which the unfinished one always wins: it is written before anything is changed and removed last.
A ComfyUI that somebody made by hand has neither.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

WHOLE_NAME = ".comfyworker-install.json"
UNFINISHED_NAME = ".comfyworker-unfinished.json"
LOCK_NAME = ".comfyworker-install.lock"
OWN_PREFIX = ".comfyworker"
HOME_NOTE = Path(".comfyworker/comfyui.json")
"""In a home whose trees of code are kept beside each other: says which of them is the current one."""

DATA_FOLDERS = ("models", "input", "output", "temp", "user", "custom_nodes")
"""Folders of ComfyUI that hold what is the user's: an install makes them and never empties them."""


class FolderState(StrEnum):
    """What a folder holds, as far as an install is concerned."""

    EMPTY = "empty"
    """Nothing, or only data folders: an install may begin."""
    UNFINISHED = "unfinished"
    """An install that was interrupted or failed."""
    WHOLE = "whole"
    """An install that was finished and proven."""
    FOREIGN = "foreign"
    """A ComfyUI that was not made by an install of ours."""
    HOME = "home"
    """A ComfyUI whose versions are kept beside each other (see home.py): `comfyui update` changes it."""
    OTHER = "other"
    """Something that is no ComfyUI."""


class InstallRecord(BaseModel):
    """What was, or is being, installed in a folder."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    source: str
    """`git`, `package`, or the folder that was copied."""
    ref: str | None = None
    """Git tag, branch or commit, as it was asked for."""
    commit: str | None = None
    """The commit that this was, where git said so."""
    is_cpu: bool
    """Whether torch is a build without GPU."""
    interpreter: str = ""
    """The Python that the environment was made with."""
    done: tuple[str, ...] = ()
    """Parts that need not be made again: `tree`, `packages`."""
    entries: tuple[str, ...] = ()
    """Names in the folder that came with the tree, so that a new install can take them away."""
    version: str | None = None
    """ComfyUI's version."""
    torch: str | None = None
    """torch's version, as torch says it."""
    worker: str | None = None
    """Version of the worker that made the install."""

    def is_same_request(self, other: InstallRecord) -> bool:
        """Tell whether both ask for the same ComfyUI, so that what one has done serves the other."""
        fields = {"source", "ref", "is_cpu", "interpreter"}
        return self.model_dump(include=fields) == other.model_dump(include=fields)


def read_state(folder: Path) -> FolderState:
    """Return what `folder` holds; one that is not there counts as empty."""
    if not folder.exists():
        return FolderState.EMPTY
    if not folder.is_dir():
        return FolderState.OTHER
    names = {entry.name for entry in folder.iterdir()}
    if (folder / HOME_NOTE).is_file():
        return FolderState.HOME
    if UNFINISHED_NAME in names:
        return FolderState.UNFINISHED
    if "main.py" in names:
        return FolderState.WHOLE if WHOLE_NAME in names else FolderState.FOREIGN
    others = {name for name in names - set(DATA_FOLDERS) if not name.startswith(OWN_PREFIX)}
    return FolderState.OTHER if others else FolderState.EMPTY


def read_record(folder: Path) -> InstallRecord | None:
    """Return what an install noted in `folder`, or None if there is no note that can be read."""
    for name in (UNFINISHED_NAME, WHOLE_NAME):
        try:
            return InstallRecord.model_validate_json((folder / name).read_bytes())
        except FileNotFoundError:
            continue
        except (ValidationError, OSError):
            return None
    return None


def write_unfinished(folder: Path, record: InstallRecord) -> None:
    """Note that an install is under way in `folder`, and what of it is done."""
    _write(folder / UNFINISHED_NAME, record)
    (folder / WHOLE_NAME).unlink(missing_ok=True)


def write_whole(folder: Path, record: InstallRecord) -> None:
    """Note that the install in `folder` is finished."""
    _write(folder / WHOLE_NAME, record)
    (folder / UNFINISHED_NAME).unlink(missing_ok=True)


def _write(path: Path, record: InstallRecord) -> None:
    # Renamed into place, and on the disk before that: after a power cut the note is either whole or not there.
    draft = path.with_name(f"{path.name}.draft")
    with draft.open("wb") as file:
        file.write(record.model_dump_json(indent=2).encode())
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
