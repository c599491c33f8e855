"""From what a config.yml says of a custom node to exactly what to bring."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from comfyworker.errors import NodeInstallFailed
from comfyworker.provision.entries import LATEST, NIGHTLY, NodeEntry
from comfyworker.provision.nodes.git import Git, Refs
from comfyworker.provision.nodes.records import LockedNode, ResolvedNode
from comfyworker.provision.nodes.registry import Registry
from comfyworker.provision.nodes.remotes import check_url, folder_from_url, require_folder, show_url
from comfyworker.provision.nodes.versions import newest_release, same_release
from comfyworker.wording import nearest

_WHOLE_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHORT_COMMIT = re.compile(r"[0-9a-f]{7,63}")


def folder_of(entry: NodeEntry) -> str:
    """Return the folder in custom_nodes that an entry is meant for; asks nobody.

    Raises:
        NodeInstallFailed: its URL or name gives none.
    """
    if entry.url is not None:
        check_url(entry.url)
        return folder_from_url(entry.url)
    return require_folder(entry.name or "", f"'{entry.name or ''}'")


class Resolver:
    """Resolves entries, by git and by the Comfy Registry."""

    def __init__(self, git: Git, registry: Registry, note: Callable[[str], None]) -> None:
        """Keep whom to ask, and who hears what was taken in place of what was meant."""
        self._git = git
        self._registry = registry
        self._note = note

    async def resolve(self, entry: NodeEntry, locked: LockedNode | None) -> ResolvedNode:
        """Return what an entry is now; with `locked`, what it was then.

        Raises:
            NodeInstallFailed: there is no such repository, node or version, or nobody could be asked (then retryable).
        """
        folder = folder_of(entry)
        if locked is not None:
            return await self._reproduce(entry, locked)
        if entry.url is not None:
            return await self._resolve_git(entry, folder, entry.url)
        return await self._resolve_name(entry, folder, entry.name or "")

    async def _reproduce(self, entry: NodeEntry, locked: LockedNode) -> ResolvedNode:
        folder = require_folder(locked.folder, "the lock file")
        if (entry.url, entry.name) != (locked.url if entry.name is None else entry.url, locked.name):
            raise NodeInstallFailed(
                f"{folder}: the lock file is of another source than config.yml", hint="Apply once without --locked."
            )
        if entry.version != locked.version:
            raise NodeInstallFailed(
                f"{folder}: config.yml asks for '{entry.version}', the lock file is of '{locked.version}'",
                hint="Apply once without --locked, which writes the lock file anew.",
            )
        if locked.commit is not None and locked.url is not None:
            check_url(locked.url)
            return ResolvedNode(
                entry=entry, folder=folder, url=locked.url, name=locked.name, commit=locked.commit,
                release=locked.release,
            )  # fmt: skip
        return await self._resolve_release(entry, folder, entry.name or "", locked.release)

    async def _resolve_name(self, entry: NodeEntry, folder: str, name: str) -> ResolvedNode:
        if entry.version == NIGHTLY:
            url = await self._registry.find_repository(name)
            check_url(url)
            node = await self._resolve_git(entry, folder, url)
            return node.model_copy(update={"name": name})
        return await self._resolve_release(entry, folder, name, None if entry.version == LATEST else entry.version)

    async def _resolve_release(self, entry: NodeEntry, folder: str, name: str, version: str | None) -> ResolvedNode:
        release = await self._registry.find_release(name, version)
        if release.is_flagged:
            self._note(f"{folder}: the Comfy Registry has flagged version {release.version}; look at its page there.")
        if release.deprecated:
            self._note(f"{folder}: the Comfy Registry calls version {release.version} deprecated.")
        return ResolvedNode(
            entry=entry, folder=folder, name=name, release=release.version, download_url=release.download_url,
            requirements=release.dependencies,
        )  # fmt: skip

    async def _resolve_git(self, entry: NodeEntry, folder: str, url: str) -> ResolvedNode:
        refs = await self._git.list_refs(url)
        if refs.head is None and not refs.branches:
            raise NodeInstallFailed(f"the repository '{show_url(url)}' is empty", hint="Look at the URL.")
        commit, release, ref = await self._choose(entry.version, folder, url, refs)
        return ResolvedNode(entry=entry, folder=folder, url=url, commit=commit, release=release, ref=ref)

    async def _choose(self, version: str, folder: str, url: str, refs: Refs) -> tuple[str, str | None, str | None]:
        """Return commit, release and ref."""
        if version == LATEST:
            tag = newest_release(refs.tags)
            if tag is not None:
                return refs.tags[tag], tag, f"refs/tags/{tag}"
            self._note(
                f"{folder}: its repository has no release tag{' but pre-releases' if refs.tags else ''}; "
                "the tip of its default branch is taken for `latest`."
            )
        if version in {LATEST, NIGHTLY}:
            return _tip(url, refs)
        tag = version if version in refs.tags else None
        if tag is None and version not in refs.branches:
            tag = same_release(version, refs.tags)
        if tag is not None:
            return refs.tags[tag], tag, f"refs/tags/{tag}"
        if version in refs.branches:
            return refs.branches[version], None, f"refs/heads/{version}"
        if _WHOLE_COMMIT.fullmatch(version.lower()):
            return version.lower(), None, None
        if _SHORT_COMMIT.fullmatch(version.lower()):
            return await self._find_commit(version.lower(), url, refs), None, None
        raise _missing(version, url, refs)

    async def _find_commit(self, short: str, url: str, refs: Refs) -> str:
        named = {commit for commit in (*refs.tags.values(), *refs.branches.values()) if commit.startswith(short)}
        if len(named) == 1:
            return named.pop()
        # Not in custom_nodes: a plan changes nothing there, and whoever places at that time clears what is left there.
        with tempfile.TemporaryDirectory(prefix="comfyworker-git-") as scratch:
            commit = await self._git.find_commit(Path(scratch), url, short)
        if commit is None:
            raise _missing(short, url, refs)
        return commit


def _tip(url: str, refs: Refs) -> tuple[str, str | None, str | None]:
    if refs.head is None:
        raise NodeInstallFailed(
            f"the repository '{show_url(url)}' has no default branch",
            hint=f"Name one with `version`: {', '.join(sorted(refs.branches)[:10])}.",
        )
    return refs.head, None, f"refs/heads/{refs.head_branch}" if refs.head_branch else None


def _missing(version: str, url: str, refs: Refs) -> NodeInstallFailed:
    # Nearest first; else the newest tags, which sort last.
    near = nearest(version, [*reversed(refs.tags), *refs.branches])
    offered = ", ".join(near.listed) or "nothing"
    guess = f"Did you mean '{near.suggestion}'? " if near.suggestion else ""
    return NodeInstallFailed(
        f"'{show_url(url)}' has no tag, branch or commit '{version}'",
        hint=f"{guess}It has: {offered}; `latest` is its newest release, `nightly` the tip of its default branch.",
        details={"choices": list(near.listed)},
    )
