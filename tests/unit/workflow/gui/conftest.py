"""Node classes and a small way of writing workflows as ComfyUI's page saves them."""

from typing import Any

import pytest

from comfyworker.workflow import NodeClasses


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


@pytest.fixture(scope="session")
def classes() -> NodeClasses:
    """Return node classes that have each sort of widget."""
    return NodeClasses(_OBJECT_INFO)


def _class(
    required: dict[str, Any], output: list[str], *, optional: dict[str, Any] | None = None, title: str = ""
) -> dict[str, Any]:
    return {
        "input": {"required": required, "optional": optional or {}},
        "input_order": {"required": list(required), "optional": list(optional or {})},
        "output": output,
        "display_name": title,
        "output_node": not output,
    }


_OBJECT_INFO: dict[str, Any] = {
    "Sampler": _class(
        {
            "model": ["MODEL"],
            "seed": ["INT", {"default": 0}],
            "steps": ["INT", {"default": 20}],
            "sampler": [["euler", "heun"], {}],
            "latent": ["LATENT"],
        },
        ["LATENT"],
        title="The Sampler",
    ),
    "Model": _class({"name": ["COMBO", {"options": ["a.safetensors", "b.safetensors"]}]}, ["MODEL"]),
    "Patch": _class({"model": ["MODEL"], "strength": ["FLOAT", {"default": 1.0}]}, ["MODEL"]),
    "Latent": _class({"width": ["INT", {}], "height": ["INT", {}]}, ["LATENT"]),
    "Number": _class({"value": ["INT", {"control_after_generate": True}]}, ["INT"]),
    "Save": _class({"latent": ["LATENT"], "prefix": ["STRING", {"default": "out"}]}, [], optional={"note": ["STRING"]}),
    "Load": _class(
        {"image": [["x.png"], {"image_upload": True}]}, ["IMAGE"], optional={"channel": [["red", "alpha"], {}]}
    ),
    "Forced": _class(
        {"text": ["STRING", {"forceInput": True}], "size": ["INT", {"default": 5}], "points": ["LIST"]}, ["STRING"]
    ),
    "Resize": _class(
        {
            "how": [
                "COMFY_DYNAMICCOMBO_V3",
                {
                    "options": [
                        {"key": "by size", "inputs": {"required": {"width": ["INT"], "height": ["INT"]}}},
                        {"key": "by factor", "inputs": {"required": {"factor": ["FLOAT", {}]}}},
                    ]
                },
            ],
            "method": [["area", "nearest"], {}],
        },
        ["IMAGE"],
    ),
}
