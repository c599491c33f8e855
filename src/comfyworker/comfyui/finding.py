"""One thing that was looked at, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, JsonValue

_GB = 1_000_000_000
_MB = 1_000_000


class Level(StrEnum):
    """How much a finding matters, least first."""

    OK = "ok"
    WARNING = "warning"
    """The worker runs, but not as one may expect."""
    PROBLEM = "problem"
    """The worker cannot do its work before this is mended."""


class Finding(BaseModel):
    """One thing that was looked at."""

    model_config = ConfigDict(frozen=True)

    area: str
    """What was looked at: comfyui, python, torch, gpu, disk, models, volume, storage, settings, worker."""
    level: Level
    text: str
    """What was found, in one sentence."""
    advice: str | None = None
    """What to do about it."""
    facts: dict[str, JsonValue] = {}
    """The same for programs, with figures in bytes."""


def worst_level(findings: Sequence[Finding]) -> Level:
    """Return the gravest level among the findings."""
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)


def format_bytes(size_bytes: int) -> str:
    """Return a size as people read it."""
    return f"{size_bytes / _GB:.1f} GB" if size_bytes >= _GB // 10 else f"{size_bytes / _MB:.1f} MB"
