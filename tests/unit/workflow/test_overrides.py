"""Values written over those of a workflow."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from comfyworker.errors import InvalidRequest, InvalidWorkflow, WorkerError
from comfyworker.jobs import Graph
from comfyworker.workflow import NodeClasses, Override, apply_overrides, parse_assignment
from strategies import overrides, workflows


def by_id(node_id: str, field: str, value: Any) -> Override:
    """Return an override for a node's id."""
    return Override(node_id=node_id, field=field, value=value)


def problems_of(graph: Graph, *wanted: Override, classes: NodeClasses | None = None) -> list[str]:
    """Return the message of each problem."""
    with pytest.raises(InvalidWorkflow) as caught:
        apply_overrides(graph, wanted, classes)
    return [problem.message for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("override", "node_id", "name", "expected"),
    [
        (by_id("3", "text", "a dog"), "3", "text", "a dog"),
        (by_id("3", "inputs.text", "a dog"), "3", "text", "a dog"),
        (Override(title="Positive", field="text", value="a dog"), "3", "text", "a dog"),
        (Override(title="3", field="text", value="a dog"), "3", "text", "a dog"),
        (by_id("6", "model", "none"), "6", "model", "none"),
        (by_id("6", "model", ["1", 0]), "6", "model", ["1", 0]),
        (by_id("6", "extra.deep.er", 1), "6", "extra", {"deep": {"er": 1}}),
        (Override(node_id=6, field="seed", value=2), "6", "seed", 2),
    ],
)
def test_value_is_written(graph: Graph, override: Override, node_id: str, name: str, expected: JsonValue) -> None:
    """An override changes its field, and nothing else; the caller's graph is left alone."""
    kept, changed = copy.deepcopy(graph), copy.deepcopy(graph)
    changed[node_id]["inputs"][name] = expected
    assert apply_overrides(graph, [override]) == changed
    assert graph == kept


def test_several_are_applied_in_their_order(graph: Graph) -> None:
    """A later override sees what an earlier one wrote."""
    wanted = [by_id("6", "seed", 2), by_id("6", "box", {"list": [1, 2]}), by_id("6", "box.list.1", 3)]
    changed = apply_overrides(graph, wanted)
    assert (changed["6"]["inputs"]["seed"], changed["6"]["inputs"]["box"]) == (2, {"list": [1, 3]})
    assert wanted[1].value == {"list": [1, 2]}


def test_input_with_dots_in_its_name() -> None:
    """An input that is really called so wins over a path."""
    graph: Graph = {"1": {"class_type": "X", "inputs": {"images.image0": 1}}}
    assert apply_overrides(graph, [by_id("1", "images.image0", 2)])["1"]["inputs"] == {"images.image0": 2}


def test_title_can_be_changed(graph: Graph) -> None:
    """A path into `_meta` is taken as such."""
    assert apply_overrides(graph, [by_id("4", "_meta.title", "New")])["4"]["_meta"] == {"title": "New"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            by_id("66", "seed", 1),
            "overrides[0].node_id: the workflow has no node '66'; did you mean '6'?",
        ),
        (
            Override(title="Positve", field="text", value=1),
            "overrides[0].title: no node has the title 'Positve'; did you mean 'Positive'?",
        ),
        (
            by_id("6", "model.0", 1),
            "overrides[0].field: inputs.model is a link to node '2', so there is nothing below it",
        ),
        (by_id("6", "seed.x", 1), "overrides[0].field: inputs.seed is 1, so there is nothing below it"),
        (by_id("6", "", 1), "overrides[0].field: '' is no path to an input"),
        (by_id("6", "inputs", 1), "overrides[0].field: 'inputs' is no path to an input"),
        (by_id("6", "a..b", 1), "overrides[0].field: 'a..b' is no path to an input"),
        (Override(field="a", value=1), "overrides[0].node_id: give either node_id or title"),
        (Override(node_id="6", title="x", field="a", value=1), "overrides[0].node_id: give either node_id or title"),
    ],
)
def test_unfit_overrides(graph: Graph, override: Override, message: str) -> None:
    """An override that fits nothing is told with what there is."""
    assert [found.partition("; there are:")[0] for found in problems_of(graph, override)] == [message]


def test_title_that_fits_two(graph: Graph) -> None:
    """Nodes with the same title are told by their ids."""
    graph["4"]["_meta"] = {"title": "Positive"}
    assert problems_of(graph, Override(title="Positive", field="text", value="x")) == [
        "overrides[0].title: 2 nodes have the title 'Positive'; name one of them by node_id; there are: 3, 4"
    ]


@pytest.mark.parametrize("index", ["2", "-1", "x", "99999999999999999999"])
def test_list_index_that_is_not_there(index: str) -> None:
    """A list is told with its length."""
    graph: Graph = {"1": {"class_type": "X", "inputs": {"list": ["a", "b"]}}}
    assert problems_of(graph, by_id("1", f"list.{index}", 1)) == [
        f"overrides[0].field: inputs.list is a list of 2, which has no '{index}'"
    ]


