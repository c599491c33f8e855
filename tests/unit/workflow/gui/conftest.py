"""Node classes that have each sort of widget."""

from typing import Any

import pytest

from comfyworker.workflow import NodeClasses


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
