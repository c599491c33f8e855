"""From GUI format to API format."""

import contextlib
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyworker.errors import InvalidWorkflow, MissingNode, WorkflowFormatUI
from comfyworker.workflow import NodeClasses
from comfyworker.workflow.gui import ListedModel, convert_gui, convert_what_can_be, is_gui_format
from support.gui_workflows import line, node, widget, workflow


@pytest.fixture
def plain() -> dict[str, Any]:
    """Return a workflow of four nodes and a note."""
    return workflow(
        node(1, "Model", widgets_values=["b.safetensors"], title="My model"),
        node(2, "Latent", widgets_values=[512, 768]),
        node(
            3,
            "Sampler",
            inputs={"model": ("MODEL", 1), "latent": ("LATENT", 2)},
            widgets_values=[7, "randomize", 30, "heun"],
        ),
        node(4, "Save", inputs={"latent": ("LATENT", 3)}, widgets_values=["pic", ""]),
        node(5, "Note", widgets_values=["hello"]),
        links=[[1, 1, 0, 3, 0, "MODEL"], [2, 2, 0, 3, 1, "LATENT"], [3, 3, 0, 4, 0, "LATENT"]],
    )


def inputs(value: dict[str, Any], classes: NodeClasses) -> dict[str, Any]:
    """Return the inputs of each node after the conversion."""
    return {node_id: entry["inputs"] for node_id, entry in convert_gui(value, classes).items()}


def test_values_get_their_names_and_links_their_nodes(plain: dict[str, Any], classes: NodeClasses) -> None:
    """Widget values are named by the class; a seed's control is left out, and so are notes."""
    assert convert_gui(plain, classes) == {
        "1": {"class_type": "Model", "inputs": {"name": "b.safetensors"}, "_meta": {"title": "My model"}},
        "2": {"class_type": "Latent", "inputs": {"width": 512, "height": 768}, "_meta": {"title": "Latent"}},
        "3": {
            "class_type": "Sampler",
            "inputs": {"seed": 7, "steps": 30, "sampler": "heun", "model": ["1", 0], "latent": ["2", 0]},
            "_meta": {"title": "The Sampler"},
        },
        "4": {
            "class_type": "Save",
            "inputs": {"prefix": "pic", "note": "", "latent": ["3", 0]},
            "_meta": {"title": "Save"},
        },
    }


def test_the_file_is_left_as_it_was(plain: dict[str, Any], classes: NodeClasses) -> None:
    """The caller's object is not changed."""
    before = copy.deepcopy(plain)
    convert_gui(plain, classes)
    assert plain == before


def test_links_may_be_objects(plain: dict[str, Any], classes: NodeClasses) -> None:
    """Version 1.0 writes links as objects; the result is the same."""
    new = {**plain, "version": 1, "links": [line(*link[:5]) for link in plain["links"]]}
    assert convert_gui(new, classes) == convert_gui(plain, classes)


def test_a_linked_widget_loses_its_value(classes: NodeClasses) -> None:
    """A widget that was made an input keeps its place among the values, but the link is what counts."""
    value = workflow(
        node(1, "Number", widgets_values=[64, "fixed"]),
        node(2, "Latent", inputs=[widget("width", "INT", 1)], widgets_values=[512, 768]),
        links=[[1, 1, 0, 2, 0, "INT"]],
    )
    assert inputs(value, classes)["2"] == {"width": ["1", 0], "height": 768}


def test_primitives_and_reroutes_are_resolved(plain: dict[str, Any], classes: NodeClasses) -> None:
    """A primitive's value goes into the widget; a reroute is passed through."""
    plain["nodes"][1]["inputs"] = [widget("height", "INT", 9)]
    plain["nodes"] += [
        node(8, "PrimitiveNode", widgets_values=[99, "fixed"]),
        node(9, "Reroute", inputs={"": ("*", 10)}, outputs=[{"name": "", "type": "MODEL", "links": [1]}]),
    ]
    plain["links"][0] = [1, 9, 0, 3, 0, "MODEL"]
    plain["links"] += [[9, 8, 0, 2, 0, "INT"], [10, 1, 0, 9, 0, "MODEL"]]
    done = inputs(plain, classes)
    assert (done["2"], done["3"]["model"]) == ({"width": 512, "height": 99}, ["1", 0])


