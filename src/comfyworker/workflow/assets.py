"""Assets in a workflow: objects that stand where a file's name would, and name something that was uploaded before.

`{"__type": "core/ASSET", "info": {"id", "hash"?, "file_path"?}}`, as Comfy API v2 has them; only the id decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from comfyworker.jobs import Graph

ASSET_TYPE = "core/ASSET"
_MAX_DEPTH = 16  # they stand in an input, or in a list within one


class AssetInput(NamedTuple):
    """One place in a workflow where an asset stands."""

    node_id: str
    class_type: str
    input_name: str
    asset_id: str | None
    """None if the object names none."""


def find_assets(graph: Graph) -> tuple[AssetInput, ...]:
    """Return the places where assets stand, in the order of the graph."""
    return tuple(
        AssetInput(node_id, str(node["class_type"]), name, _asset_id(found))
        for node_id, node in graph.items()
        for name, value in node["inputs"].items()
        for found in _assets_in(value)
    )


def name_assets(graph: Graph, names: Mapping[str, str]) -> Graph:
    """Return a copy of `graph` with a file's name in the place of each asset.

    Args:
        graph: The workflow; it is left as it was.
        names: The asset's id → the name. An asset that is not in it stays what it is.
    """
    changed = dict(graph)
    for node_id, node in graph.items():
        renamed = {
            name: _renamed(value, names)
            for name, value in node["inputs"].items()
            if any(_asset_id(found) in names for found in _assets_in(value))
        }
        if renamed:
            changed[node_id] = {**node, "inputs": {**node["inputs"], **renamed}}
    return changed


def _is_asset(value: object) -> bool:
    return isinstance(value, dict) and value.get("__type") == ASSET_TYPE


def _asset_id(asset: Mapping[str, Any]) -> str | None:  # Any: JSON from outside
    info = asset.get("info")
    found = info.get("id") if isinstance(info, dict) else None
    return found if isinstance(found, str) and found else None


def _assets_in(value: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:  # noqa: ANN401 - any JSON value
    if _is_asset(value):
        yield value
    elif isinstance(value, dict | list) and depth < _MAX_DEPTH:
        for item in value.values() if isinstance(value, dict) else value:
            yield from _assets_in(item, depth + 1)


def _renamed(value: Any, names: Mapping[str, str], depth: int = 0) -> Any:  # noqa: ANN401 - any JSON value
    if _is_asset(value):
        return names.get(_asset_id(value) or "", value)
    if depth == _MAX_DEPTH:
        return value
    if isinstance(value, dict):
        return {key: _renamed(item, names, depth + 1) for key, item in value.items()}
    return [_renamed(item, names, depth + 1) for item in value] if isinstance(value, list) else value
