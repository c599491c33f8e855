"""The folder custom_nodes: what lies in it, and how a custom node gets in and out of it in one step.

ComfyUI loads each folder whose name does not end in `.disabled`, names with a dot before them too. So all that is
unfinished lies in one folder of that ending, in custom_nodes itself: only within one file system is a rename atomic.
"""

from __future__ import annotations

import os
import secrets
import shutil
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from comfyworker.provision.nodes.records import PlacedNode
from comfyworker.replacing import replace_file

DISABLED = ".disabled"
WORKPLACE = f".comfyworker{DISABLED}"
RECORD_NAME = ".comfyworker-node.json"
_NEW = "new-"
_OLD = "old-"


class Shelf:
    """The custom_nodes of one ComfyUI; one process at a time works in it."""

    def __init__(self, custom_nodes: Path) -> None:
        """Name the folder; it is made when something is placed."""
        self.path = custom_nodes
        self._workplace = custom_nodes / WORKPLACE

    def names(self) -> list[str]:
        """Return the folders that ComfyUI would load."""
        if not self.path.is_dir():
            return []
        folders = (entry.name for entry in self.path.iterdir() if entry.is_dir())
        return sorted(name for name in folders if not name.endswith(DISABLED) and name != "__pycache__")

    def find(self, folder: str) -> str | None:
        """Return the name under which `folder` lies there, letter case apart; None if it does not.

        A registry's name and a repository's often differ in letter case only, and both would be loaded.
        """
        names = self.names()
        return folder if folder in names else next((name for name in names if name.lower() == folder.lower()), None)

    def read(self, folder: str) -> PlacedNode | None:
        """Return what is noted of a folder, or None if it is not ours."""
        return read_record(self.path / folder)

    def recover(self) -> list[str]:
        """Put back what a process that was killed had taken out, clear its leftovers, return the folders put back."""
        if not self._workplace.is_dir():
            return []
        put_back = []
        for entry in sorted(self._workplace.iterdir()):
            target = self.path / entry.name.removeprefix(_OLD).rpartition("-")[0]
            if entry.name.startswith(_OLD) and not target.exists():
                entry.rename(target)
                put_back.append(target.name)
            elif entry.name.startswith((_OLD, _NEW)):
                remove_tree(entry)
        return put_back

    def make_staging(self, folder: str) -> Path:
        """Return a new empty folder in which a custom node is made."""
        self._workplace.mkdir(parents=True, exist_ok=True)
        staging = self._workplace / f"{_NEW}{folder}-{secrets.token_hex(4)}"
        staging.mkdir()
        return staging

    def swap_in(self, staging: Path, folder: str, *, keep_old: bool) -> str | None:
        """Put `staging` in the place of `folder`; return the name that the old one was kept under, if it was.

        Killed between the two renames, `recover` puts the old one back.
        """
        target = self.path / folder
        if not target.exists():
            staging.rename(target)
            return None
        old = self._workplace / f"{_OLD}{folder}-{secrets.token_hex(4)}"
        target.rename(old)
        staging.rename(target)
        if keep_old:
            return self.set_aside(old, folder)
        remove_tree(old)
        return None

    def set_aside(self, path: Path, folder: str) -> str:
        """Rename a folder to one that ComfyUI does not load, beside the others; return its new name."""
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        name = f"{folder}.{stamp}{DISABLED}"
        if (self.path / name).exists():
            name = f"{folder}.{stamp}-{secrets.token_hex(2)}{DISABLED}"
        path.rename(self.path / name)
        return name

    def disable(self, folder: str) -> None:
        """Rename a folder so that ComfyUI passes it over; an older one of that name is set aside."""
        disabled = self.path / f"{folder}{DISABLED}"
        if disabled.exists():
            self.set_aside(disabled, folder)
        (self.path / folder).rename(disabled)

    def enable(self, folder: str) -> None:
        """Rename a disabled folder back."""
        (self.path / f"{folder}{DISABLED}").rename(self.path / folder)


def read_record(path: Path) -> PlacedNode | None:
    """Return what is noted in a custom node's folder, or None if there is no note that can be read."""
    try:
        return PlacedNode.model_validate_json((path / RECORD_NAME).read_bytes())
    except (OSError, ValidationError):
        return None


def write_record(path: Path, record: PlacedNode) -> None:
    """Note in a custom node's folder what it is."""
    replace_file(path / RECORD_NAME, record.model_dump_json(indent=1).encode(), is_durable=True)
    exclude = path / ".git" / "info" / "exclude"
    if (path / ".git").is_dir() and RECORD_NAME not in (exclude.read_text("utf-8") if exclude.is_file() else ""):
        exclude.parent.mkdir(exist_ok=True)
        with exclude.open("a", encoding="utf-8") as file:
            file.write(f"\n{RECORD_NAME}*\n")


def remove_tree(path: Path) -> None:
    """Remove a folder or file with all in it, what may not be written included; what is gone already is no fault."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    shutil.rmtree(path, ignore_errors=True)
    if not path.exists():
        return
    # git's objects, and what some packs unpack, may lie in folders without the right to write.
    for place, _, _ in os.walk(path):
        Path(place).chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)
