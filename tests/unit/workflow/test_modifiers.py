"""Modifiers: read from data, set by a request."""

import contextlib
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from comfyworker.errors import InvalidRequest
from comfyworker.modifiers import load_modifiers
from comfyworker.settings import ModifierSettings
from comfyworker.workflow.modifiers import Modifiers, apply_modifier, as_shortcuts, read_modifier
from comfyworker.workflow.node_classes import NodeClasses
from strategies import json_values
from support.workflows import node

BUILT_IN = load_modifiers(ModifierSettings())
NO_CLASSES = NodeClasses({})
DATA: dict[str, Any] = {
    "name": "Tint",
    "description": "A colour.",
    "workflow": {"1": node("TestColour", red=1, green=2), "9": node("SaveImage", images=["1", 0])},
    "parameters": {
        "red": {"type": "integer", "default": 3, "minimum": 0, "maximum": 255, "targets": ["1.red"]},
        "both": {"type": "integer", "targets": ["1.inputs.red", "1.green"]},
        "mode": {"type": "string", "choices": ["soft", "hard"], "targets": ["1.mode"]},
        "must": {"type": "number", "required": True, "targets": ["1.must"]},
    },
}


def applied(given: dict[str, JsonValue]) -> dict[str, Any]:
    """Return the inputs of the node that the test's modifier sets."""
    graph, _ = apply_modifier(read_modifier(DATA, path="tint.json"), given, NO_CLASSES, lambda: 7)
    inputs: dict[str, Any] = graph["1"]["inputs"]
    return inputs


def refused(data: object) -> list[str]:
    """Return the message of each mistake in a modifier file."""
    with pytest.raises(InvalidRequest) as caught:
        read_modifier(data, path="x.json")
    return [problem.message for problem in caught.value.problems]


def test_values_are_set() -> None:
    """What is given is set on each target, defaults where nothing is; the modifier itself stays as it is."""
    kept = copy.deepcopy(DATA)
    assert applied({"must": 0.5, "mode": "hard"}) == {"red": 3, "green": 2, "mode": "hard", "must": 0.5}
    assert applied({"must": 1, "both": 9}) == {"red": 9, "green": 9, "must": 1}
    assert kept == DATA


def test_all_mistakes_at_once() -> None:
    """Every parameter that does not fit is named with what is allowed."""
    with pytest.raises(InvalidRequest) as caught:
        applied({"rad": 1, "red": 256, "both": "x", "mode": "sotf"})
    assert [(problem.path, problem.code, problem.message) for problem in caught.value.problems] == [
        (
            "modifications.rad",
            "unknown_parameter",
            "modifications: Tint has no parameter 'rad'; did you mean 'red'? There are: red, both, mode, must",
        ),
        ("modifications.red", "value_out_of_range", "modifications.red: 256 is not from 0 to 255"),
        ("modifications.both", "wrong_type", "modifications.both: must be an integer, it is 'x'"),
        ("modifications.mode", "value_not_in_list", "modifications.mode: 'sotf' is not offered; there are: soft, hard"),
        ("modifications.must", "missing_parameter", "modifications.must is required"),
    ]


def test_value_that_comfyui_refuses(classes: NodeClasses) -> None:
    """A model that ComfyUI does not have is told as the parameter's fault."""
    given: dict[str, JsonValue] = {"prompt": "x", "ckpt_name": "dreamshapr_8.safetensors"}
    with pytest.raises(InvalidRequest) as caught:
        apply_modifier(BUILT_IN.known["Text2Image"], given, classes, lambda: 7)
    assert caught.value.message == (
        "modifications.ckpt_name: node 4 (CheckpointLoaderSimple, titled 'Checkpoint'), input ckpt_name: "
        "'dreamshapr_8.safetensors' is not there; did you mean 'dreamshaper_8.safetensors'? (2 choices)"
    )


@pytest.mark.parametrize("seed", [{}, {"seed": -1}, {"seed": "__RANDOM_INT__"}])
def test_seed_is_drawn(seed: dict[str, JsonValue]) -> None:
    """Without a seed, or with one that asks for it, a random one is used and told."""
    modifier = BUILT_IN.known["Text2Image"]
    graph, used = apply_modifier(modifier, {"prompt": "a cat", **seed}, NO_CLASSES, lambda: 7)
    assert (graph["3"]["inputs"]["seed"], graph["6"]["inputs"]["text"], used) == (7, "a cat", {"seed": 7})


