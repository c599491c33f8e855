"""Trees of ComfyUI's code, brought into a home from git, from the package or from the image.

A tree is made under a name of its own and renamed when it is whole, so that what has a tree's name is one. It is never
changed afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from comfyworker._version import __version__
from comfyworker.comfyui.finding import format_bytes
from comfyworker.comfyui.home import HomeRecord, TreeRecord, environments_folder, tree_path, trees_folder
from comfyworker.comfyui.install_record import DATA_FOLDERS, InstallRecord, write_whole
from comfyworker.comfyui.installing.protocol import InstallReporter
from comfyworker.comfyui.installing.request import DEFAULT_REF
from comfyworker.comfyui.installing.sources import bring_tree
from comfyworker.comfyui.installing.tree import copy_folder, make_data_folders, require_tree
from comfyworker.comfyui.locate import read_version
from comfyworker.errors import InstallFailed, InsufficientStorage, NodeInstallFailed
from comfyworker.provision.download import free_bytes
from comfyworker.provision.entries import LATEST, NodeEntry
from comfyworker.provision.nodes.git import Git
from comfyworker.provision.nodes.registry import Registry
from comfyworker.provision.nodes.resolving import Resolver
from comfyworker.provision.nodes.versions import same_release
from comfyworker.settings import ProvisionSettings

INCOMING_PREFIX = ".incoming-"
MAKING_PREFIX = ".making-"
MARGIN_BYTES = 64 * 1024 * 1024
"""What is left free on the disk beside what is known to be written."""
_KEPT_S = 24 * 3600.0
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")


class Target(BaseModel):
    """A version of ComfyUI that is wanted, as far as it is known before it is fetched."""

    model_config = ConfigDict(frozen=True)

    source: str
    """`git`, `package` or `image`."""
    ref: str | None = None
    commit: str | None = None
    git_ref: str | None = None
    """The whole name of the ref, as `refs/tags/v0.3.75`."""
    version: str | None = None
    folder: Path | None = None
    """The image's ComfyUI."""

    @property
    def name(self) -> str:
        """The name of the tree's folder."""
        if self.source == "git":
            return _UNSAFE.sub("-", f"{self.ref or 'commit'}-{(self.commit or '')[:12]}")
        return _UNSAFE.sub("-", f"{self.ref or self.version or 'unknown'}-{self.source}")

    @property
    def title(self) -> str:
        """What people call it."""
        if self.source == "image":
            return f"{self.version or 'of unknown version'} of the image"
        return self.ref or (self.commit or "")[:12]

    def is_tree(self, tree: TreeRecord) -> bool:
        """Tell whether a tree is this version already."""
        if self.commit is not None and tree.commit is not None:
            return self.commit == tree.commit
        return tree.name == self.name


async def resolve_git(wanted: str, repository: str, settings: ProvisionSettings, note: Callable[[str], None]) -> Target:
    """Return what `latest`, `nightly`, a tag, a branch or a commit of ComfyUI's repository is now.

    Raises:
        InstallFailed: there is no such version, with the nearest that there is; or the repository cannot be asked.
    """
    git = Git(limit_s=settings.git_timeout_s, token=settings.github_token)
    registry = Registry(
        settings.comfy_registry_url, connect_s=settings.connect_timeout_s, read_s=settings.read_timeout_s
    )
    entry = NodeEntry(url=repository, version=wanted)
    try:
        found = await Resolver(git, registry, note).resolve(entry, None)
    except NodeInstallFailed as error:
        raise _as_install(error) from error
    branch = (found.ref or "").removeprefix("refs/heads/")
    ref = found.release or (branch if branch != (found.ref or "") else None)
    return Target(source="git", ref=ref, commit=found.commit, git_ref=found.ref)


def package_target(wanted: str) -> Target:
    """Return the version that the package carries, if it is the one that is wanted.

    Raises:
        InstallFailed: it carries another one.
    """
    if wanted != LATEST and same_release(wanted, [DEFAULT_REF]) is None:
        raise InstallFailed(
            f"the package carries ComfyUI {DEFAULT_REF} only, not {wanted}",
            hint=f"Take `--to {DEFAULT_REF}`, or `--source git` where ComfyUI's repository can be reached.",
        )
    return Target(source="package", ref=DEFAULT_REF, version=DEFAULT_REF.removeprefix("v"))


