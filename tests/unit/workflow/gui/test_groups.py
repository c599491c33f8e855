"""Group nodes, which older workflows have where newer ones have subgraphs."""

from typing import Any

from comfyworker.workflow import NodeClasses
from comfyworker.workflow.gui import convert_gui
from support.gui_workflows import node, widget, workflow

GROUP: dict[str, Any] = {
    "nodes": [
        node(-1, "Latent", widgets_values=[64, 32], outputs=[{"name": "LATENT", "type": "LATENT"}]),
        node(
            -1,
            "Sampler",
            inputs=[
                {"name": "model", "type": "MODEL", "link": None},
                {"name": "latent", "type": "LATENT", "link": 12},
                widget("steps", "INT", 13),
            ],
            outputs=[{"name": "LATENT", "type": "LATENT"}],
            widgets_values=[7, "fixed", 30, "heun"],
        ),
        node(
            -1,
            "PrimitiveNode",
            title="Steps",
            outputs=[{"name": "INT", "type": "INT"}],
            widgets_values=[11, "fixed"],
        ),
    ],
    "links": [[0, 0, 1, 1, 1, "LATENT"], [2, 0, 1, 2, 3, "INT"], [None, 0, 1, 0, 9, "MODEL"]],
    "external": [[1, 0, "LATENT"]],
}


def grouped(kind: str = "workflow>Both", **parts: Any) -> dict[str, Any]:
    """Return a workflow with one instance of the group."""
    saved = workflow(
        node(3, "Model", widgets_values=["b.safetensors"]),
        node(57, kind, inputs={"model": ("MODEL", 1)}, **parts),
        node(4, "Save", inputs={"latent": ("LATENT", 2)}),
        links=[[1, 3, 0, 57, 0, "MODEL"], [2, 57, 0, 4, 0, "LATENT"]],
    )
    return {**saved, "extra": {"groupNodes": {"Both": GROUP}}}


def test_a_group_is_opened(classes: NodeClasses) -> None:
    """Its nodes are numbered from nought; what the instance holds beats what is within, primitives included."""
    graph = convert_gui(grouped(widgets_values=[512, 768, 5, "randomize", "euler", 99, "fixed"]), classes)
    assert {node_id: entry["inputs"] for node_id, entry in graph.items()} == {
        "3": {"name": "b.safetensors"},
        "57:0": {"width": 512, "height": 768},
        "57:1": {"seed": 5, "steps": 99, "sampler": "euler", "model": ["3", 0], "latent": ["57:0", 0]},
        "4": {"prefix": "out", "note": "", "latent": ["57:1", 0]},
    }


def test_the_older_name_of_a_group_is_known(classes: NodeClasses) -> None:
    """Without values of the instance, those within count."""
    graph = convert_gui(grouped("workflow/Both"), classes)
    assert graph["57:1"]["inputs"]["steps"] == 11
    assert graph["57:0"]["inputs"] == {"width": 64, "height": 32}


def test_names_that_occur_twice_get_the_nodes_before_them(classes: NodeClasses) -> None:
    """Two patches in one group: the second's model is `Patch model`."""
    patch = node(-1, "Patch", inputs={"model": ("MODEL", None)}, outputs=[{"name": "MODEL", "type": "MODEL"}])
    group = {"nodes": [patch, patch], "links": [], "external": []}
    saved = workflow(
        node(1, "Model"),
        node(2, "workflow>Two", inputs={"model": ("MODEL", None), "Patch model": ("MODEL", 1)}),
        links=[[1, 1, 0, 2, 1, "MODEL"]],
    )
    graph = convert_gui({**saved, "extra": {"groupNodes": {"Two": group}}}, classes)
    assert [graph[node_id]["inputs"].get("model") for node_id in ("2:0", "2:1")] == [None, ["1", 0]]
