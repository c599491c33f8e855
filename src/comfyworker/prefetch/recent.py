"""Which models the last jobs used: noted where the models are, so that the next worker knows it too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from comfyworker.errors import InsufficientStorage, ProvisioningFailed
from comfyworker.provision.records import write_whole

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

NAME: Final = "recent-models.json"
_MOST: Final = 64
_AGAIN_AFTER_S: Final = 600.0
"""How long a note stays as it is while the same models are used again."""

Named = tuple[str, str]
"""Kind and name of a model."""


class _Use(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: str
    name: str
    used_at: float
    """Unix time in seconds."""


class _Uses(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    models: tuple[_Use, ...] = ()


class RecentModels:
    """The models that jobs used last. Workers that write at the same time lose a note of each other, nothing more."""

    def __init__(self, folders: Callable[[], Sequence[Path]]) -> None:
        """Note them in the first of `folders` that can be written; read all of them.

        Args:
            folders: Tells them when they are first needed; may block.
        """
        self._folders = folders
        self._noted: tuple[frozenset[Named], float] = (frozenset(), 0.0)

    def read(self) -> tuple[Named, ...]:
        """Return the models, those used last first. Blocks."""
        return tuple((use.kind, use.name) for use in self._read())

    def note(self, models: Iterable[Named]) -> None:
        """Note that a job uses these models now. Blocks; what cannot be noted is not missed."""
        used, now = frozenset(models), time.time()
        before, noted_at = self._noted
        if not used or (used == before and now - noted_at < _AGAIN_AFTER_S):
            return
        self._noted = (used, now)
        uses = [_Use(kind=kind, name=name, used_at=now) for kind, name in sorted(used)]
        others = [use for use in self._read() if (use.kind, use.name) not in used]
        content = _Uses(models=tuple([*uses, *others][:_MOST])).model_dump_json().encode()
        for path in self._paths():
            try:
                write_whole(path, content)
            except (InsufficientStorage, ProvisioningFailed) as error:
                log.debug("prefetch.use_not_noted", reason=error.message)
            else:
                return

    def _paths(self) -> list[Path]:
        return [folder / NAME for folder in self._folders()]

    def _read(self) -> list[_Use]:
        found: dict[Named, _Use] = {}
        for path in self._paths():
            for use in _read_uses(path):
                known = found.get((use.kind, use.name))
                if known is None or known.used_at < use.used_at:
                    found[use.kind, use.name] = use
        return sorted(found.values(), key=lambda use: -use.used_at)


def _read_uses(path: Path) -> tuple[_Use, ...]:
    try:
        return _Uses.model_validate_json(path.read_bytes()).models
    except (OSError, ValidationError):
        return ()
