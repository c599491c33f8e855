"""config.yml read: every mistake is found, and told with its line and key."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from comfyworker.errors import InvalidConfig
from comfyworker.provision.config import fields
from comfyworker.provision.config.destinations import WrongDestination, resolve_destination
from comfyworker.provision.config.document import Value, read_document
from comfyworker.provision.config.fields import Findings
from comfyworker.provision.config.relatives import read_comfy_build, read_snapshot, relative_of
from comfyworker.provision.entries import LATEST, Config, ModelEntry, NodeEntry
from comfyworker.wording import summary

_KEYS = ("models", "nodes", "comfyui", "pip")
_MODEL_KEYS = ("url", "destination", "optional", "filename", "sha256", "size")
_NODE_KEYS = ("url", "name", "version", "optional")
_COMFYUI_KEYS = ("version",)
_REGISTERED = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:@([\w.+-]+))?$")
_HINT = "`comfyworker config validate` checks the file; docs/reference/config-yml.md says what it may hold."
_Entry = TypeVar("_Entry")


def parse_config(text: str, *, name: str = "config.yml") -> Config:
    """Return what a config.yml asks for; a comfy-build.yaml and a snapshot of ComfyUI-Manager are read too.

    Args:
        text: The file's content.
        name: What messages call it.

    Raises:
        InvalidConfig: `problems` has everything that is wrong, each with its line and key.
    """
    document = read_document(text, name=name)
    found = Findings(name)
    if not isinstance(document.content, dict):
        found.add(document.line, "the file", f"must be a mapping, and is {fields.kind_of(document)}", code="wrong_type")
        raise _wrong(found)
    relative = relative_of(document)
    if relative == "comfy-build":
        config = read_comfy_build(document, found)
    elif relative == "snapshot":
        config = read_snapshot(document, found)
    else:
        config = _read(document, found)
    if found.problems:
        raise _wrong(found)
    return config


def _wrong(found: Findings) -> InvalidConfig:
    return InvalidConfig(summary(found.problems), hint=_HINT, problems=found.problems)


def _read(document: Value, found: Findings) -> Config:
    _check_keys(document, "", _KEYS, found)
    top: dict[str, Value] = document.content
    models = _entries(top.get("models"), "models", _model, found)
    nodes = _entries(top.get("nodes"), "nodes", _node, found)
    _check_twice(models, nodes, found)
    return Config(
        models=tuple(models),
        nodes=tuple(nodes),
        comfyui_version=_comfyui(top.get("comfyui"), found),
        pip=tuple(_entries(top.get("pip"), "pip", _requirement, found)),
    )


def _entries(
    value: Value | None, path: str, read: Callable[[Value, str, Findings], _Entry | None], found: Findings
) -> list[_Entry]:
    if value is None or value.content is None:
        return []
    if not isinstance(value.content, list):
        found.add(value.line, path, f"must be a list, and is {fields.kind_of(value)}", code="wrong_type")
        return []
    read_ones = [read(item, f"{path}[{number}]", found) for number, item in enumerate(value.content)]
    return [entry for entry in read_ones if entry is not None]


def _model(item: Value, path: str, found: Findings) -> ModelEntry | None:
    given = _mapping(item, path, _MODEL_KEYS, found, needs=("url", "destination"))
    if given is None:
        return None
    before = len(found.problems)
    values: dict[str, Any] = {"line": item.line}  # each field has a type of its own
    readers: dict[str, tuple[str, Callable[[Value, str, Findings], object]]] = {
        "url": ("url", fields.url),
        "destination": ("destination", _destination),
        "filename": ("filename", fields.filename),
        "sha256": ("sha256", fields.sha256),
        "size": ("size_bytes", fields.size),
        "optional": ("optional", fields.flag),
    }
    for key, (field_name, read) in readers.items():
        if key in given and given[key].content is not None:
            values[field_name] = read(given[key], f"{path}.{key}", found)
    return ModelEntry(**values) if len(found.problems) == before else None


def _destination(value: Value, path: str, found: Findings) -> str | None:
    written = fields.text(value, path, found)
    if written is None:
        return None
    try:
        return resolve_destination(written)
    except WrongDestination as wrong:
        found.add(value.line, path, str(wrong), code="invalid_destination", suggestion=wrong.suggestion)
        return None


def _node(item: Value, path: str, found: Findings) -> NodeEntry | None:
    if isinstance(item.content, str):  # `name@version`, as the Comfy Registry's own tools write it
        return _registered(item.content, None, item, path, found)
    given = _mapping(item, path, _NODE_KEYS, found)
    if given is None:
        return None
    before = len(found.problems)
    version = fields.text(given["version"], f"{path}.version", found) if _is_given(given, "version") else None
    if version is not None and version.startswith("-"):
        found.add(given["version"].line, f"{path}.version", "is no version", code="invalid_value")
    optional = _is_given(given, "optional") and fields.flag(given["optional"], f"{path}.optional", found)
    entry: NodeEntry | None = None
    named = [key for key in ("url", "name") if _is_given(given, key)]
    if named == ["url"]:
        url = _repository(given["url"], f"{path}.url", found)
        entry = NodeEntry(url=url, version=version or LATEST, line=item.line)
    elif named == ["name"]:
        entry = _registered(given["name"].content, version, given["name"], path, found)
    else:
        what = "needs `url`, a git repository, or `name`, a name of the Comfy Registry"
        found.add(item.line, path, f"{what}, not both" if named else what, code="missing_key")
    if entry is None or len(found.problems) != before:
        return None
    return entry.model_copy(update={"optional": optional, "line": item.line})


def _registered(written: object, version: str | None, item: Value, path: str, found: Findings) -> NodeEntry | None:
    match = _REGISTERED.match(written.strip()) if isinstance(written, str) else None
    if match is None:
        found.add(item.line, path, "is no name of the Comfy Registry, as `comfyui-kjnodes@1.0.5`", code="invalid_value")
        return None
    return NodeEntry(name=match.group(1), version=match.group(2) or version or LATEST, line=item.line)


def _repository(value: Value, path: str, found: Findings) -> str | None:
    """Return the URL of a git repository: https, ssh, git@host:…, or a folder on this machine."""
    written = fields.text(value, path, found)
    if written is None:
        return None
    is_known = written.startswith(("https://", "http://", "ssh://", "git://", "file://", "git@", "/", "./", "../"))
    if not is_known or any(sign.isspace() for sign in written):
        found.add(value.line, path, "is no URL of a git repository, as https://github.com/…", code="invalid_url")
        return None
    return fields.url(value, path, found) if written.startswith("http") else written


def _requirement(item: Value, path: str, found: Findings) -> str | None:
    written = fields.text(item, path, found)
    if written is not None and written.startswith("-"):
        found.add(item.line, path, "must be a package, as `diffusers>=0.29`, and no option", code="invalid_value")
        return None
    return written


def _comfyui(value: Value | None, found: Findings) -> str | None:
    if value is None or value.content is None:
        return None
    if not isinstance(value.content, dict):
        return fields.text(value, "comfyui", found)
    given = _mapping(value, "comfyui", _COMFYUI_KEYS, found, needs=_COMFYUI_KEYS)
    return fields.text(given["version"], "comfyui.version", found) if given and "version" in given else None


def _mapping(
    item: Value, path: str, known: tuple[str, ...], found: Findings, *, needs: tuple[str, ...] = ()
) -> dict[str, Value] | None:
    if not isinstance(item.content, dict):
        what = f"must be a mapping with {', '.join(needs or known)}, and is {fields.kind_of(item)}"
        found.add(item.line, path, what, code="wrong_type")
        return None
    _check_keys(item, f"{path}.", known, found)
    given: dict[str, Value] = item.content
    missing = [key for key in needs if not _is_given(given, key)]
    for key in missing:
        found.add(item.line, path, f"has no `{key}`", code="missing_key")
    return None if missing else given


def _is_given(given: dict[str, Value], key: str) -> bool:
    return key in given and given[key].content is not None


def _check_keys(item: Value, prefix: str, known: tuple[str, ...], found: Findings) -> None:
    for key in item.content:
        if key not in known:
            found.unknown_key(item.key_lines[key], f"{prefix}{key}", key, known)


def _check_twice(models: list[ModelEntry], nodes: list[NodeEntry], found: Findings) -> None:
    """Find two entries that would overwrite each other, unless they ask for the same."""
    seen: dict[tuple[str, str], ModelEntry] = {}
    for number, model in enumerate(models):
        name = model.filename or model.url.partition("?")[0].rstrip("/").rpartition("/")[2]
        first = seen.setdefault((model.destination, name), model)
        if first is not model and (first.url, first.sha256) != (model.url, model.sha256):
            what = f"goes to the same file as line {first.line}, {model.destination}/{name}; `filename` renames one"
            found.add(model.line or 0, f"models[{number}]", what, code="same_file")
    packs: dict[str, NodeEntry] = {}
    for number, node in enumerate(nodes):
        key = (node.name or node.url or "").lower().rstrip("/").removesuffix(".git")
        other = packs.setdefault(key, node)
        if other is not node and other.version != node.version:
            what = f"is the custom node of line {other.line} in another version"
            found.add(node.line or 0, f"nodes[{number}]", what, code="same_node")