def image_target(folder: Path | None) -> Target:
    """Return the version that the image carries.

    Raises:
        InstallFailed: there is no ComfyUI of an image.
    """
    if folder is None or not (folder / "main.py").is_file():
        raise InstallFailed(
            "there is no ComfyUI of an image: COMFYUI_IMAGE_PATH names none",
            hint="Take `--source git` or `--source package`.",
        )
    return Target(source="image", version=read_version(folder), folder=folder)


async def bring(
    target: Target, home: Path, repository: str, settings: ProvisionSettings, python: Path, reporter: InstallReporter
) -> TreeRecord:
    """Bring a tree into a home, if it is not there, and return what is to be noted of it.

    Args:
        target: Which version.
        home: The folder that ComfyUI lives in.
        repository: Where git fetches from.
        settings: How things are fetched.
        python: The interpreter whose pip fetches the package.
        reporter: Hears what is done.

    Raises:
        InstallFailed: it cannot be had.
        InsufficientStorage: the disk is full.
    """
    place = trees_folder(home) / target.name
    if not (place / "main.py").is_file():
        with named_disk_faults("ComfyUI's folder"):
            incoming = make_incoming(home)
            try:
                await _fetch(target, incoming, repository, settings, python, reporter)
                await asyncio.to_thread(_seal, incoming, target)
                await asyncio.to_thread(put_in_place, incoming, place)
            finally:
                await asyncio.to_thread(shutil.rmtree, incoming, ignore_errors=True)
    version = await asyncio.to_thread(read_version, place)
    return TreeRecord(name=target.name, version=version, ref=target.ref, commit=target.commit, source=target.source)


def make_incoming(home: Path) -> Path:
    """Return a new folder for a tree that is not whole yet."""
    incoming = trees_folder(home) / f"{INCOMING_PREFIX}{secrets.token_hex(4)}"
    incoming.mkdir(parents=True)
    return incoming


def put_in_place(incoming: Path, place: Path) -> None:
    """Give a whole tree its name; if another worker was faster, its tree stays. Blocks."""
    try:
        incoming.rename(place)
    except OSError:
        if not (place / "main.py").is_file():
            raise


def lay_data_folders(tree: Path, home: Path) -> None:
    """Make the folders of a home that persist, and put into them what came with a tree and is not there. Blocks.

    Files of the user's are left as they are.
    """
    make_data_folders(home)
    for name in DATA_FOLDERS:
        for file in sorted((tree / name).rglob("*")):
            place = home / name / file.relative_to(tree / name)
            if file.is_file() and not os.path.lexists(place):
                copy_whole(file, place, home)


