"""The models that lie in a models folder: ours and others', as they were noted and as they are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from comfyworker.comfyui.model_kinds import MODEL_ENDINGS, PACK_ENDINGS
from comfyworker.provision.download import Leftover, find_leftovers, shown_source
from comfyworker.provision.entries import ModelEntry
from comfyworker.provision.records import (
    MODELS_NAME,
    ModelRecord,
    ModelsState,
    Wish,
    forget_brought,
    key_of,
    read_provisioned,
    write_note,
)

_ENDINGS = MODEL_ENDINGS | PACK_ENDINGS


class Standing(StrEnum):
    """What a file in a models folder is."""

    OURS = "ours"
    """Fetched by the worker, and as it was then."""
    ADOPTED = "adopted"
    """It lay there already when a config asked for it."""
    CHANGED = "changed"
    """Fetched by the worker, and of another size or time now."""
    MISSING = "missing"
    """Fetched by the worker, and gone."""
    FOREIGN = "foreign"
    """Somebody else's."""


class StockedModel(BaseModel):
    """A model file."""

    model_config = ConfigDict(frozen=True)

    place: str
    """Below the models folder."""
    standing: Standing
    size_bytes: int | None = None
    """None if it is gone."""
    sha256: str | None = None
    """As it was when it was fetched."""
    source: str | None = None
    """Where it came from, without tokens."""


class Prunable(BaseModel):
    """What may be removed."""

    model_config = ConfigDict(frozen=True)

    models: tuple[StockedModel, ...] = ()
    leftovers: tuple[Leftover, ...] = ()

    @property
    def size_bytes(self) -> int:
        """What removing it frees; files that are linked elsewhere free nothing."""
        return sum(model.size_bytes or 0 for model in self.models) + sum(left.size_bytes for left in self.leftovers)


def list_stock(models: Path, state: ModelsState, own: Path | None = None) -> tuple[StockedModel, ...]:
    """Return every model file in a models folder, and those that were noted and are gone; sorted by place. Blocks.

    Of those in ComfyUI's `own` models folder, if that is another, only the ones that a config asked for.
    """
    found = {place: path for place, path in _walk(models) if path.suffix.lower() in _ENDINGS or place in state.models}
    noted = (_noted(record, models, own) for record in state.models.values())
    others = (
        StockedModel(place=place, standing=Standing.FOREIGN, size_bytes=path.stat().st_size)
        for place, path in found.items()
        if place not in state.models
    )
    return tuple(sorted([*noted, *others], key=lambda model: model.place))


def find_prunable(models: Path, state: ModelsState, wanted: Iterable[ModelEntry]) -> Prunable:
    """Return what no config asks for: files that a config or a job had the worker fetch, as they were then.

    What was fetched by a command, what lay there already and what was changed since is left out. Blocks.
    """
    keys = {key_of(entry) for entry in wanted}
    gone = [
        stocked
        for record in state.models.values()
        if record.wish is not Wish.HAND and record.key not in keys and not record.is_adopted
        for stocked in [_noted(record, models)]
        if stocked.standing in {Standing.OURS, Standing.MISSING}
    ]
    folders = [models, *(Path(root) / name for root, names, _ in os.walk(models) for name in names)]
    leftovers = [leftover for folder in folders if folder.is_dir() for leftover in find_leftovers(folder)]
    return Prunable(models=tuple(sorted(gone, key=lambda model: model.place)), leftovers=tuple(leftovers))


def prune(models: Path, state_folder: Path, prunable: Prunable) -> None:
    """Remove files, then forget them. Blocks.

    Raises:
        OSError: one cannot be removed.
        ProvisioningFailed: it cannot be noted.
    """
    for model in prunable.models:
        (models / model.place).unlink(missing_ok=True)
    for leftover in prunable.leftovers:
        leftover.remove()
    places = frozenset(model.place for model in prunable.models)
    write_note(state_folder / MODELS_NAME, read_provisioned(state_folder).without(places))
    forget_brought(state_folder, places)


def local_models(models: Path) -> tuple[tuple[str, Path], ...]:
    """Return place and path of every model file in a models folder, sorted. Blocks."""
    return tuple((place, path) for place, path in sorted(_walk(models)) if path.suffix.lower() in _ENDINGS)


def _noted(record: ModelRecord, models: Path, own: Path | None = None) -> StockedModel:
    path = record.path(models, own)
    standing = Standing.ADOPTED if record.is_adopted else Standing.OURS
    if not path.is_file():
        standing = Standing.MISSING
    elif not record.receipt.describes(path):
        standing = Standing.CHANGED
    return StockedModel(
        place=record.place,
        standing=standing,
        size_bytes=path.stat().st_size if standing is not Standing.MISSING else None,
        sha256=record.receipt.sha256,
        source=shown_source(record.receipt.url),
    )


def _walk(models: Path) -> Iterator[tuple[str, Path]]:
    for root, folders, names in os.walk(models, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(root) / name
            if not name.startswith(".") and path.is_file():
                yield path.relative_to(models).as_posix(), path
