"""Who is told how far provisioning is, and what came of each item."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from comfyworker.jobs import JobError


class ItemKind(StrEnum):
    """What an item is."""

    MODEL = "model"
    NODE = "node"
    PACKAGES = "packages"
    """What custom nodes and `pip` need in ComfyUI's environment."""
    COMFYUI = "comfyui"


class ItemStatus(StrEnum):
    """What came of an item."""

    PRESENT = "present"
    """It was there already, as it shall be."""
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    """It was not tried, since something that it needs failed."""


class Item(BaseModel):
    """One thing to do."""

    model_config = ConfigDict(frozen=True)

    key: str
    """Names it within a plan: the model's place below the models folder, the node's folder."""
    kind: ItemKind
    title: str
    """What people read."""
    size_bytes: int | None = None
    optional: bool = False


class ItemResult(BaseModel):
    """What came of one thing."""

    model_config = ConfigDict(frozen=True)

    item: Item
    status: ItemStatus
    error: JobError | None = None
    seconds: float = 0.0
    fetched_bytes: int = 0
    """Bytes that went over the network for it; a file that was resumed counts only what was missing."""


class ProvisionReporter(Protocol):
    """Hears what happens, on the event loop; must not block."""

    def planned(self, items: Sequence[Item]) -> None:
        """Hear what will be done, before anything is."""

    def begun(self, item: Item) -> None:
        """Hear that an item is being worked at."""

    def fetched(self, item: Item, done_bytes: int, total_bytes: int | None) -> None:
        """Hear how much of a file is there, what an earlier try left included; often."""

    def stepped(self, item: Item, text: str) -> None:
        """Hear what is being done for an item, as `git fetch` or `install.py`."""

    def ended(self, result: ItemResult) -> None:
        """Hear what came of an item."""

    def noted(self, text: str) -> None:
        """Hear a sentence for people."""


class SilentReporter:
    """Hears and says nothing."""

    def planned(self, items: Sequence[Item]) -> None:
        """Hear what will be done."""

    def begun(self, item: Item) -> None:
        """Hear that an item is being worked at."""

    def fetched(self, item: Item, done_bytes: int, total_bytes: int | None) -> None:
        """Hear how much of a file is there."""

    def stepped(self, item: Item, text: str) -> None:
        """Hear what is being done."""

    def ended(self, result: ItemResult) -> None:
        """Hear what came of an item."""

    def noted(self, text: str) -> None:
        """Hear a sentence."""
