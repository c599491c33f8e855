"""Subgraphs: nodes within nodes."""

import copy
from typing import Any

import pytest

from comfyworker.errors import WorkflowFormatUI
from comfyworker.workflow import NodeClasses
from comfyworker.workflow.gui import convert_gui
from support.gui_workflows import line, node, widget, workflow

INNER: dict[str, Any] = {
    "id": "sub-1",
    "name": "Sampling",
    "inputs": [{"name": "model", "type": "MODEL"}, {"name": "steps", "type": "INT"}, {"name": "way", "type": "COMBO"}],
    "outputs": [{"name": "LATENT", "type": "LATENT"}],
    "nodes": [
        node(1, "Latent", widgets_values=[64, 32]),
        node(
            2,
            "Sampler",
            inputs=[
                {"name": "model", "type": "MODEL", "link": 1},
                {"name": "latent", "type": "LATENT", "link": 2},
                widget("steps", "INT", 3),
                widget("sampler", "COMBO", 4),
            ],
            widgets_values=[7, "fixed", 30, "heun"],
        ),
    ],
    "links": [
        line(1, -10, 0, 2, 0),
        line(2, 1, 0, 2, 1),
        line(3, -10, 1, 2, 2),
        line(4, -10, 2, 2, 3),
        line(5, 2, 0, -20, 0),
    ],
}
OUTER: dict[str, Any] = {
    "id": "sub-2",
    "inputs": [{"name": "count", "type": "INT"}],
    "outputs": [{"name": "LATENT", "type": "LATENT"}],
    "nodes": [
        node(1, "Model", widgets_values=["a.safetensors"]),
        node(5, "sub-1", inputs=[{"name": "model", "type": "MODEL", "link": 1}, widget("steps", "INT", 2)]),
    ],
    "links": [line(1, 1, 0, 5, 0), line(2, -10, 0, 5, 1), line(3, 5, 0, -20, 0)],
}


def instance(**parts: Any) -> dict[str, Any]:
    """Return a workflow with one instance of the subgraph, a model before it and an output behind it."""
    inputs = parts.pop("inputs", [{"name": "model", "type": "MODEL", "link": 1}])
    return workflow(
        node(3, "Model", widgets_values=["b.safetensors"]),
        node(57, "sub-1", inputs=inputs, **parts),
        node(4, "Save", inputs={"latent": ("LATENT", 2)}),
        links=[[1, 3, 0, 57, 0, "MODEL"], [2, 57, 0, 4, 0, "LATENT"]],
        subgraphs=[INNER],
    )


def sampler(value: dict[str, Any], classes: NodeClasses) -> dict[str, Any]:
    """Return the inputs of the sampler within."""
    inputs: dict[str, Any] = convert_gui(value, classes)["57:2"]["inputs"]
    return inputs


def test_nodes_within_stand_beside_the_others(classes: NodeClasses) -> None:
    """Ids are `instance:node`; links go in and out through the virtual nodes."""
    graph = convert_gui(instance(), classes)
    assert {node_id: entry["class_type"] for node_id, entry in graph.items()} == {
        "3": "Model",
        "57:1": "Latent",
        "57:2": "Sampler",
        "4": "Save",
    }
    assert graph["4"]["inputs"]["latent"] == ["57:2", 0]
    assert graph["57:2"]["inputs"] == {
        "seed": 7,
        "steps": 30,
        "sampler": "heun",
        "model": ["3", 0],
        "latent": ["57:1", 0],
    }


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([4, "euler"], None),
        (["euler", 4], [["-1", "way"], ["-1", "steps"]]),
        (["euler", 4], '[["-1", "way"], ["-1", "steps"]]'),
        ([4, "euler"], [["2", "steps"], ["2", "sampler"]]),
    ],
)
def test_what_the_instance_says_beats_what_is_within(values: list[Any], shown: Any, classes: NodeClasses) -> None:
    """Values of promoted widgets stand in the order of the inputs, or of the list of proxies."""
    properties = {} if shown is None else {"proxyWidgets": shown}
    inputs = sampler(instance(widgets_values=values, properties=properties), classes)
    assert (inputs["steps"], inputs["sampler"]) == (4, "euler")


