"""What is noted of models and custom nodes that were made ready: written only when they were, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from comfyworker.errors import InsufficientStorage, ProvisioningFailed
from comfyworker.provision.download.addresses import plain_url
from comfyworker.provision.download.records import Receipt
from comfyworker.provision.entries import ModelEntry, NodeEntry
from comfyworker.provision.nodes.records import ResolvedNode
from comfyworker.replacing import replace_file

MODELS_NAME = "models.json"
NODES_NAME = "nodes.json"
BROUGHT_NAME = "brought-by-jobs"
"""A folder with a note for each model that a job brought: workers write them whenever they do, waiting for nobody."""
PACKAGES_NAME = ".comfyworker-packages.json"

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Wish(StrEnum):
    """Why something is there."""

    CONFIG = "config"
    """A config.yml asks for it, or did once."""
    HAND = "hand"
    """Somebody fetched or installed it by a command, and only they take it away."""
    JOB = "job"
    """A job brought it, which a config may ask for as well or not."""


class ModelRecord(_Record):
    """A model file that is whole, and what it was asked for as."""

    key: str
    """`key_of` the entry."""
    place: str
    """Where it lies below the models folder, as `loras/wan/x.safetensors`."""
    receipt: Receipt
    wish: Wish = Wish.CONFIG
    is_adopted: bool = False
    """Whether it lay there already, so that it is its user's and never removed."""
    is_baked_in: bool = False
    """Whether it lies in ComfyUI's own models folder, though models go elsewhere: as a rule it came with the image."""

    def path(self, models: Path, own: Path | None = None) -> Path:
        """Return the file: below `models`, or below `own`, ComfyUI's own models folder, if that is another."""
        return (own or models if self.is_baked_in else models) / self.place

    def serves(self, entry: ModelEntry) -> bool:
        """Tell whether it is what an entry asks for, as far as the entry says what that is."""
        is_right = entry.sha256 in (None, self.receipt.sha256)
        return is_right and entry.size_bytes in (None, self.receipt.size_bytes)


class ModelsState(_Record):
    """All that is noted of one models folder."""

    config_sha256: str | None = None
    """The config that was wholly made true last."""
    models: dict[str, ModelRecord] = {}
    """By place."""

    def find(self, entry: ModelEntry) -> ModelRecord | None:
        """Return the record of what an entry became; None if there is none that serves it."""
        key = key_of(entry)
        return next((record for record in self.models.values() if record.key == key and record.serves(entry)), None)

    def with_model(self, record: ModelRecord) -> ModelsState:
        """Return the state with one more record; what its entry was before at another place is nobody's wish now."""
        models = {
            place: other.model_copy(update={"key": ""}) if other.key == record.key else other
            for place, other in self.models.items()
        }
        before = self.models.get(record.place)
        if before is not None and before.wish is Wish.HAND:
            record = record.model_copy(update={"wish": Wish.HAND})
        is_same_file = before is not None and before.is_baked_in == record.is_baked_in
        if before is not None and is_same_file and before.is_adopted and before.receipt.sha256 == record.receipt.sha256:
            record = record.model_copy(update={"is_adopted": True})
        return self.model_copy(update={"models": {**models, record.place: record}})

    def without(self, places: frozenset[str]) -> ModelsState:
        """Return the state without the records of some places."""
        return self.model_copy(update={"models": {p: r for p, r in self.models.items() if p not in places}})


class NodeRecord(_Record):
    """A custom node that we placed."""

    resolved: ResolvedNode
    environment: str
    """`environment_key` of the ComfyUI in which it has its packages and loads; empty if it does not."""
    wish: Wish = Wish.CONFIG

    def serves(self, entry: NodeEntry) -> bool:
        """Tell whether it is what an entry asks for."""
        own = self.resolved.entry
        return (own.url, own.name, own.version) == (entry.url, entry.name, entry.version)


class NodesState(_Record):
    """All that is noted of one ComfyUI's custom nodes."""

    config_sha256: str | None = None
    """The config that was wholly made true last."""
    nodes: dict[str, NodeRecord] = {}
    """By folder."""


class PackagesNote(_Record):
    """Which packages a Python environment has for custom nodes; it lies in the environment itself."""

    packages: str
    """See `packages_key`."""


_Noted = TypeVar("_Noted", bound=_Record)


def key_of(entry: ModelEntry) -> str:
    """Return what names an entry: where it comes from and where it goes; tokens in its URL do not count."""
    parts = (plain_url(entry.url), entry.destination, entry.filename or "")
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def read_note(path: Path, kind: type[_Noted]) -> _Noted | None:
    """Return what is noted in a file; None if there is no note, or none that can be read."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def read_models(folder: Path) -> ModelsState:
    """Return all that is noted of models in a state folder, those that jobs brought too; nothing is an empty state."""
    state = read_provisioned(folder)
    for path in sorted((folder / BROUGHT_NAME).glob("*.json")):
        record = read_note(path, ModelRecord)
        before = state.models.get(record.place) if record is not None else None
        # Whoever wrote the file that is there now has noted it last.
        if record is not None and (before is None or before.receipt.mtime_ns < record.receipt.mtime_ns):
            state = state.with_model(record)
    return state


def read_provisioned(folder: Path) -> ModelsState:
    """Return what is noted of models that a config or a command asked for."""
    return read_note(folder / MODELS_NAME, ModelsState) or ModelsState()


def note_brought(folder: Path, record: ModelRecord) -> None:
    """Note a model that a job brought.

    Raises:
        InsufficientStorage: the disk is full.
        ProvisioningFailed: it cannot be written.
    """
    write_note(_brought_path(folder, record.place), record)


def forget_brought(folder: Path, places: frozenset[str]) -> None:
    """Forget models that jobs brought.

    Raises:
        OSError: one cannot be removed.
    """
    for place in places:
        _brought_path(folder, place).unlink(missing_ok=True)


def _brought_path(folder: Path, place: str) -> Path:
    return folder / BROUGHT_NAME / f"{hashlib.sha256(place.encode()).hexdigest()[:32]}.json"


def read_nodes(folder: Path) -> NodesState:
    """Return what is noted of custom nodes in a state folder."""
    return read_note(folder / NODES_NAME, NodesState) or NodesState()


def write_note(path: Path, note: _Record) -> None:
    """Write a note; at every moment there is the old one or the new one, whole, also after a loss of power.

    Raises:
        InsufficientStorage: the disk is full.
        ProvisioningFailed: it cannot be written.
    """
    write_whole(path, note.model_dump_json(indent=1).encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file in one step.

    Raises:
        InsufficientStorage: the disk is full.
        ProvisioningFailed: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content, is_durable=True)
    except OSError as error:
        if error.errno in _FULL:
            raise InsufficientStorage(
                f"the disk has no room for {path.name}", hint="Free some space, then apply again."
            ) from error
        raise ProvisioningFailed(
            f"what was done cannot be noted in {path.name}: {error.strerror or type(error).__name__}",
            hint=f"The worker's user must be able to write to {path.parent.name}, beside models and custom nodes.",
        ) from error
