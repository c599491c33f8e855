"""Prompt, seed, size and steps, set without knowing the workflow."""

import contextlib
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from comfyworker.errors import InvalidWorkflow, WorkerError
from comfyworker.jobs import Graph, Shortcuts
from comfyworker.workflow.node_classes import NodeClasses
from comfyworker.workflow.shortcuts import apply_shortcuts
from strategies import workflows
from support.workflows import node

NO_CLASSES = NodeClasses({})
DRAWN = 77


def put(graph: Graph, classes: NodeClasses = NO_CLASSES, **shortcuts: Any) -> dict[str, JsonValue]:
    """Apply shortcuts; return what changed, as `{"<node>.<input>": value}`."""
    kept = copy.deepcopy(graph)
    changed, _ = apply_shortcuts(graph, Shortcuts(**shortcuts), classes, lambda: DRAWN)
    assert graph == kept
    return {
        f"{node_id}.{name}": value
        for node_id, made in changed.items()
        for name, value in made["inputs"].items()
        if graph[node_id]["inputs"].get(name) != value
    }


def refused(graph: Graph, classes: NodeClasses = NO_CLASSES, **shortcuts: Any) -> list[str]:
    """Return the message of each problem."""
    with pytest.raises(InvalidWorkflow) as caught:
        apply_shortcuts(graph, Shortcuts(**shortcuts), classes, lambda: DRAWN)
    return [problem.message for problem in caught.value.problems]


def flux() -> Graph:
    """Return Flux as its example has it: guider, noise and scheduler are nodes of their own."""
    return {
        "6": node("CLIPTextEncode", text="old", clip=["11", 0]),
        "8": node("VAEDecode", samples=["13", 0], vae=["10", 0]),
        "9": node("SaveImage", images=["8", 0], filename_prefix="x"),
        "13": node(
            "SamplerCustomAdvanced",
            noise=["25", 0],
            guider=["22", 0],
            sampler=["16", 0],
            sigmas=["17", 0],
            latent_image=["27", 0],
        ),
        "17": node("BasicScheduler", scheduler="simple", steps=20, denoise=1.0, model=["30", 0]),
        "22": node("BasicGuider", model=["30", 0], conditioning=["26", 0]),
        "25": node("RandomNoise", noise_seed=1),
        "26": node("FluxGuidance", guidance=3.5, conditioning=["6", 0]),
        "27": node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
        "30": node("ModelSamplingFlux", width=64, height=64, max_shift=1.15, base_shift=0.5, model=["12", 0]),
    }


def renumbered(graph: Graph) -> Graph:
    """Return the same workflow with other ids."""

    def link(value: object) -> object:
        return [f"n{value[0]}", value[1]] if isinstance(value, list) else value

    return {
        f"n{node_id}": {**made, "inputs": {name: link(value) for name, value in made["inputs"].items()}}
        for node_id, made in graph.items()
    }


ALL: dict[str, Any] = {"prompt": "new", "seed": 5, "width": 128, "height": 96, "steps": 3}


def test_usual_nodes() -> None:
    """A workflow with the usual ids gets each value where clients expect it."""
    assert put(flux(), **ALL) == {
        "6.text": "new",
        "25.noise_seed": 5,
        "27.width": 128,
        "27.height": 96,
        "17.steps": 3,
    }


def test_nodes_are_found_whatever_their_ids() -> None:
    """Without the usual ids, prompt, noise and latent are found by what they lead to."""
    assert put(renumbered(flux()), **ALL) == {
        "n6.text": "new",
        "n25.noise_seed": 5,
        "n27.width": 128,
        "n27.height": 96,
        "n17.steps": 3,
    }


def test_usual_node_that_takes_something_else(graph: Graph, classes: NodeClasses) -> None:
    """Node 6 is a sampler here; the positive encoder is found, not the negative one."""
    assert put(graph, classes, **ALL) == {
        "3.text": "new",
        "6.seed": 5,
        "5.width": 128,
        "5.height": 96,
        "6.steps": 3,
    }


@pytest.mark.parametrize(
    ("encoder", "expected"),
    [
        (node("CLIPTextEncodeFlux", clip_l="a", t5xxl="a", guidance=1.0), {"e.clip_l": "new", "e.t5xxl": "new"}),
        (node("TextEncodeQwenImageEdit", prompt="a", clip=["1", 0]), {"e.prompt": "new"}),
        (node("CLIPTextEncodeSDXL", text_g="a", text_l="a", width=8), {"e.text_g": "new", "e.text_l": "new"}),
        (node("CLIPTextEncodeLumina2", system_prompt="s", user_prompt="a"), {"e.user_prompt": "new"}),
    ],
)
def test_encoders_of_other_families(encoder: dict[str, Any], expected: dict[str, str]) -> None:
    """Every input of an encoder that holds the text gets it."""
    graph: Graph = {
        "e": encoder,
        "other": node("CLIPTextEncode", text="negative"),
        "c": node("ControlNetApplyAdvanced", positive=["e", 0], negative=["other", 0], strength=1.0),
        "k": node("KSampler", positive=["c", 0], negative=["c", 1]),
    }
    assert put(graph, prompt="new") == expected