def test_set_and_get_nodes_are_resolved(plain: dict[str, Any], classes: NodeClasses) -> None:
    """A GetNode stands for what the SetNode of its name takes."""
    plain["nodes"] += [
        node(8, "SetNode", inputs={"MODEL": ("MODEL", 10)}, widgets_values=["m"]),
        node(9, "GetNode", widgets_values=["m"]),
    ]
    plain["links"][0] = [1, 9, 0, 3, 0, "MODEL"]
    plain["links"].append([10, 1, 0, 8, 0, "MODEL"])
    assert inputs(plain, classes)["3"]["model"] == ["1", 0]


def test_a_get_node_without_its_set_node_is_named(plain: dict[str, Any], classes: NodeClasses) -> None:
    """What nobody sets is a problem that says the name."""
    plain["nodes"].append(node(9, "GetNode", widgets_values=["m"]))
    plain["links"][0] = [1, 9, 0, 3, 0, "MODEL"]
    with pytest.raises(WorkflowFormatUI, match=r"node 9 \(GetNode\): no SetNode has its name, 'm'"):
        convert_gui(plain, classes)


def test_a_muted_node_is_left_out_with_its_links(plain: dict[str, Any], classes: NodeClasses) -> None:
    """Mode 2: the node is not there, and inputs that it fed are not either."""
    plain["nodes"][1]["mode"] = 2
    done = inputs(plain, classes)
    assert ("2" in done, "latent" in done["3"]) == (False, False)


@pytest.mark.parametrize("kind", ["Patch", "SomethingUnknown"])
def test_a_bypassed_node_hands_on_what_fits(plain: dict[str, Any], classes: NodeClasses, kind: str) -> None:
    """Mode 4: the input of the same type stands for the output, whether the class is known or not."""
    plain["nodes"].append(
        node(
            8,
            kind,
            mode=4,
            inputs=[widget("strength", "FLOAT"), {"name": "model", "type": "MODEL", "link": 10}],
            outputs=[{"name": "MODEL", "type": "MODEL", "links": [1]}],
            widgets_values=[0.5],
        )
    )
    plain["links"][0] = [1, 8, 0, 3, 0, "MODEL"]
    plain["links"].append([10, 1, 0, 8, 1, "MODEL"])
    done = inputs(plain, classes)
    assert ("8" in done, done["3"]["model"]) == (False, ["1", 0])


def test_a_bypassed_node_without_a_fitting_input_gives_nothing(plain: dict[str, Any], classes: NodeClasses) -> None:
    """Mode 4 on a loader: there is nothing to hand on."""
    plain["nodes"][0]["mode"] = 4
    assert "model" not in inputs(plain, classes)["3"]


def test_lists_are_wrapped(classes: NodeClasses) -> None:
    """A bare list would be taken for a link."""
    value = workflow(node(1, "Save", widgets_values={"prefix": "x", "extra": ["a", 1]}))
    assert inputs(value, classes)["1"]["extra"] == {"__value__": ["a", 1]}


def test_unknown_classes_are_named(plain: dict[str, Any], classes: NodeClasses) -> None:
    """Without a class its values have no names: every such node is a problem."""
    plain["nodes"][0]["type"] = "Modle"
    with pytest.raises(MissingNode) as caught:
        convert_gui(plain, classes)
    (problem,) = caught.value.problems
    assert (problem.node_id, problem.class_type, problem.suggestion) == ("1", "Modle", "Model")


def test_unknown_nodes_that_nothing_is_linked_to_are_decoration(plain: dict[str, Any], classes: NodeClasses) -> None:
    """Custom nodes bring labels and bookmarks that only the page knows."""
    whole = convert_gui(plain, classes)
    plain["nodes"].append(node(8, "Fancy Label", widgets_values=["hello"]))
    assert convert_gui(plain, classes) == whole


def test_what_can_be_is_converted(plain: dict[str, Any], classes: NodeClasses) -> None:
    """Nodes of unknown classes keep their links and the model files among their values."""
    plain["nodes"][0] |= {"type": "Loader (Custom)", "widgets_values": ["b.safetensors", 3]}
    done = convert_what_can_be(plain, classes)
    assert done.graph["1"]["inputs"] == {"widgets_values.0": "b.safetensors"}
    assert [problem.code for problem in done.problems] == ["missing_node"]


def test_a_new_file_names_the_widgets_of_unknown_classes(plain: dict[str, Any], classes: NodeClasses) -> None:
    """An input stands beside each widget, so what it held can be told without the class."""
    plain["nodes"][0] |= {
        "type": "Loader (Custom)",
        "inputs": [widget("seed", "INT"), widget("file", "COMBO")],
        "widgets_values": [3, "fixed", "b.safetensors"],
    }
    done = convert_what_can_be(plain, classes)
    assert done.graph["1"]["inputs"] == {"seed": 3, "file": "b.safetensors"}


