"""Reading a workflow and walking its nodes."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyworker.errors import InvalidWorkflow, WorkerError, WorkflowFormatUI
from comfyworker.jobs import Graph
from comfyworker.workflow import ancestors, class_of, is_link, links, read_workflow, title_of
from strategies import json_values, workflows

NODE = {"class_type": "SaveImage", "inputs": {}}
NODE_PARTS = {"class_type": st.text(max_size=3) | json_values(), "inputs": json_values(), "_meta": json_values()}


def test_workflow_is_copied(graph: Graph) -> None:
    """A workflow of the right shape comes back equal, and changing it leaves the caller's alone."""
    kept = copy.deepcopy(graph)
    read = read_workflow(graph)
    assert read == kept
    read["1"]["inputs"]["ckpt_name"] = "other"
    assert graph == kept


def test_text_is_parsed(graph: Graph) -> None:
    """A workflow may come as JSON text."""
    assert read_workflow(json.dumps(graph)) == graph


def test_prompt_body_is_unwrapped(graph: Graph) -> None:
    """The body of a `POST /prompt` is taken for the workflow in it."""
    assert read_workflow({"prompt": graph, "client_id": "x"}) == graph


def test_node_may_be_called_prompt() -> None:
    """A node whose id is `prompt` does not make the workflow a `POST /prompt` body."""
    assert read_workflow({"prompt": NODE}) == {"prompt": NODE}


def test_node_without_inputs_gets_none() -> None:
    """A node that leaves out its inputs has none."""
    assert read_workflow({"1": {"class_type": "X"}}) == {"1": {"class_type": "X", "inputs": {}}}


@pytest.mark.parametrize(("levels", "fits"), [(98, True), (99, False)])
@pytest.mark.parametrize("key", ["inputs", "_meta"])
def test_a_node_has_a_depth(levels: int, fits: bool, key: str) -> None:
    """One that is nested deeper than can be sent on is refused where it stands, whatever the interpreter bears."""
    value: object = 1
    for number in range(levels):
        value = [value] if number % 2 else {"a": value}
    workflow = {"1": NODE, "7": {"class_type": "X", "inputs": {}, key: {"x": value}}}
    if fits:
        assert read_workflow(workflow)["7"][key] == {"x": value}
    else:
        with pytest.raises(InvalidWorkflow, match="node 7: is nested more than 100 levels deep") as caught:
            read_workflow(workflow)
        assert [problem.path for problem in caught.value.problems] == ["input.workflow.7"]


def test_gui_format_is_named() -> None:
    """The format that ComfyUI's page saves is told apart, with what to do."""
    with pytest.raises(WorkflowFormatUI) as caught:
        read_workflow({"nodes": [], "links": [], "version": 0.4})
    assert caught.value.to_dict() == {
        "code": "workflow_format_ui",
        "message": "input.workflow is in the GUI format, which ComfyUI's page saves and its API does not take",
        "retryable": False,
        "hint": "Export it with 'Export (API)' in ComfyUI's Workflow menu, and send that file.",
        "problems": [
            {"message": "workflow is in the GUI format", "code": "workflow_format_ui", "path": "input.workflow"}
        ],
    }


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "w is null, not an object of nodes"),
        ([], "w is a list, not an object of nodes"),
        (3, "w is a number, not an object of nodes"),
        ({}, "w is empty: it has no nodes"),
        ("{} x", "w is text that is no JSON: at line 1, column 4"),
        ("[" * 100_000, "w is nested too deeply"),
        ("true", "w is true or false, not an object of nodes"),
    ],
)
def test_what_is_no_workflow(value: object, message: str) -> None:
    """What holds no nodes at all is refused with what it is instead."""
    with pytest.raises(InvalidWorkflow) as caught:
        read_workflow(value, path="w")
    assert caught.value.message == message


def test_all_shape_problems_at_once() -> None:
    """Each node of the wrong shape, and each link to nowhere, is a problem of its own."""
    with pytest.raises(InvalidWorkflow) as caught:
        read_workflow(
            {
                "1": "text",
                "2": {"inputs": {}},
                "3": {"class_type": 7, "inputs": {}},
                "4": {"class_type": "X", "inputs": []},
                "5": {"class_type": "X", "inputs": {"a": ["9", 0], "b": ["1", 0]}},
            }
        )
    assert [(problem.path, problem.message) for problem in caught.value.problems] == [
        ("input.workflow.1", "node 1: is text, not an object"),
        ("input.workflow.2.class_type", "node 2: has no class_type"),
        ("input.workflow.3.class_type", "node 3: its class_type is not text"),
        ("input.workflow.4.inputs", "node 4: its inputs are a list, not an object"),
        ("input.workflow.5.inputs.a", "node 5 (X), input a: linked to node '9', which is not in the workflow"),
    ]
    assert caught.value.message == (
        "5 problems: node 1: is text, not an object; node 2: has no class_type; node 3: its class_type is not text; …"
    )


def test_links_can_be_left_to_the_preflight() -> None:
    """With `check_links=False`, a link to nowhere is no problem yet."""
    graph = {"1": {"class_type": "X", "inputs": {"a": ["9", 0]}}}
    assert read_workflow(graph, check_links=False) == graph


@given(json_values() | st.dictionaries(st.text(max_size=3), st.fixed_dictionaries({}, optional=NODE_PARTS), max_size=3))
def test_any_value_is_a_graph_or_an_error(value: Any) -> None:
    """No JSON value, however odd, gives anything but a graph or a WorkerError."""
    try:
        graph = read_workflow(value)
    except WorkerError:
        return
    assert all(isinstance(node["class_type"], str) and isinstance(node["inputs"], dict) for node in graph.values())


@given(workflows())
def test_reading_twice_equals_once(graph: Graph) -> None:
    """A graph that was read is itself a workflow."""
    assert read_workflow(read_workflow(graph)) == graph


@pytest.mark.parametrize(
    ("value", "expected"),
    [(["1", 0], True), (["1", 0.0], True), ([1, 0], False), (["1", "0"], False), (["1"], False), ("1", False)],
)
def test_is_link(value: object, expected: bool) -> None:
    """Lists of a text and a number are links, as ComfyUI has it."""
    assert is_link(value) is expected


def test_links_of_a_node(graph: Graph) -> None:
    """Only linked inputs are told, in the order of the node."""
    assert list(links(graph["9"])) == [("image1", "8", 0), ("image2", "7", 0)]


def test_ancestors_hold_the_nodes_themselves(graph: Graph) -> None:
    """A node, what it needs, what these need; ids that are not there are left out."""
    assert ancestors(graph, ["3", "99"]) == {"1", "2", "3"}


def test_ancestors_end_on_a_cycle() -> None:
    """Nodes that need each other are found once."""
    cycle = {"1": {"class_type": "X", "inputs": {"a": ["2", 0]}}, "2": {"class_type": "X", "inputs": {"a": ["1", 0]}}}
    assert ancestors(cycle, ["1"]) == {"1", "2"}


def test_class_and_title(graph: Graph) -> None:
    """A node's class and title are told, None where there is none."""
    assert [(class_of(graph, node_id), title_of(graph, node_id)) for node_id in ("3", "4", "99")] == [
        ("CLIPTextEncode", "Positive"),
        ("CLIPTextEncode", None),
        (None, None),
    ]