@pytest.mark.parametrize("values", [["euler", 4], [4, 5]], ids=["text for a number", "a number for a choice"])
def test_values_whose_order_has_got_lost_are_not_taken(values: list[Any], classes: NodeClasses) -> None:
    """One of the wrong kind shows it: what is within stays, for all of them."""
    inputs = sampler(instance(widgets_values=values), classes)
    assert (inputs["steps"], inputs["sampler"]) == (30, "heun")


def test_an_input_that_the_class_no_longer_has_keeps_its_place(classes: NodeClasses) -> None:
    """The file says that a widget stood there, so the values behind it are not shifted."""
    inner = copy.deepcopy(INNER)
    inner["inputs"].insert(1, {"name": "gone", "type": "FLOAT"})
    inner["nodes"][1]["inputs"].append(widget("gone", "FLOAT", 9))
    for link in inner["links"]:
        link["origin_slot"] += link["origin_id"] == -10 and link["origin_slot"] > 0
    inner["links"].append(line(9, -10, 1, 2, 4))
    value = instance(widgets_values=[0.5, 4, "euler"])
    value["definitions"]["subgraphs"] = [inner]
    inputs = sampler(value, classes)
    assert (inputs["steps"], inputs["sampler"]) == (4, "euler")


def test_a_linked_input_beats_every_value(classes: NodeClasses) -> None:
    """A link into a promoted widget counts, whatever the instance and the node within hold."""
    value = instance(
        inputs=[{"name": "model", "type": "MODEL", "link": 1}, widget("steps", "INT", 9)], widgets_values=[4, "euler"]
    )
    value["nodes"].append(node(9, "Number", widgets_values=[11, "fixed"]))
    value["links"].append([9, 9, 0, 57, 1, "INT"])
    assert sampler(value, classes)["steps"] == ["9", 0]


def test_subgraphs_nest(classes: NodeClasses) -> None:
    """Ids grow with each level; the outermost value wins."""
    value = workflow(
        node(8, "sub-2", inputs=[widget("count", "INT")], widgets_values=[3]),
        node(4, "Save", inputs={"latent": ("LATENT", 2)}),
        links=[[2, 8, 0, 4, 0, "LATENT"]],
        subgraphs=[INNER, OUTER],
    )
    graph = convert_gui(value, classes)
    assert graph["4"]["inputs"]["latent"] == ["8:5:2", 0]
    assert (graph["8:5:2"]["inputs"]["model"], graph["8:5:2"]["inputs"]["steps"]) == (["8:1", 0], 3)


@pytest.mark.parametrize("mode", [2, 4])
def test_an_instance_that_is_off_leaves_nothing_within(mode: int, classes: NodeClasses) -> None:
    """Muted or bypassed: its nodes do not run."""
    graph = convert_gui(instance(mode=mode), classes)
    assert (list(graph), "latent" in graph["4"]["inputs"]) == (["3", "4"], False)


def test_a_subgraph_within_itself_is_refused(classes: NodeClasses) -> None:
    """The page would not let one draw it."""
    circle = {"id": "c", "inputs": [], "outputs": [], "nodes": [node(1, "c")], "links": []}
    with pytest.raises(WorkflowFormatUI, match="subgraph 'c' holds itself"):
        convert_gui(workflow(node(1, "c"), subgraphs=[circle]), classes)


def test_instances_that_multiply_are_refused(classes: NodeClasses) -> None:
    """Ten in each of ten, four levels down: a small file must not become ten thousand nodes."""
    levels = [
        {"id": f"s{n}", "inputs": [], "outputs": [], "links": [], "nodes": [node(i, f"s{n + 1}") for i in range(10)]}
        for n in range(5)
    ]
    with pytest.raises(WorkflowFormatUI, match="more than 5000"):
        convert_gui(workflow(node(1, "s0"), subgraphs=levels), classes)