def test_all_problems_at_once(graph: Graph) -> None:
    """Each override that does not fit has its own problem, with its place in the request."""
    with pytest.raises(InvalidWorkflow) as caught:
        apply_overrides(graph, [by_id("99", "a", 1), by_id("6", "seed", 1), by_id("6", "seed.x", "long" * 1000)])
    assert [(problem.path, problem.code) for problem in caught.value.problems] == [
        ("overrides[0].node_id", "unknown_node"),
        ("overrides[2].field", "unknown_input"),
    ]
    assert caught.value.message.startswith("2 problems: overrides[0].node_id: the workflow has no node '99'; ")


def test_unknown_input_where_the_class_is_known(graph: Graph, classes: NodeClasses) -> None:
    """With the classes at hand, a misspelt input is told instead of added."""
    assert problems_of(graph, by_id("6", "stpes", 3), classes=classes) == [
        "overrides[0].field: KSampler has no input 'stpes'; did you mean 'steps'?"
    ]


def test_input_that_the_class_has_and_the_node_leaves_out(graph: Graph, classes: NodeClasses) -> None:
    """An input that the class declares may be added."""
    del graph["6"]["inputs"]["denoise"]
    assert apply_overrides(graph, [by_id("6", "denoise", 0.5)], classes)["6"]["inputs"]["denoise"] == 0.5


@given(workflows(), st.lists(overrides(), max_size=3))
def test_overriding_twice_equals_once(graph: Graph, wanted: list[Override]) -> None:
    """The same overrides once more change nothing, and neither graph nor overrides are ever changed."""
    kept, kept_wanted = copy.deepcopy(graph), copy.deepcopy(wanted)
    try:
        once = apply_overrides(graph, wanted)
        # A new title can make the same override mean another node, and an earlier one may put a scalar in the way.
        if not any(override.field.startswith("_meta") for override in wanted) and _is_settled(wanted):
            assert apply_overrides(once, wanted) == once
    except WorkerError:
        pass
    assert (graph, wanted) == (kept, kept_wanted)


def _is_settled(wanted: list[Override]) -> bool:
    """Tell whether no override writes above, below or over another one."""
    fields = [override.field.removeprefix("inputs.") + "." for override in wanted]
    return not any(a is not b and a.startswith(b) for a in fields for b in fields)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("6.text=a cat", by_id("6", "text", "a cat")),
        ("6.inputs.seed=5", by_id("6", "inputs.seed", 5)),
        ("12:3.on=true", by_id("12:3", "on", True)),
        ('6.box={"a": [1]}', by_id("6", "box", {"a": [1]})),
        ('6.text="5"', by_id("6", "text", "5")),
        ("6.text=", by_id("6", "text", "")),
        ("6.text=a=b.c", by_id("6", "text", "a=b.c")),
        ("6.text=NaN", by_id("6", "text", "NaN")),
        ("6.text=two\nlines", by_id("6", "text", "two\nlines")),
        ("6.text=" + "[" * 100_000, by_id("6", "text", "[" * 100_000)),
        ("Positive prompt.text=x", Override(title="Positive prompt", field="text", value="x")),
        ('"Main v1.5".steps=20', Override(title="Main v1.5", field="steps", value=20)),
    ],
)
def test_assignment(text: str, expected: Override) -> None:
    """NODE.FIELD=VALUE: a number is an id, anything else a title; a value is JSON if it can be."""
    assert parse_assignment(text) == expected


@pytest.mark.parametrize("text", ["", "6", "6.text", "text=x", "=x", ".text=x", "6.=x"])
def test_no_assignment(text: str) -> None:
    """What has no node, field or value is refused with an example."""
    with pytest.raises(InvalidRequest) as caught:
        parse_assignment(text)
    assert caught.value.to_dict() == {
        "code": "invalid_request",
        "message": f"'{text}' is no assignment",
        "retryable": False,
        "hint": "Write NODE.FIELD=VALUE, as in 6.text=a cat or 3.seed=5; NODE is a node's id or its title.",
    }


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (by_id("6", "steps", 0), "overrides[0].value: node 6 (KSampler), input steps: 0 is outside of 1 to 10000"),
        (by_id("6", "cfg", "x"), "overrides[0].value: node 6 (KSampler), input cfg: 'x' cannot be read as a FLOAT"),
        (
            by_id("6", "scheduler", "simpl"),
            (
                "overrides[0].value: node 6 (KSampler), input scheduler: 'simpl' is not offered; "
                "did you mean 'simple'? (9 choices)"
            ),
        ),
    ],
)
def test_value_that_does_not_fit(graph: Graph, classes: NodeClasses, override: Override, message: str) -> None:
    """With the classes at hand, a value that ComfyUI would refuse is told with what is allowed."""
    assert problems_of(graph, override, classes=classes) == [message]


def test_value_that_will_be_drawn(graph: Graph, classes: NodeClasses) -> None:
    """A random integer fits where an integer does."""
    assert apply_overrides(graph, [by_id("6", "seed", "__RANDOM_INT__")], classes)["6"]["inputs"]["seed"] == (
        "__RANDOM_INT__"
    )


def test_only_the_last_value_counts(graph: Graph, classes: NodeClasses) -> None:
    """A value that a later override replaces is not judged."""
    wanted = [by_id("6", "steps", 0), by_id("6", "steps", 5)]
    assert apply_overrides(graph, wanted, classes)["6"]["inputs"]["steps"] == 5