def test_the_only_checkpoint_is_taken(object_info: dict[str, Any]) -> None:
    """Where ComfyUI has one checkpoint, and not the default one, that is used and told."""
    info = copy.deepcopy(object_info)
    info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0] = ["mine.safetensors"]
    modifier = BUILT_IN.known["Text2Image"]
    graph, used = apply_modifier(modifier, {"prompt": "a cat", "seed": 1}, NodeClasses(info), lambda: 7)
    assert (graph["4"]["inputs"], used) == ({"ckpt_name": "mine.safetensors"}, {"ckpt_name": "mine.safetensors"})


def test_unknown_modifier() -> None:
    """A misspelt name is told with the right one and all names."""
    with pytest.raises(InvalidRequest) as caught:
        BUILT_IN.named("text2img")
    assert caught.value.message == (
        "modifier: there is no modifier 'text2img'; did you mean 'Text2Image'? "
        "There are: Image2Image, RawWorkflow, Text2Image"
    )
    with pytest.raises(InvalidRequest, match=r"'Nope'\. There are: Image2Image"):
        BUILT_IN.named("Nope")
    with pytest.raises(InvalidRequest, match="'x'; this worker has none"):
        Modifiers().named("x")


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        ({"name": ""}, ["x.json.name: String should have at least 1 character"]),
        ({"parametres": {}}, ["x.json.parametres: Extra inputs are not permitted"]),
        ({"workflow": {}}, ["x.json.workflow is empty: it has no nodes"]),
        (
            {"parameters": {"a": {"type": "integer", "default": "x", "minimum": 5, "maximum": 1, "targets": ["7.a"]}}},
            [
                "x.json.parameters.a: its minimum 5 is above its maximum 1",
                "x.json.parameters.a.default: must be an integer, it is 'x'",
                "x.json.parameters.a.targets: '7.a' names no node of the workflow; write node.field, as 6.text",
            ],
        ),
        (
            {"parameters": {"a": {"type": "string"}}},
            ["x.json.parameters.a: has no targets, so it would set nothing"],
        ),
        (
            {"workflow": None, "parameters": {"cfg": {"type": "number"}}},
            [
                (
                    "x.json.parameters.cfg: without a workflow there is no such parameter; there are: prompt, "
                    "prompt_node_id, seed, seed_node_id, width, height, size_node_id, steps"
                )
            ],
        ),
    ],
)
def test_mistakes_in_a_file(change: dict[str, Any], messages: list[str]) -> None:
    """A modifier file is checked when it is read, and every mistake is named."""
    assert refused({**DATA, **change}) == messages


@given(st.dictionaries(st.sampled_from([*DATA["parameters"], "x"]), json_values(), max_size=4))
def test_any_value_is_answered(given: dict[str, JsonValue]) -> None:
    """Whatever is sent, there is a workflow or one of our errors."""
    with contextlib.suppress(InvalidRequest):
        assert applied(given)["must"] == given["must"]


def test_large_bounds_are_exact() -> None:
    """The largest seed is taken, the next number is not."""
    given: dict[str, JsonValue] = {"prompt": "x", "seed": 2**64 - 1}
    graph, _ = apply_modifier(BUILT_IN.known["Text2Image"], given, NO_CLASSES, lambda: 7)
    assert graph["3"]["inputs"]["seed"] == 2**64 - 1
    with pytest.raises(InvalidRequest, match="18446744073709551616 is not from 0 to 18446744073709551615"):
        apply_modifier(BUILT_IN.known["Text2Image"], {"prompt": "x", "seed": 2**64}, NO_CLASSES, lambda: 7)


def test_only_a_seed_is_drawn_for_a_shortcut() -> None:
    """RawWorkflow refuses a random width in words."""
    with pytest.raises(InvalidRequest) as caught:
        as_shortcuts(BUILT_IN.known["RawWorkflow"], {"width": "__RANDOM_INT__", "seed": "__RANDOM_INT__"})
    assert [problem.path for problem in caught.value.problems] == ["modifications.width"]


def test_node_without_inputs() -> None:
    """A modifier's workflow may leave them out, as a request's may."""
    data = {"name": "Bare", "workflow": {"1": {"class_type": "X"}}}
    assert read_modifier(data, path="x.json").workflow == {"1": {"class_type": "X", "inputs": {}}}
