"""What a custom node wrote into its own folder at run time, taken along into its next version.

Packs keep settings, caches and models of gigabytes beside their code. They are hard links where the disk has them, so
nothing is copied, and the old folder stays as it was until the new one is in its place.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from comfyworker.provision.nodes.shelf import RECORD_NAME

TRACKING_NAME = ".tracking"
"""Where ComfyUI-Manager keeps the list of files of a node of the registry."""
_PASSED_OVER_FOLDERS = frozenset({".git", "__pycache__"})
_PASSED_OVER_FILES = (".pyc", ".draft")


def find_own_files(folder: Path, version_files: Collection[str]) -> list[str]:
    """Return the files and links below `folder` that did not come with its version, relative to it."""
    known = set(version_files)
    return [name for name in _walk(folder) if name not in known]


def carry_over(old: Path, new: Path, names: Collection[str]) -> list[str]:
    """Bring files of the old folder into the new one; return those that it has already with other content.

    What the new version brings itself stays as it brings it.
    """
    clashes = []
    for name in names:
        source, target = old / name, new / name
        if target.is_symlink() or target.exists():
            if not _is_same(source, target):
                clashes.append(name)
            continue
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError:
            clashes.append(name)  # A file of the new version stands where there was a folder.
            continue
        _bring(source, target)
    return clashes


def _walk(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        here = Path(place)
        linked = [name for name in folders if (here / name).is_symlink()]
        folders[:] = [name for name in folders if name not in _PASSED_OVER_FOLDERS and name not in linked]
        for name in [*files, *linked]:
            is_ours = here == folder and (name.startswith(RECORD_NAME) or name == TRACKING_NAME)
            # A submodule's `.git` is a file.
            if not is_ours and not name.endswith(_PASSED_OVER_FILES) and name not in _PASSED_OVER_FOLDERS:
                yield (here / name).relative_to(folder).as_posix()


def _is_same(source: Path, target: Path) -> bool:
    if source.is_symlink() or target.is_symlink():
        return source.is_symlink() and target.is_symlink() and source.readlink() == target.readlink()
    return target.is_file() and filecmp.cmp(source, target, shallow=False)


def _bring(source: Path, target: Path) -> None:
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    if not source.is_file():
        return  # A socket or a pipe of a process that is gone.
    try:
        os.link(source, target)
    except OSError:
        # Some network disks have no hard links.
        shutil.copy2(source, target)
