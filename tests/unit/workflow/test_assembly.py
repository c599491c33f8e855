"""The workflow that a request asks for."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from comfyworker.errors import InvalidRequest, InvalidWorkflow, WorkerError
from comfyworker.jobs import Graph, JobRequest, Override
from comfyworker.modifiers import load_modifiers
from comfyworker.settings import ModifierSettings
from comfyworker.workflow.assembly import Assembled, assemble
from comfyworker.workflow.modifiers import Modifiers
from comfyworker.workflow.node_classes import NodeClasses
from strategies import json_values, overrides, workflows
from support.workflows import text_to_image

NO_CLASSES = NodeClasses({})
BUILT_IN = load_modifiers(ModifierSettings())


def ask(modifiers: Modifiers = BUILT_IN, classes: NodeClasses = NO_CLASSES, **fields: Any) -> Assembled:
    """Assemble a request of these fields; 7 is drawn."""
    return assemble(JobRequest.model_validate({"id": "j", **fields}), classes, modifiers, draw=lambda: 7)


def inputs(made: Assembled, *places: str) -> list[JsonValue]:
    """Return the values at `node.input`."""
    return [made.graph[place.split(".")[0]]["inputs"][place.split(".")[1]] for place in places]


def test_nothing_but_a_workflow() -> None:
    """It is used as it is, without a copy."""
    request = JobRequest(id="j", workflow=text_to_image())
    assert assemble(request, NO_CLASSES, BUILT_IN, draw=lambda: 7).graph is request.workflow


def test_order() -> None:
    """Modifier, then overrides, then shortcuts, then random integers: the later one wins."""
    made = ask(
        modifier="Text2Image",
        modifications={"prompt": "modifier", "seed": 1, "steps": 2},
        overrides=[
            {"node_id": "6", "field": "text", "value": "override"},
            {"title": "Sampler", "field": "seed", "value": "__RANDOM_INT__"},
        ],
        shortcuts={"prompt": "shortcut"},
    )
    assert inputs(made, "6.text", "3.seed", "3.steps") == ["shortcut", 7, 2]
    assert made.used == {"3.seed": 7}


def test_raw_workflow_on_the_request_s_own() -> None:
    """RawWorkflow sets its parameters on the workflow that comes with it."""
    modifications = {"prompt": "a", "width": 32, "height": 48, "steps": 3, "seed": -1}
    made = ask(workflow=text_to_image(), modifier="RawWorkflow", modifications=modifications)
    assert inputs(made, "2.text", "4.width", "4.height", "5.steps", "5.seed") == ["a", 32, 48, 3, 7]
    assert made.used == {"seed": 7}


def test_raw_workflow_without_one() -> None:
    """It runs the worker's default workflow, else Text2Image's."""
    modifications = {"prompt": "a", "seed": 5}
    on_default = Modifiers(BUILT_IN.known, text_to_image())
    assert inputs(ask(on_default, modifier="RawWorkflow", modifications=modifications), "2.text", "5.seed") == ["a", 5]
    made = ask(modifier="RawWorkflow", modifications=modifications)
    assert inputs(made, "6.text", "3.seed", "3.cfg") == ["a", 5, 7.0]


@pytest.mark.parametrize(
    ("fields", "expected", "message"),
    [
        ({}, InvalidRequest, "the request brings no workflow and names no modifier"),
        (
            {"workflow": text_to_image(), "modifier": "Text2Image"},
            InvalidRequest,
            "the modifier Text2Image has a workflow of its own, so the request may not bring one",
        ),
        (
            {"modifier": "RawWorkflow", "modifications": {"cfg": 1}},
            InvalidRequest,
            ("modifications: RawWorkflow has no parameter 'cfg'. There are: prompt, width, height, steps, seed"),
        ),
        (
            {"workflow": text_to_image(), "shortcuts": {"seed": 1, "seed_node_id": "99"}},
            InvalidWorkflow,
            "seed_node_id: the workflow has no node '99' to take the seed; these do: 5 (KSampler, titled 'Sampler')",
        ),
    ],
)
def test_what_cannot_be_made(fields: dict[str, Any], expected: type[WorkerError], message: str) -> None:
    """A request that asks for nothing, or for two things, is refused in words."""
    with pytest.raises(expected) as caught:
        ask(**fields)
    assert caught.value.message == message


def test_all_that_is_wrong_at_once() -> None:
    """Problems of the modifier, the overrides and the shortcuts come in one error."""
    with pytest.raises(InvalidRequest) as caught:
        ask(
            modifier="Text2Image",
            modifications={"prompt": 1},
            overrides=[{"node_id": "99", "field": "text", "value": "x"}],
            shortcuts={"seed": 1, "seed_node_id": "98"},
        )
    assert [problem.path for problem in caught.value.problems] == [
        "modifications.prompt",
        "overrides[0].node_id",
        "seed_node_id",
    ]


@given(
    st.none() | workflows(),
    st.sampled_from([None, "RawWorkflow", "Text2Image", "Image2Image", "x"]),
    st.dictionaries(st.sampled_from(["prompt", "seed", "width", "steps", "x"]), json_values(max_leaves=3), max_size=3),
    st.lists(overrides(), max_size=2),
)
def test_any_request_is_answered(
    graph: Graph | None, modifier: str | None, modifications: dict[str, JsonValue], wanted: list[Override]
) -> None:
    """Whatever is asked for, there is a workflow or one of our errors, and the request stays as it was."""
    request = JobRequest(
        id="j", workflow=graph, modifier=modifier, modifications=modifications, overrides=tuple(wanted)
    )
    kept = request.model_copy(deep=True)
    with contextlib.suppress(WorkerError):
        made = assemble(request, NO_CLASSES, BUILT_IN, draw=lambda: 7)
        assert all("class_type" in node for node in made.graph.values())
    assert request == kept


def test_the_request_s_workflow_is_never_changed(graph: Graph, classes: NodeClasses) -> None:
    """One parsed request can serve many jobs."""
    request = JobRequest.model_validate({"id": "j", "workflow": graph, "shortcuts": {"prompt": "new", "seed": 3}})
    kept = request.model_copy(deep=True)
    assemble(request, classes, BUILT_IN, draw=lambda: 7)
    assert request == kept
