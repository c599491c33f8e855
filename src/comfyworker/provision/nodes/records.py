"""What custom nodes are: as resolved, as locked, and as noted in their folders."""

from __future__ import annotations

import hashlib

from pydantic import BaseModel, ConfigDict

from comfyworker.errors import NodeInstallFailed
from comfyworker.provision.entries import NodeEntry
from comfyworker.provision.reporting import Item, ItemKind

_SHORT_COMMIT = 7


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class LockedNode(_Record):
    """What an entry became, so that the same can be had again."""

    folder: str
    """Its name in custom_nodes."""
    url: str | None = None
    """The git repository, or None for a node of the registry."""
    name: str | None = None
    """Its name in the Comfy Registry, or None for a git repository."""
    version: str
    """As it was asked for: `latest`, `nightly`, a tag, a commit, a branch, a version of the registry."""
    commit: str | None = None
    """The whole commit, or None for a node of the registry."""
    release: str | None = None
    """The tag or the registry's version that it is, if it is one."""

    @property
    def digest(self) -> str:
        """SHA-256 of what it is, whatever it was asked for as."""
        parts = (self.url or "", self.name or "", self.commit or self.release or "")
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class ResolvedNode(_Record):
    """A custom node of which it is known exactly what to bring."""

    entry: NodeEntry
    folder: str
    url: str | None = None
    name: str | None = None
    commit: str | None = None
    release: str | None = None
    ref: str | None = None
    """The full git ref that led to the commit, for servers that hand out no commit by its hash."""
    download_url: str | None = None
    """Where the registry's archive is."""
    requirements: tuple[str, ...] = ()
    """What the registry says that the node needs; counts where its folder has no requirements.txt."""

    @property
    def key(self) -> str:
        """Its name within a plan."""
        return self.folder

    @property
    def digest(self) -> str:
        """SHA-256 of what it is, whatever it was asked for as."""
        return self.lock().digest

    def lock(self) -> LockedNode:
        """Return it for the lock file."""
        return LockedNode(
            folder=self.folder, url=self.url, name=self.name, version=self.entry.version, commit=self.commit,
            release=self.release,
        )  # fmt: skip

    def item(self) -> Item:
        """Return it as an item of a plan."""
        commit = self.commit[:_SHORT_COMMIT] if self.commit else None
        version = f"{self.release} ({commit})" if self.release and commit else self.release or commit or ""
        title = f"{self.folder} {version}".strip()
        return Item(key=self.folder, kind=ItemKind.NODE, title=title, optional=self.entry.optional)


class PlacedNode(_Record):
    """What is noted in the folder of a custom node that we placed; it came with the files, in one rename."""

    locked: LockedNode
    files: dict[str, str] = {}
    """For a node of the registry: each file of the archive, with its SHA-256."""
    is_script_done: bool = False
    """Whether its install.py has been run to its end at this version."""


class PackagesOutcome(_Record):
    """What came of installing packages."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    changed: tuple[str, ...] = ()
    """Packages that are new or have another version, as `numpy 1.26.4 → 2.1.0`."""
    failed: dict[str, NodeInstallFailed] = {}
    """Folder → why the packages of that custom node were left out."""


class ImportOutcome(_Record):
    """What came of loading a custom node in ComfyUI."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    node_count: int = 0
    """How many classes of nodes it brings."""
    seconds: float = 0.0
    error: NodeInstallFailed | None = None
    ends_comfyui: bool = False
    """Whether ComfyUI itself does not start with it, so that it must not stay enabled."""
