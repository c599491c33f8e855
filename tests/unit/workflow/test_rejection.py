"""What ComfyUI refused, in our words."""

import json
from typing import Any

import pytest

from comfyworker.errors import Problem
from comfyworker.jobs import Graph
from comfyworker.workflow import NodeClasses, check_workflow, problems_from_comfyui

Cases = dict[str, dict[str, Any]]
SAME_WORDS = (
    "unknown_class",
    "no_outputs",
    "missing_model",
    "missing_model_of_many",
    "value_not_in_list",
    "too_small",
    "too_large",
    "not_a_number",
    "wrong_type",
    "bad_link",
    "missing_input",
    "several",
)


@pytest.mark.parametrize("name", SAME_WORDS)
def test_same_words_as_the_preflight(recorded_errors: Cases, classes: NodeClasses, name: str) -> None:
    """What ComfyUI refused is said as the preflight says it."""
    case = recorded_errors[name]
    theirs = problems_from_comfyui(case["body"], case["workflow"], classes)
    assert theirs
    assert sorted(theirs, key=str) == sorted(check_workflow(case["workflow"], classes), key=str)


@pytest.mark.parametrize("name", SAME_WORDS)
def test_classes_may_be_unknown(recorded_errors: Cases, classes: NodeClasses, name: str) -> None:
    """Without the classes, places and codes are the same; only choices that ComfyUI did not send are wanting."""
    case = recorded_errors[name]
    told = problems_from_comfyui(case["body"], case["workflow"], None)
    known = problems_from_comfyui(case["body"], case["workflow"], classes)
    assert [(problem.path, problem.code) for problem in told] == [(problem.path, problem.code) for problem in known]


@pytest.mark.parametrize(("name", "status"), [("missing_file", 400), ("some_outputs_invalid", 200)])
def test_missing_file(recorded_errors: Cases, classes: NodeClasses, name: str, status: int) -> None:
    """LoadImage's own check becomes a missing asset, whether all outputs fail or some."""
    case = recorded_errors[name]
    [problem] = problems_from_comfyui(case["body"], case["workflow"], classes)
    assert (case["status"], problem) == (
        status,
        Problem(
            message="node 8 (LoadImage), input image: 'exampel.png' is not in ComfyUI's input folder and did not come "
            "with the request; did you mean 'example.png'?",
            code="missing_asset",
            path="workflow.8.inputs.image",
            node_id="8",
            class_type="LoadImage",
            input_name="image",
            received="exampel.png",
            choices=("example.png",),
            suggestion="example.png",
        ),
    )


def test_link_to_no_node(recorded_errors: Cases, classes: NodeClasses) -> None:
    """Where ComfyUI itself failed over a link to nowhere, the link is told instead of the KeyError."""
    case = recorded_errors["no_such_node"]
    assert [problem.message for problem in problems_from_comfyui(case["body"], case["workflow"], classes)] == [
        "node 6 (VAEDecode), input samples: linked to node '99', which is not in the workflow"
    ]


def test_exception_while_checking(recorded_errors: Cases, classes: NodeClasses) -> None:
    """Any other failure of ComfyUI's own is told by its text alone."""
    case = recorded_errors["no_such_output"]
    assert "traceback" in json.dumps(case["body"])
    assert problems_from_comfyui(case["body"], case["workflow"], classes) == (
        Problem(
            message="node 6 (VAEDecode): ComfyUI could not check it: Exception when validating inner node: "
            "tuple index out of range",
            code="exception_during_validation",
            path="workflow.6",
            node_id="6",
            class_type="VAEDecode",
        ),
    )


def test_no_recorded_traceback_leaks(recorded_errors: Cases, classes: NodeClasses) -> None:
    """Nothing of ComfyUI's tracebacks or folders is in any problem."""
    for case in recorded_errors.values():
        told = [problem.to_dict() for problem in problems_from_comfyui(case["body"], case["workflow"], classes)]
        assert "/opt" not in json.dumps(told)
        assert "File " not in json.dumps(told)


@pytest.mark.parametrize(
    ("details", "shown"),
    [
        ("image - cannot open /workspace/My/input/x.png now", "cannot open x.png now"),
        ("image - C:\\Users\\me\\x.png is bad", "x.png is bad"),
        ("image - file:///srv/a/x.png", "x.png"),
        ("image - see https://example.org/help/me", "see https://example.org/help/me"),
        ("image - sub/x.png is 3/4 there", "sub/x.png is 3/4 there"),
        ("image - ['/opt/models/a.bin']", "['a.bin']"),
    ],
)
def test_folders_are_cut_from_texts(graph: Graph, classes: NodeClasses, details: str, shown: str) -> None:
    """Absolute paths in a class's own message lose their folders; addresses and relative names stay."""
    error = {
        "type": "custom_validation_failed",
        "message": "Custom validation failed for node",
        "details": details,
        "extra_info": {"input_name": "image"},
    }
    [problem] = problems_from_comfyui({"node_errors": {"8": {"errors": [error]}}}, graph, classes)
    assert (problem.code, problem.message) == (
        "custom_validation_failed",
        f"node 8 (LoadImage), input image: Custom validation failed for node: {shown}",
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": "Cannot import x"}, "ComfyUI refused the workflow: Cannot import x"),
        (
            {"error": {"type": "no_prompt", "message": "No prompt provided", "details": "No prompt provided"}},
            "ComfyUI refused the workflow: No prompt provided",
        ),
        ({"error": {"type": "odd"}, "node_errors": []}, "ComfyUI refused the workflow: odd"),
        ("<h1>No GPU</h1> see /srv/x.log", "ComfyUI refused the workflow: <h1>No GPU</h1> see …/x.log"),
        ({"detail": "Not here"}, 'ComfyUI refused the workflow: {"detail": "Not here"}'),
        (None, "ComfyUI refused the workflow and did not say why"),
        ({}, "ComfyUI refused the workflow and did not say why"),
    ],
)
def test_other_shapes(graph: Graph, body: object, message: str) -> None:
    """Whatever the body is, there is one problem at least."""
    assert problems_from_comfyui(body, graph, None) == (Problem(message=message, code="refused", path="workflow"),)


def test_newer_comfyui_names_the_node(graph: Graph, classes: NodeClasses) -> None:
    """Newer releases say which node's class is missing in `extra_info`."""
    graph["6"]["class_type"] = "Ksampler"
    error = {"type": "missing_node_type", "message": "…", "details": "…", "extra_info": {"node_id": "6"}}
    assert problems_from_comfyui({"error": error, "node_errors": {}}, graph, classes) == check_workflow(graph, classes)


def test_accepted_without_errors(graph: Graph, classes: NodeClasses) -> None:
    """A 200 whose outputs all run has no problems."""
    assert problems_from_comfyui({"prompt_id": "x", "number": 1, "node_errors": {}}, graph, classes) == ()


@pytest.mark.parametrize("entry", [None, [], {"errors": None}, {"errors": ["x"]}, {"errors": [{}]}])
def test_odd_entries(graph: Graph, entry: object) -> None:
    """Entries of another shape never make the translation fail."""
    told = problems_from_comfyui({"error": {"message": "m"}, "node_errors": {"6": entry}}, graph, None)
    assert len(told) == 1
