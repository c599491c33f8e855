"""Other tools' files that say the same as a config.yml: comfy-build.yaml, and ComfyUI-Manager's snapshots.

Wire sources: comfy-build.yaml has `models [{type, filename, sha256, sourceUri}]` and `customNodes [{registryVersion, or
repository and gitRef}]`; a snapshot has `comfyui`, `git_custom_nodes {url: {hash, disabled}}`, `cnr_custom_nodes
{id: version}` and `pips`.
"""

from __future__ import annotations

from typing import Literal

from comfyworker.provision.config import fields
from comfyworker.provision.config.destinations import WrongDestination, resolve_destination
from comfyworker.provision.config.document import Value
from comfyworker.provision.config.fields import Findings
from comfyworker.provision.entries import LATEST, NIGHTLY, Config, ModelEntry, NodeEntry

_SNAPSHOT_KEYS = {"git_custom_nodes", "cnr_custom_nodes", "file_custom_nodes"}


def relative_of(document: Value) -> Literal["comfy-build", "snapshot"] | None:
    """Return which of the other files a document is; None if it is a config.yml."""
    keys = set(document.content)
    if keys & _SNAPSHOT_KEYS:
        return "snapshot"
    models = document.content.get("models")
    listed = models.content if models is not None and isinstance(models.content, list) else []
    is_build = any(isinstance(item.content, dict) and "sourceUri" in item.content for item in listed)
    return "comfy-build" if "customNodes" in keys or is_build else None


def read_comfy_build(document: Value, found: Findings) -> Config:
    """Return what a comfy-build.yaml asks for; what is only of interest to its own tool is left out."""
    models = [_build_model(item, f"models[{at}]", found) for at, item in enumerate(_items(document, "models", found))]
    nodes = [
        _build_node(item, f"customNodes[{at}]", found) for at, item in enumerate(_items(document, "customNodes", found))
    ]
    return Config(
        models=tuple(model for model in models if model is not None),
        nodes=tuple(node for node in nodes if node is not None),
        comfyui_version=_build_version(document, found),
    )


def read_snapshot(document: Value, found: Findings) -> Config:
    """Return what a snapshot of ComfyUI-Manager holds: its enabled nodes at their commits, ComfyUI at its.

    `pips` lists the whole environment of the machine that it was made on, other systems' CUDA packages included; the
    nodes' own requirements decide instead. Single-file nodes have no source, and are told as missing.
    """
    nodes: list[NodeEntry] = []
    for url, entry in _mapping_at(document, "git_custom_nodes", found).items():
        held = entry.content if isinstance(entry.content, dict) else {}
        disabled = held.get("disabled")
        if disabled is None or disabled.content is not True:
            commit = held.get("hash")
            at = str(commit.content) if commit is not None and commit.content else NIGHTLY
            nodes.append(NodeEntry(url=url, version=at, line=entry.line))
    for name, entry in _mapping_at(document, "cnr_custom_nodes", found).items():
        version = fields.text(entry, f"cnr_custom_nodes.{name}", found)
        if version is not None:
            nodes.append(NodeEntry(name=name, version=version, line=entry.line))
    comfyui = document.content.get("comfyui")
    ref = str(comfyui.content) if comfyui is not None and comfyui.content else None
    return Config(nodes=tuple(nodes), comfyui_version=ref)


def _items(document: Value, key: str, found: Findings) -> list[Value]:
    value = document.content.get(key)
    if value is None or value.content is None:
        return []
    if not isinstance(value.content, list):
        found.add(value.line, key, f"must be a list, and is {fields.kind_of(value)}", code="wrong_type")
        return []
    return list(value.content)


def _mapping_at(document: Value, key: str, found: Findings) -> dict[str, Value]:
    value = document.content.get(key)
    if value is None or value.content is None:
        return {}
    if not isinstance(value.content, dict):
        found.add(value.line, key, f"must be a mapping, and is {fields.kind_of(value)}", code="wrong_type")
        return {}
    return dict(value.content)


def _build_model(item: Value, path: str, found: Findings) -> ModelEntry | None:
    given = item.content if isinstance(item.content, dict) else {}
    missing = [key for key in ("type", "sourceUri") if key not in given]
    if missing:
        found.add(item.line, path, f"has no {' and no '.join(f'`{key}`' for key in missing)}", code="missing_key")
        return None
    url = fields.url(given["sourceUri"], f"{path}.sourceUri", found)
    kind = fields.text(given["type"], f"{path}.type", found)
    name = fields.filename(given["filename"], f"{path}.filename", found) if "filename" in given else None
    digest = fields.sha256(given["sha256"], f"{path}.sha256", found) if "sha256" in given else None
    try:
        destination = resolve_destination(kind or "")
    except WrongDestination as wrong:
        if kind is not None:
            found.add(given["type"].line, f"{path}.type", str(wrong), code="invalid_destination")
        return None
    if url is None:
        return None
    return ModelEntry(url=url, destination=destination, filename=name, sha256=digest, line=item.line)


def _build_node(item: Value, path: str, found: Findings) -> NodeEntry | None:
    given = item.content if isinstance(item.content, dict) else {}
    texts = {
        key: fields.text(value, f"{path}.{key}", found)
        for key, value in given.items()
        if key in ("registryVersion", "repository", "gitRef", "name", "id")
    }
    name = texts.get("id") or texts.get("name")
    registered = texts.get("registryVersion")
    if registered and ("@" in registered or name):
        own_name, _, version = registered.rpartition("@")
        return NodeEntry(name=own_name or name, version=version or LATEST, line=item.line)
    if texts.get("repository"):
        return NodeEntry(url=texts["repository"], version=texts.get("gitRef") or LATEST, line=item.line)
    found.add(item.line, path, "has neither `registryVersion` nor `repository`", code="missing_key")
    return None


def _build_version(document: Value, found: Findings) -> str | None:
    for key in ("comfyuiVersion", "comfyui"):
        value = document.content.get(key)
        if value is not None and isinstance(value.content, dict):
            value = value.content.get("version") or value.content.get("gitRef")
        if value is not None and value.content is not None:
            return fields.text(value, key, found)
    return None
