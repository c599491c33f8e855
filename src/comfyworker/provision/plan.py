"""What is there, what is to be done, and whether the disk has room for it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from comfyworker.comfyui.finding import format_bytes
from comfyworker.errors import InsufficientStorage
from comfyworker.jobs import JobError
from comfyworker.provision.download import Receipt
from comfyworker.provision.entries import ModelEntry, NodeEntry
from comfyworker.provision.nodes import LockedNode, ResolvedNode
from comfyworker.provision.reporting import Item, ItemKind

_SILENT = frozenset({"unreachable", "timeout"})
"""What a download's error says of its reason where its host did not answer."""


class Verdict(StrEnum):
    """What is to be done about an item."""

    PRESENT = "present"
    """It is there as it shall be."""
    ADOPT = "adopt"
    """It lies there already, though not by our doing; it is looked at and noted."""
    LINK = "link"
    """The same file is in another folder already."""
    FETCH = "fetch"
    """It is to be fetched, or installed."""
    UPDATE = "update"
    """Another version of it is there."""
    DISABLE = "disable"
    """It is there, and the config does not ask for it any more."""
    UNKNOWN = "unknown"
    """Its source could not be asked, or refuses it."""


class _Planned(BaseModel):
    model_config = ConfigDict(frozen=True)

    verdict: Verdict
    reason: str = ""
    """Why, in a few words, where that is not plain."""
    error: JobError | None = None
    """Why it cannot be done."""


class PlannedModel(_Planned):
    """A model, and what is to be done about it."""

    number: int
    """Which entry of the config it is, from 0."""
    entry: ModelEntry
    place: str
    """Below the models folder; where its source did not tell its name, the likely one."""
    size_bytes: int | None = None
    kept_bytes: int = 0
    """What an interrupted download has left of it."""
    sha256: str | None = None
    """What its content must have, by the config, the lock file or its source."""
    known: Receipt | None = None
    """What was noted of the file that is at its place, if one of ours is or was."""
    pinned_sha256: str | None = None
    """What its content must have by the config or the lock file, whatever its source says."""
    etag: str | None = None
    """What its source calls this version of it."""
    is_baked_in: bool = False
    """Whether the file that is there lies in ComfyUI's own models folder, though models go elsewhere."""

    @property
    def silent_host(self) -> str | None:
        """The host that should have said what there is and did not answer; None if it did, or said no."""
        return silent_host(self.error) if self.error is not None else None

    @property
    def filename(self) -> str:
        """Its name in its folder."""
        return self.place.rpartition("/")[2]

    @property
    def wanted_bytes(self) -> int:
        """How much of the disk it will still take, as far as that is known."""
        return max((self.size_bytes or 0) - self.kept_bytes, 0) if self.verdict is Verdict.FETCH else 0

    def item(self) -> Item:
        """Return it as what a reporter hears of."""
        return Item(
            key=self.place, kind=ItemKind.MODEL, title=self.place, size_bytes=self.size_bytes,
            optional=self.entry.optional,
        )  # fmt: skip


class PlannedNode(_Planned):
    """A custom node, and what is to be done about it."""

    entry: NodeEntry | None
    """None for one that is to be disabled."""
    folder: str
    resolved: ResolvedNode | None = None
    was: LockedNode | None = None
    """The version that is there, if one of ours is."""

    def item(self) -> Item:
        """Return it as what a reporter hears of."""
        if self.resolved is not None:
            return self.resolved.item()
        optional = self.entry is not None and self.entry.optional
        return Item(key=self.folder, kind=ItemKind.NODE, title=self.folder, optional=optional)


class Plan(BaseModel):
    """All that a config comes to on this machine."""

    model_config = ConfigDict(frozen=True)

    models: tuple[PlannedModel, ...] = ()
    nodes: tuple[PlannedNode, ...] = ()
    installs_packages: bool = False
    """Whether the packages of custom nodes are looked after."""
    comfyui_update: tuple[str, str] | None = None
    """The version of ComfyUI that is there and the one that takes its place; None if it stays."""
    comfyui_error: JobError | None = None
    """Why the version that is asked for cannot be had."""
    """What is wrong with ComfyUI's version, if the config names another than there is."""
    free_bytes: int | None = None
    """Of the disk for models."""

    @property
    def wanted_bytes(self) -> int:
        """How much of the disk the models will still take, as far as their sizes are known."""
        return sum(model.wanted_bytes for model in self.models)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        items: Iterable[_Planned] = (*self.models, *self.nodes)
        stays = self.comfyui_update is None and self.comfyui_error is None
        return not self.installs_packages and stays and all(
            item.verdict is Verdict.PRESENT for item in items
        )  # fmt: skip


def check_room(models: Iterable[PlannedModel], free_bytes: int) -> tuple[PlannedModel, ...]:
    """See that the disk has room for all that is required; return the optional ones that do not fit beside them.

    Raises:
        InsufficientStorage: it has not; `details` has the figures.
    """
    models = list(models)
    required = sum(model.wanted_bytes for model in models if not model.entry.optional)
    if required > free_bytes:
        raise InsufficientStorage(
            f"the models need {format_bytes(required)} more of the disk, and {format_bytes(free_bytes)} are free",
            hint="Free some space (`comfyworker models prune` removes models that no config asks for), use a larger "
            "disk, or take models out of config.yml.",
            details={"wanted_bytes": required, "free_bytes": free_bytes},
        )
    left, over = free_bytes - required, []
    for model in models:
        if model.entry.optional and model.wanted_bytes > left:
            over.append(model)
        elif model.entry.optional:
            left -= model.wanted_bytes
    return tuple(over)


def silent_host(error: JobError) -> str | None:
    """Return the host that a model's source is on, if it did not answer; None for every other error."""
    if error.details.get("reason") not in _SILENT:
        return None
    parts = urlsplit(str(error.details.get("url", "")))
    return "huggingface.co" if parts.scheme == "hf" else parts.netloc or None
