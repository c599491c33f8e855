"""Bringing custom nodes into custom_nodes: made whole aside, then put in place; what a user changed is never lost."""

from __future__ import annotations

import asyncio
import errno
import hashlib
from enum import StrEnum
from pathlib import Path

from comfyworker.comfyui.running import CommandFailed
from comfyworker.errors import NodeInstallFailed
from comfyworker.provision.nodes.archive import extract_archive
from comfyworker.provision.nodes.carrying import TRACKING_NAME, carry_over, find_own_files
from comfyworker.provision.nodes.git import Git, count_lfs_pointers
from comfyworker.provision.nodes.records import PlacedNode, ResolvedNode
from comfyworker.provision.nodes.registry import Registry, Release
from comfyworker.provision.nodes.remotes import same_remote, show_url
from comfyworker.provision.nodes.shelf import DISABLED, Shelf, read_record, remove_tree, write_record
from comfyworker.provision.reporting import ProvisionReporter

_LISTED = 5


class _Standing(StrEnum):
    """What a folder is to the custom node that shall be in it."""

    OURS = "ours"
    SAME_REMOTE = "same remote"
    """Somebody cloned the same repository by hand."""
    FOREIGN = "foreign"


class Placer:
    """Places custom nodes on a shelf."""

    def __init__(self, shelf: Shelf, git: Git, registry: Registry, reporter: ProvisionReporter) -> None:
        """Keep where to place, whom to ask and who is told."""
        self._shelf = shelf
        self._git = git
        self._registry = registry
        self._reporter = reporter

    async def place(self, node: ResolvedNode, *, anew: bool) -> bool:
        """See that a custom node is in its folder at its version; return whether anything was done.

        With `anew` it is made anew even if it is there, for a folder that has lost files.

        Raises:
            NodeInstallFailed: it could not be had, or its folder holds something else; what was there is still there.
            OSError: custom_nodes cannot be written.
        """
        self._shelf.path.mkdir(parents=True, exist_ok=True)
        name = self._existing_name(node.folder)
        if name is not None and await self._is_there(node, name) and not anew:
            if name == node.folder:
                return False
            self._shelf.enable(node.folder)
            self._step(node, "enabled again")
            return True
        staging = self._shelf.make_staging(node.folder)
        try:
            await self._make(node, staging)
            await self._put_in(node, staging, name)
        finally:
            if staging.exists():
                await asyncio.to_thread(remove_tree, staging)
        return True

    def _existing_name(self, folder: str) -> str | None:
        other = self._shelf.find(folder)
        if other is not None and other != folder:
            raise NodeInstallFailed(
                f"custom_nodes has a folder '{other}', which differs from '{folder}' in letter case only",
                hint=f"ComfyUI would load both: rename it to '{folder}' if it is the same, or remove it.",
            )
        if (self._shelf.path / folder).exists() or (self._shelf.path / folder).is_symlink():
            return folder
        disabled = f"{folder}{DISABLED}"
        return disabled if (self._shelf.path / disabled).is_dir() else None

    async def _is_there(self, node: ResolvedNode, name: str) -> bool:
        """Tell whether the folder `name` is the version already; a clone made by hand becomes ours then."""
        path = self._shelf.path / name
        standing = await self._standing(node, path)
        if standing is _Standing.FOREIGN:
            if name.endswith(DISABLED):
                return False
            raise await self._refuse(node, path)
        record = read_record(path)
        if record is not None and record.locked.digest != node.digest:
            return False
        if node.commit is None:
            if record is not None and record.locked != node.lock():
                write_record(path, record.model_copy(update={"locked": node.lock()}))
            return record is not None
        if await self._git.read_head(path) != node.commit:
            return False
        changes = await self._changes(path)
        if changes:
            self._reporter.noted(f"{node.folder}: files were changed by hand and stay so: {_list(changes)}.")
        is_done = record is not None and record.is_script_done
        if record is None or record.locked != node.lock():
            write_record(path, PlacedNode(locked=node.lock(), is_script_done=is_done))
        return True

    async def _standing(self, node: ResolvedNode, path: Path) -> _Standing:
        if _is_link(path):
            return _Standing.FOREIGN
        if read_record(path) is not None:
            return _Standing.OURS
        remote = await self._git.read_remote(path)
        if remote is not None and node.url is not None and same_remote(remote, node.url):
            return _Standing.SAME_REMOTE
        return _Standing.FOREIGN

    async def _make(self, node: ResolvedNode, staging: Path) -> None:
        if node.commit is not None and node.url is not None:
            self._step(node, f"git fetch {show_url(node.url)}")
            await self._git.fetch_commit(
                staging, node.url, node.commit, ref=node.ref, on_line=lambda line: self._step(node, line)
            )
            pointers = await asyncio.to_thread(count_lfs_pointers, staging)
            if pointers:
                self._reporter.noted(
                    f"{node.folder}: {pointers} of its files are only pointers of Git LFS; install git-lfs for them."
                )
            write_record(staging, PlacedNode(locked=node.lock()))
            return
        await self._unpack(node, staging)

    async def _unpack(self, node: ResolvedNode, staging: Path) -> None:
        name = node.name or node.folder
        self._step(node, f"download {name} {node.release}")
        release = Release(version=node.release or "", downloadUrl=node.download_url or "")
        archive = staging.with_name(f"{staging.name}.zip")
        try:
            await self._registry.download(release, name, archive)
            files = await asyncio.to_thread(extract_archive, archive, staging)
        finally:
            archive.unlink(missing_ok=True)
        # ComfyUI-Manager knows a node of the registry, and which files came with it, by this list.
        (staging / TRACKING_NAME).write_text("\n".join(files), encoding="utf-8")
        write_record(staging, PlacedNode(locked=node.lock(), files=files))

    async def _put_in(self, node: ResolvedNode, staging: Path, name: str | None) -> None:
        if name is None or (name.endswith(DISABLED) and await self._is_foreign(node, name)):
            self._shelf.swap_in(staging, node.folder, keep_old=False)
            return
        old = self._shelf.path / name
        version_files, changes = await self._look_at(old)
        own = await asyncio.to_thread(find_own_files, old, version_files)
        clashes = await asyncio.to_thread(carry_over, old, staging, own)
        if name.endswith(DISABLED):
            self._shelf.enable(node.folder)
        kept = await asyncio.to_thread(self._shelf.swap_in, staging, node.folder, keep_old=bool(changes or clashes))
        if kept:
            self._reporter.noted(
                f"{node.folder}: files were changed by hand ({_list([*changes, *clashes])}); the folder as it was is "
                f"kept as custom_nodes/{kept}."
            )

    async def _is_foreign(self, node: ResolvedNode, name: str) -> bool:
        return await self._standing(node, self._shelf.path / name) is _Standing.FOREIGN

    async def _look_at(self, old: Path) -> tuple[set[str], list[str]]:
        """Return the files that came with the version in `old`, and what a user changed in it."""
        record = read_record(old)
        if record is not None and record.locked.commit is None:
            return set(record.files), await asyncio.to_thread(_changed_files, old, record.files)
        try:
            files = await self._git.list_files(old)
        except CommandFailed:
            return set(), ["what git keeps of it is damaged"]
        changes = await self._changes(old)
        head = await self._git.read_head(old)
        if record is not None:
            if head != record.locked.commit:
                changes.append("another commit is checked out")
        elif await self._git.has_own_commits(old):
            changes.append("commits that its remote does not have")
        return files, changes

    async def _changes(self, path: Path) -> list[str]:
        try:
            return await self._git.list_changes(path)
        except CommandFailed:
            return ["what git keeps of it is damaged"]

    async def _refuse(self, node: ResolvedNode, path: Path) -> NodeInstallFailed:
        is_link = _is_link(path)
        remote = None if is_link else await self._git.read_remote(path)
        what = "a link" if is_link else f"from '{show_url(remote)}'" if remote else "not from git"
        return NodeInstallFailed(
            f"custom_nodes has a folder '{node.folder}' already, which is {what}, and not what config.yml names",
            hint="It is left alone. Rename or remove it, or take the entry out of config.yml.",
        )

    def _step(self, node: ResolvedNode, text: str) -> None:
        self._reporter.stepped(node.item(), text)


def _changed_files(folder: Path, files: dict[str, str]) -> list[str]:
    changed = []
    for name, digest in files.items():
        try:
            content = (folder / name).read_bytes()
        except OSError:
            changed.append(name)
            continue
        if hashlib.sha256(content).hexdigest() != digest:
            changed.append(name)
    return changed


def _is_link(path: Path) -> bool:
    return path.is_symlink()


def _list(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")


def describe_os_error(error: OSError, folder: str) -> NodeInstallFailed:
    """Return what a failed call of the system means for the custom node in `folder`."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return NodeInstallFailed(
            f"{folder}: the disk that custom_nodes is on is full", hint="Free some space, then apply again.",
            retryable=True,
        )  # fmt: skip
    return NodeInstallFailed(
        f"{folder}: custom_nodes could not be written: {error.strerror or type(error).__name__}",
        hint="Look at the folder's owner and rights.",
    )
