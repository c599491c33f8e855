"""What a workflow's own metadata says of its models and custom nodes: anybody may have written it.

Wire source: ComfyUI's frontend, `src/platform/workflow/validation/schemas/workflowSchema.ts` zModelFile, and the
`properties` of a node (`cnr_id`, `aux_id`, `ver`), which its page writes when it saves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from comfyworker.jobs import Graph, ModelOffer

CORE = "comfy-core"
"""The `cnr_id` of the classes that ComfyUI itself brings."""
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_REGISTRY_ID = re.compile(r"[A-Za-z0-9][\w.-]*")
_VERSION = re.compile(r"[\w][\w.+-]{0,63}")
_MOST_OF_ONE_NAME = 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model file that a node's metadata names (`properties.models`, or `_meta.models` in API format)."""

    name: str
    folder: str | None
    url: str | None
    node_id: str
    """The node's id in API format; empty if the whole file lists it."""
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class ListedPack:
    """The custom node that a node's metadata says its class is from; `comfy-core` for ComfyUI's own."""

    class_type: str
    registry_id: str | None
    """Its name in the Comfy Registry."""
    repository: str | None
    """`owner/name` on GitHub."""
    version: str | None
    """A release, or a commit."""


def listed_models(entries: object, node_id: str) -> Iterator[ListedModel]:
    """Yield the models of a list as the page writes it: `[{name, url?, directory?, hash?, hash_type?}]`."""
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str) or not entry["name"]:
            continue
        digest = str(entry.get("hash", "")).lower()
        is_sha256 = str(entry.get("hash_type", "sha256")).lower() in ("sha256", "sha-256")
        yield ListedModel(
            name=entry["name"],
            folder=_text(entry.get("directory")),
            url=_text(entry.get("url")),
            node_id=node_id,
            sha256=digest if is_sha256 and _SHA256.fullmatch(digest) else None,
        )


def listed_in_graph(graph: Graph) -> tuple[ListedModel, ...]:
    """Return the models that the nodes of a workflow in API format list, each in its `_meta.models`."""
    found: list[ListedModel] = []
    for node_id, node in graph.items():
        meta = node.get("_meta")
        if isinstance(meta, dict):
            found.extend(listed_models(meta.get("models"), node_id))
    return tuple(found)


def offered_models(offers: Iterable[ModelOffer]) -> tuple[ListedModel, ...]:
    """Return the models that a request offers beside its workflow, as its metadata would list them."""
    return tuple(
        ListedModel(offer.filename, offer.destination, offer.url, node_id="", sha256=offer.sha256) for offer in offers
    )


def by_filename(listed: Iterable[ListedModel]) -> dict[str, list[ListedModel]]:
    """Return what the metadata lists by the files' own names, a few of each: a file may list thousands."""
    found: dict[str, list[ListedModel]] = {}
    for entry in listed:
        same = found.setdefault(_last(plain_name(entry.name)), [])
        if len(same) < _MOST_OF_ONE_NAME:
            same.append(entry)
    return found


def find_listed(listed: Iterable[ListedModel], name: str, folder: str | None) -> ListedModel | None:
    """Return what the metadata lists under a name that an input holds; None if it lists no such file.

    A name may hold folders, as `wan/high.safetensors`, which metadata leaves out or puts into the folder. Of several
    that fit, the one that fits best, then one with a URL, then the first.

    Args:
        listed: What the metadata lists.
        name: As the input holds it.
        folder: The folder of models that the input reads; None if that is not known.
    """
    best, best_rank = None, (0, 0)
    for entry in listed:
        rank = (_likeness(entry, plain_name(name), folder), int(entry.url is not None))
        if rank[0] and rank > best_rank:
            best, best_rank = entry, rank
    return best


def _likeness(entry: ListedModel, name: str, folder: str | None) -> int:
    listed = plain_name(entry.name)
    if folder is not None and entry.folder is not None:
        here, there = f"{folder}/{name}", f"{entry.folder.strip('/')}/{listed}"
        if here == there:
            return 4
        if _last(name) != _last(listed) or not _is_same_place(here, there):
            return 1 if name == listed else 0
        return 3
    if name == listed:
        return 3
    return 2 if _last(name) == _last(listed) else 0


def _is_same_place(here: str, there: str) -> bool:
    """Tell whether a file may be meant that metadata puts into a folder above, or names with fewer folders."""
    return here.partition("/")[0] == there.partition("/")[0] and there.count("/") <= here.count("/")


def plain_name(name: str) -> str:
    """Return a model's name with `/` between its folders, whichever system it was written on."""
    return name.replace("\\", "/").strip("/")


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def listed_pack(class_type: str, properties: Mapping[str, Any]) -> ListedPack | None:  # Any: JSON values
    """Return the custom node that a node's properties name; None if they name none."""
    registry_id, repository = _text(properties.get("cnr_id")), _text(properties.get("aux_id"))
    version = _text(properties.get("ver"))
    pack = ListedPack(
        class_type=class_type,
        registry_id=registry_id if registry_id and _REGISTRY_ID.fullmatch(registry_id) else None,
        repository=repository if repository and _REPOSITORY.fullmatch(repository) else None,
        version=version if version and _VERSION.fullmatch(version) else None,
    )
    return pack if pack.registry_id or pack.repository else None


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None
