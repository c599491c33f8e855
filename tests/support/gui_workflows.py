"""A small way of writing workflows as ComfyUI's page saves them."""

from typing import Any


def node(node_id: int, kind: str, **parts: Any) -> dict[str, Any]:
    """Return a node in GUI format; `inputs` may be given as name → (type, link id)."""
    inputs = parts.pop("inputs", {})
    if isinstance(inputs, dict):
        inputs = [{"name": name, "type": kind, "link": link} for name, (kind, link) in inputs.items()]
    return {"id": node_id, "type": kind, "mode": 0, "inputs": inputs, "outputs": [], **parts}


def widget(name: str, kind: str, link: int | None = None) -> dict[str, Any]:
    """Return the input that stands beside a widget."""
    return {"name": name, "type": kind, "link": link, "widget": {"name": name}}


def line(link_id: int, origin: int, origin_slot: int, target: int, target_slot: int) -> dict[str, Any]:
    """Return a link as version 1.0 and subgraphs have it."""
    return {
        "id": link_id,
        "origin_id": origin,
        "origin_slot": origin_slot,
        "target_id": target,
        "target_slot": target_slot,
        "type": "*",
    }


def workflow(*nodes: dict[str, Any], links: Any = (), subgraphs: Any = ()) -> dict[str, Any]:
    """Return a workflow in GUI format."""
    return {"version": 0.4, "nodes": list(nodes), "links": list(links), "definitions": {"subgraphs": list(subgraphs)}}