def test_two_texts_could_be_meant() -> None:
    """Combined prompts are told with the way to choose, and choosing works."""
    graph: Graph = {
        "a": node("CLIPTextEncode", "Subject", text="x"),
        "b": node("CLIPTextEncode", "Style", text="y"),
        "c": node("ConditioningCombine", conditioning_1=["a", 0], conditioning_2=["b", 0]),
        "k": node("KSampler", positive=["c", 0], negative=["c", 0], seed=1),
    }
    assert refused(graph, prompt="new") == [
        (
            "prompt: 2 nodes could be meant: a (CLIPTextEncode, titled 'Subject'), b (CLIPTextEncode, titled 'Style'); "
            "name one as prompt_node_id"
        )
    ]
    assert put(graph, prompt="new", prompt_node_id="b") == {"b.text": "new"}


def test_upscaled_latent_is_not_where_it_starts() -> None:
    """A second pass has a size, too, but the picture's size is that of the empty latent."""
    graph: Graph = {
        "1": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "2": node("KSampler", latent_image=["1", 0], seed=["9", 0]),
        "3": node("LatentUpscale", samples=["2", 0], width=128, height=128),
        "4": node("KSampler", latent_image=["3", 0], seed=["9", 0]),
        "9": node("PrimitiveInt", value=3),
    }
    assert put(graph, width=32) == {"1.width": 32}
    assert put(graph, seed=8) == {"9.value": 8}


def test_two_seeds_could_be_meant() -> None:
    """Samplers with seeds of their own are told."""
    graph: Graph = {"1": node("KSampler", seed=1), "2": node("KSampler", seed=2)}
    assert refused(graph, seed=8) == [
        "seed: 2 nodes could be meant: 1 (KSampler), 2 (KSampler); name one as seed_node_id"
    ]


def test_linked_value_is_set_where_it_stands() -> None:
    """A primitive node that is linked gets the value; a link to anything else is replaced."""
    graph: Graph = {
        "5": node("EmptyLatentImage", width=["p", 0], height=["m", 0], batch_size=1),
        "p": node("PrimitiveInt", value=64),
        "m": node("SimpleMath+", a=["p", 0], b=2, value="a*b"),
    }
    assert put(graph, width=32, height=48) == {"p.value": 32, "5.height": 48}


def test_one_primitive_for_both_sides() -> None:
    """Where width and height hang on one node, a square sets it; other sizes get values of their own."""
    graph: Graph = {
        "5": node("EmptyLatentImage", width=["p", 0], height=["p", 0], batch_size=1),
        "p": node("PrimitiveInt", value=64),
    }
    assert put(graph, width=32, height=32) == {"p.value": 32}
    assert put(graph, width=32, height=48) == {"p.value": 32, "5.height": 48}


@pytest.mark.parametrize("seed", [-1, "__RANDOM_INT__"])
def test_seed_is_drawn(seed: object) -> None:
    """-1 draws a seed, and what was drawn is told."""
    changed, used = apply_shortcuts(flux(), Shortcuts.model_validate({"seed": seed}), NO_CLASSES, lambda: DRAWN)
    assert (changed["25"]["inputs"], used) == ({"noise_seed": DRAWN}, {"seed": DRAWN})


def test_named_node_that_is_not_there() -> None:
    """A node that the caller names must be there and take it; those that do are listed."""
    assert refused(flux(), prompt="x", prompt_node_id="99", seed=1, seed_node_id="6") == [
        "prompt_node_id: the workflow has no node '99' to take the prompt; these do: 6 (CLIPTextEncode)",
        "seed_node_id: node 6 (CLIPTextEncode) takes no seed; these do: 25 (RandomNoise)",
    ]


def test_nothing_to_set() -> None:
    """A shortcut that no node takes is told."""
    graph: Graph = {"1": node("LoadImage", image="x.png")}
    assert refused(graph, prompt="x") == ["prompt: the workflow has no node that this could be for (prompt)"]


def test_value_that_comfyui_refuses(graph: Graph, classes: NodeClasses) -> None:
    """A size out of bounds is told with what is allowed."""
    assert refused(graph, classes, width=8, height=64) == [
        "width: node 5 (EmptyLatentImage), input width: 8 is outside of 16 to 16384"
    ]


@given(workflows(), st.booleans())
def test_any_workflow_is_answered(graph: Graph, named: bool) -> None:  # hypothesis draws it
    """Whatever the graph, there is a changed copy or one of our errors."""
    kept = copy.deepcopy(graph)
    ids = {"prompt_node_id": next(iter(graph), "1")} if named else {}
    with contextlib.suppress(WorkerError):
        apply_shortcuts(graph, Shortcuts.model_validate({**ALL, **ids}), NO_CLASSES, lambda: DRAWN)
    assert graph == kept
