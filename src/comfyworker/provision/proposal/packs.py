"""Which custom node brings a node class: by the file's own metadata, by ComfyUI, or by lists that come with us."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from pathlib import PurePosixPath

from comfyworker.provision.entries import NIGHTLY
from comfyworker.provision.proposal.records import ProposedPack
from comfyworker.workflow.metadata import CORE, ListedPack
from comfyworker.workflow.node_classes import NodeClasses

_GITHUB = "https://github.com/"
_CUSTOM = "custom_nodes."
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_RELEASE = re.compile(r"v?(\d+(?:\.\d+)*)([.+-][\w.+-]*)?")


def find_packs(
    class_types: Iterable[str], listed: Iterable[ListedPack], classes: NodeClasses | None
) -> tuple[ProposedPack, ...]:
    """Return the custom nodes that bring these classes, each once; ComfyUI's own classes need none.

    Args:
        class_types: The classes that a workflow uses.
        listed: What the workflow's metadata says.
        classes: What ComfyUI has; None if none was asked.
    """
    by_class: dict[str, list[ListedPack]] = {}
    for entry in listed:
        by_class.setdefault(entry.class_type, []).append(entry)
    found = []
    for class_type in sorted(set(class_types)):
        pack = _find_pack(class_type, by_class.get(class_type, []), classes)
        if pack is not None:
            found.append(pack)
    return merge_packs(found)


def merge_packs(packs: Iterable[ProposedPack]) -> tuple[ProposedPack, ...]:
    """Return the packs with each repository once, with all classes that it brings, and the newest of its versions."""
    merged: dict[tuple[object, ...], ProposedPack] = {}
    for pack in packs:
        key = _key(pack)
        known = merged.get(key)
        if known is None:
            merged[key] = pack
            continue
        newest = max(known, pack, key=lambda one: _age(one.version))
        merged[key] = newest.model_copy(update={"classes": tuple(dict.fromkeys((*known.classes, *pack.classes)))})
    return tuple(merged.values())


def newest_core(listed: Iterable[ListedPack]) -> str | None:
    """Return the newest release of ComfyUI that the metadata names, as a git tag; None if it names none."""
    releases = [entry.version for entry in listed if entry.registry_id == CORE and entry.version]
    newest = max((one for one in releases if _RELEASE.fullmatch(one)), key=_age, default=None)
    return None if newest is None else f"v{newest.removeprefix('v')}"


@cache
def core_classes() -> frozenset[str]:
    """Return the classes that ComfyUI brings itself, those of newer ones included."""
    lines = resources.files(__package__).joinpath("core_classes.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


@cache
def _known_packs() -> Mapping[str, tuple[str, ...]]:
    """Return the patterns of each known pack's classes, by its repository."""
    text = resources.files(__package__).joinpath("known_packs.toml").read_text(encoding="utf-8")
    return {entry["repository"]: tuple(entry["classes"]) for entry in tomllib.loads(text)["pack"]}


def _find_pack(class_type: str, listed: list[ListedPack], classes: NodeClasses | None) -> ProposedPack | None:
    """Return the pack of one class, whole or not; None for a class that needs none."""
    declaration = classes.declaration(class_type) if classes is not None else None
    module = declaration.get("python_module") if declaration is not None else None
    folder = None
    if isinstance(module, str):
        if not module.startswith(_CUSTOM):
            return None
        folder = module.removeprefix(_CUSTOM).partition(".")[0]
    if listed:
        own = max(listed, key=lambda entry: _age(entry.version))
        return None if own.registry_id == CORE else _by_metadata(own)
    if folder is None and class_type in core_classes():
        return None
    return _by_lists(class_type, folder)


def _by_metadata(entry: ListedPack) -> ProposedPack:
    version = None if entry.version in (None, "unknown") else entry.version
    url = f"{_GITHUB}{entry.repository}" if entry.repository else None
    is_release = version is not None and _RELEASE.fullmatch(version) is not None
    # The registry knows releases only; a commit can be had from the repository.
    if entry.registry_id and (is_release or version == NIGHTLY or url is None):
        held = version if is_release or version == NIGHTLY else None
        return ProposedPack(
            classes=(entry.class_type,), name=entry.registry_id, version=held, known_by="the workflow's metadata"
        )
    is_commit = version is not None and _COMMIT.fullmatch(version) is not None
    held = version if is_commit or is_release or version == NIGHTLY else None
    return ProposedPack(classes=(entry.class_type,), url=url, version=held, known_by="the workflow's metadata")


def _by_lists(class_type: str, folder: str | None) -> ProposedPack:
    known = _known_packs()
    fitting = [name for name, patterns in known.items() if any(fnmatchcase(class_type, one) for one in patterns)]
    if folder is not None:
        fitting = [name for name in known if PurePosixPath(name).name.lower() == folder.lower()] or fitting
    if len(fitting) == 1:
        how = "the folder of this ComfyUI's custom node" if folder is not None else "the names of its classes"
        return ProposedPack(classes=(class_type,), url=f"{_GITHUB}{fitting[0]}", known_by=how, folder=folder)
    return ProposedPack(classes=(class_type,), candidates=tuple(f"{_GITHUB}{name}" for name in fitting), folder=folder)


def _key(pack: ProposedPack) -> tuple[object, ...]:
    if pack.is_whole:
        return ("pack", pack.name or (pack.url or "").lower())
    return ("unknown", pack.folder, pack.candidates) if pack.folder or pack.candidates else ("unknown", *pack.classes)


def _age(version: str | None) -> tuple[int, tuple[int, ...]]:
    """Order versions: none, then commits, then releases by their numbers."""
    match = _RELEASE.fullmatch(version or "")
    if match is None or (version or "").isdecimal():
        return (int(version is not None), ())
    return (2, tuple(int(part[:9]) for part in match.group(1).split(".")))