def test_packs_are_those_that_the_file_names(plain: dict[str, Any], classes: NodeClasses) -> None:
    """A registry id or a repository, for classes that are not ComfyUI's own."""
    plain["nodes"][0]["properties"] = {"cnr_id": "comfy-core"}
    plain["nodes"][1]["properties"] = {"aux_id": "someone/some-nodes"}
    assert convert_what_can_be(plain, classes).packs == {"Latent": "someone/some-nodes"}


def test_listed_models_are_those_of_active_nodes(plain: dict[str, Any], classes: NodeClasses) -> None:
    """The metadata of muted nodes does not count."""
    entry = {"name": "b.safetensors", "url": "https://example.com/b", "directory": "checkpoints"}
    plain["nodes"][0]["properties"] = {"models": [entry]}
    plain["nodes"][1] |= {"mode": 2, "properties": {"models": [entry]}}
    assert convert_what_can_be(plain, classes).listed_models == (
        ListedModel(name="b.safetensors", folder="checkpoints", url="https://example.com/b", node_id="1"),
    )


def test_a_circle_of_reroutes_is_named(plain: dict[str, Any], classes: NodeClasses) -> None:
    """A file can hold what the page would not let one draw."""
    plain["nodes"].append(node(9, "Reroute", inputs={"": ("*", 10)}))
    plain["links"][0] = [1, 9, 0, 3, 0, "MODEL"]
    plain["links"].append([10, 9, 0, 9, 0, "*"])
    with pytest.raises(WorkflowFormatUI, match="node 9: its links lead back to itself"):
        convert_gui(plain, classes)


def test_every_broken_node_is_told(classes: NodeClasses) -> None:
    """All entries that are no nodes are problems, with their place."""
    value = workflow({"id": 1}, {"type": "Save"})
    with pytest.raises(WorkflowFormatUI) as caught:
        convert_gui(value, classes)
    assert [problem.path for problem in caught.value.problems] == ["workflow.nodes[0]", "workflow.nodes[1]"]


def test_a_workflow_of_notes_has_nothing_to_run(classes: NodeClasses) -> None:
    """Nothing would be left."""
    with pytest.raises(WorkflowFormatUI, match="nothing to run"):
        convert_gui(workflow(node(1, "Note")), classes)


def test_gui_format_is_told_by_its_list_of_nodes(plain: dict[str, Any], classes: NodeClasses) -> None:
    """API format has an object of nodes instead."""
    assert (is_gui_format(plain), is_gui_format(convert_gui(plain, classes)), is_gui_format([])) == (True, False, False)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-20, 20) | st.sampled_from(["", "-1", "Sampler", "Reroute", "S", "seed"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "name", "link"]), inner),
    max_leaves=8,
)
_NODES = st.fixed_dictionaries(
    {
        "id": st.integers(1, 4),
        "type": st.sampled_from(["Sampler", "Reroute", "GetNode", "S", "PrimitiveNode", "workflow>G", "Odd"]),
    },
    optional={
        "mode": st.sampled_from([0, 2, 4]),
        "inputs": st.lists(st.fixed_dictionaries({"name": _JSON, "type": _JSON, "link": st.integers(0, 6)})) | _JSON,
        "outputs": _JSON,
        "widgets_values": _JSON,
        "properties": st.fixed_dictionaries({"proxyWidgets": _JSON, "models": _JSON}) | _JSON,
    },
)
_LINKS = st.lists(st.tuples(*[st.integers(-10, 6)] * 5).map(list) | _JSON, max_size=8)


_GROUP = st.fixed_dictionaries({"nodes": st.lists(_NODES, max_size=3) | _JSON, "links": _LINKS, "external": _LINKS})


_SUBGRAPH = st.fixed_dictionaries(
    {"id": st.just("S"), "nodes": st.lists(_NODES, max_size=4), "links": _LINKS, "inputs": _JSON, "outputs": _JSON}
)


@given(st.lists(_NODES | _JSON, max_size=5), _LINKS, _SUBGRAPH, _GROUP | _JSON)
def test_no_file_leads_to_anything_but_a_graph_or_one_of_our_errors(
    classes: NodeClasses, nodes: Any, links: Any, subgraph: Any, group: Any
) -> None:
    """However broken the file is: it is converted, or an error says why not."""
    saved = {**workflow(*nodes, links=links, subgraphs=[subgraph]), "extra": {"groupNodes": {"G": group}}}
    with contextlib.suppress(InvalidWorkflow):
        convert_gui(saved, classes)