def copy_whole(source: Path, place: Path, home: Path) -> None:
    """Copy a file or a folder into a home, so that there is nothing of that name or all of it. Blocks."""
    draft = trees_folder(home) / f"{INCOMING_PREFIX}{secrets.token_hex(4)}"
    draft.parent.mkdir(parents=True, exist_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        if source.is_dir():
            shutil.copytree(source, draft, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, draft)
        draft.replace(place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def prune(home: Path, record: HomeRecord) -> tuple[str, ...]:
    """Remove trees and overlays that are neither current nor previous, and what killed workers left; return the trees.

    What is younger than a day stays: a worker that has a long job may still run from it. Blocks.
    """
    kept = {record.current.name} | ({record.previous.name} if record.previous else set())
    removed = []
    for folder in (*_old(trees_folder(home), kept), *_old_overlays(home)):
        shutil.rmtree(folder, ignore_errors=True)
        if folder.parent == trees_folder(home) and not folder.name.startswith("."):
            removed.append(folder.name)
    return tuple(removed)


def clear_leftovers(home: Path) -> None:
    """Remove what killed workers left in the middle; only for the one who is alone in a home. Blocks."""
    left = [*_named(trees_folder(home), INCOMING_PREFIX), *_named(environments_folder(home), MAKING_PREFIX)]
    for entry in left:
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def require_room(home: Path, needed_bytes: int, what: str) -> None:
    """See that a disk has room. Blocks.

    Raises:
        InsufficientStorage: it has not.
    """
    free = free_bytes(home)
    if free < needed_bytes + MARGIN_BYTES:
        raise InsufficientStorage(
            f"the disk has no room for {what}: about {format_bytes(needed_bytes + MARGIN_BYTES)} are needed, and "
            f"{format_bytes(free)} are free",
            hint="Free some space there (`comfyworker models prune` may find some), or use a larger volume.",
            details={"wanted_bytes": needed_bytes + MARGIN_BYTES, "free_bytes": free},
        )


def size_of(folder: Path) -> int:
    """Return the bytes of the files in a tree, data folders and environments left out. Blocks."""
    total = 0
    for root, folders, names in os.walk(folder):
        if Path(root) == folder:
            folders[:] = [name for name in folders if name not in {*DATA_FOLDERS, ".git", ".venv", "venv"}]
        folders[:] = [name for name in folders if name not in {"__pycache__", ".comfyworker"}]
        total += sum((Path(root) / name).lstat().st_size for name in names)
    return total


@contextlib.contextmanager
def named_disk_faults(what: str) -> Iterator[None]:
    """Translate what a disk refuses; `what` is what was being written to.

    Raises:
        InsufficientStorage: it is full.
        InstallFailed: it cannot be written.
    """
    try:
        yield
    except (OSError, shutil.Error) as error:
        raise _disk_fault(error, what) from error


def _disk_fault(error: OSError, what: str) -> InsufficientStorage | InstallFailed:
    # copytree gathers what failed as text.
    is_full = error.errno in _FULL or (isinstance(error, shutil.Error) and "Errno 28]" in str(error.args))
    if is_full:
        return InsufficientStorage(
            f"the disk of {what} is full", hint="Free some space there, or use a larger volume, and start again."
        )
    return InstallFailed(
        f"{what} cannot be written: {error.strerror or 'some files could not be copied'}",
        hint="The worker's user must be able to write to it.",
    )


async def _fetch(
    target: Target,
    incoming: Path,
    repository: str,
    settings: ProvisionSettings,
    python: Path,
    reporter: InstallReporter,
) -> None:
    if target.source == "image" and target.folder is not None:
        await asyncio.to_thread(copy_folder, target.folder, incoming)
        return
    if target.source == "package":
        await bring_tree("package", DEFAULT_REF, incoming, python, reporter)
        return
    git = Git(limit_s=settings.git_timeout_s, token=settings.github_token)
    try:
        await git.fetch_commit(incoming, repository, target.commit or "", ref=target.git_ref, on_line=reporter.line)
    except NodeInstallFailed as error:
        raise _as_install(error) from error
    require_tree(incoming, f"the repository at {target.title}")


def _seal(tree: Path, target: Target) -> None:
    record = InstallRecord(
        source=target.source, ref=target.ref, commit=target.commit, is_cpu=False, version=read_version(tree),
        worker=__version__, done=("tree",),
    )  # fmt: skip
    write_whole(tree, record)


def _as_install(error: NodeInstallFailed) -> InstallFailed:
    return InstallFailed(
        f"ComfyUI's repository: {error.message}", hint=error.hint, details=error.details, retryable=error.retryable
    )


def _named(folder: Path, prefix: str) -> list[Path]:
    return [entry for entry in folder.iterdir() if entry.name.startswith(prefix)] if folder.is_dir() else []


def _old(folder: Path, kept: set[str]) -> Iterator[Path]:
    """Yield the trees that nobody needs any more."""
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.name not in kept and time.time() - entry.stat().st_mtime > _KEPT_S:
            yield entry


def _old_overlays(home: Path) -> Iterator[Path]:
    """Yield the overlays that no worker has used for long; each start with one touches it."""
    folder = environments_folder(home)
    for entry in folder.iterdir() if folder.is_dir() else ():
        limit_s = _KEPT_S if entry.name.startswith(".") else 30 * _KEPT_S
        if time.time() - entry.stat().st_mtime > limit_s:
            yield entry


def tree_of(home: Path, record: TreeRecord) -> Path:
    """Return where a tree lies.

    Raises:
        InstallFailed: it is gone.
    """
    path = tree_path(home, record.name)
    if not (path / "main.py").is_file():
        raise InstallFailed(
            f"ComfyUI {record.title}, which was there before, is gone from its folder",
            hint="`comfyworker comfyui update --to` brings a version anew.",
        )
    return path
