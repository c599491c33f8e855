"""What a config.yml became, so that the same can be had again: config.lock.yml, beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from comfyworker.errors import InvalidConfig, Problem, ProvisioningFailed, WorkerError
from comfyworker.provision.config.finding import FoundConfig
from comfyworker.provision.download.addresses import plain_url
from comfyworker.provision.entries import Config, ModelEntry, NodeEntry
from comfyworker.provision.nodes.records import LockedNode
from comfyworker.provision.place import ProvisionPlace
from comfyworker.provision.records import ModelRecord, NodeRecord, write_whole
from comfyworker.wording import summary

LOCK_NAME = "config.lock.yml"
_HEAD = """\
# Written by `comfyworker config apply`: what config.yml became.
# `comfyworker config apply --locked` reproduces it.
"""
_HINT = "Apply once without --locked: that writes the lock file anew."
_VERSION = 1


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class LockedModel(_Record):
    """A model as it was when the config was applied."""

    url: str
    """Without tokens."""
    destination: str
    filename: str
    sha256: str
    size: int
    etag: str | None = None


class LockFile(_Record):
    """All that a config became."""

    version: int = _VERSION
    config_sha256: str
    comfyui: str | None = None
    """The version of ComfyUI that custom nodes were proven with."""
    models: tuple[LockedModel, ...] = ()
    nodes: tuple[LockedNode, ...] = ()

    def check(self, config: Config) -> None:
        """See that each entry of a config is in the lock file.

        Raises:
            InvalidConfig: `problems` names each that is not.
        """
        missing = [
            f"models: {entry.destination}, line {entry.line}" for entry in config.models if self._model(entry) is None
        ]
        missing += [
            f"nodes: {entry.url or entry.name} {entry.version}, line {entry.line}"
            for entry in config.nodes
            if self.node(entry) is None
        ]
        if missing:
            problems = [
                Problem(message=f"{LOCK_NAME} does not have what config.yml asks for: {what}", code="not_locked")
                for what in missing
            ]
            raise InvalidConfig(summary(problems), hint=_HINT, problems=problems)

    def pin_model(self, entry: ModelEntry) -> ModelEntry:
        """Return an entry that asks for just what is locked."""
        locked = self._model(entry)
        if locked is None:
            return entry
        return entry.model_copy(
            update={"filename": locked.filename, "sha256": locked.sha256, "size_bytes": locked.size}
        )

    def node(self, entry: NodeEntry) -> LockedNode | None:
        """Return what an entry for a custom node was, or None if it is not locked."""
        for locked in self.nodes:
            is_same = locked.name == entry.name if entry.url is None else locked.url == entry.url
            if is_same and locked.version == entry.version:
                return locked
        return None

    def _model(self, entry: ModelEntry) -> LockedModel | None:
        url = plain_url(entry.url)
        for locked in self.models:
            is_named = entry.filename in (None, locked.filename)
            if (locked.url, locked.destination) == (url, entry.destination) and is_named:
                return locked if entry.sha256 in (None, locked.sha256) else None
        return None


def lock_path(found: FoundConfig, place: ProvisionPlace) -> Path:
    """Return where the lock file of a config lies: beside it; of CONFIG_YML, on the volume or with the state."""
    if found.path is not None:
        return found.path.with_name(LOCK_NAME)
    return (place.volume or place.models_state) / LOCK_NAME


def read_lock(found: FoundConfig, place: ProvisionPlace) -> LockFile:
    """Return the lock file of a config, which has all of its entries.

    Raises:
        InvalidConfig: there is none, it cannot be read, or it lacks an entry.
    """
    for path in (lock_path(found, place), place.models_state / LOCK_NAME):
        if path.is_file():
            lock = _read(path)
            lock.check(found.config)
            return lock
    raise InvalidConfig(f"there is no {LOCK_NAME} beside config.yml", hint=_HINT)


def make_lock(
    found: FoundConfig, *, models: Sequence[ModelRecord], nodes: Sequence[NodeRecord], comfyui: str | None
) -> LockFile:
    """Return the lock file for what was made ready."""
    return LockFile(
        config_sha256=found.digest,
        comfyui=comfyui,
        models=tuple(
            LockedModel(
                url=record.receipt.url, destination=record.place.rpartition("/")[0], filename=record.receipt.filename,
                sha256=record.receipt.sha256, size=record.receipt.size_bytes, etag=record.receipt.etag,
            )
            for record in models
        ),
        nodes=tuple(record.resolved.lock() for record in nodes),
    )  # fmt: skip


def write_lock(lock: LockFile, found: FoundConfig, place: ProvisionPlace) -> Path | None:
    """Write a lock file beside its config, or with the state where that cannot be written; return where, if it changed.

    Raises:
        WorkerError: neither can be written.
    """
    text = _HEAD + yaml.safe_dump(lock.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True)
    paths = dict.fromkeys((lock_path(found, place), place.models_state / LOCK_NAME))
    failure: WorkerError | None = None
    for path in paths:
        if _text(path) == text:
            return None
        try:
            write_whole(path, text.encode())
        except WorkerError as error:
            failure = error
        else:
            return path
    raise failure or ProvisioningFailed("the lock file could not be written")


def _read(path: Path) -> LockFile:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        lock = LockFile.model_validate(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise InvalidConfig(f"{LOCK_NAME} cannot be read: it is damaged or of another make", hint=_HINT) from error
    if lock.version != _VERSION:
        raise InvalidConfig(f"{LOCK_NAME} is of version {lock.version}, which this worker does not know", hint=_HINT)
    return lock


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
