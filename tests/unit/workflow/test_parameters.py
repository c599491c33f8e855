"""A modifier proposed for a workflow."""

from typing import Any

from hypothesis import given

from comfyworker.jobs import Graph
from comfyworker.modifiers import load_modifiers
from comfyworker.settings import ModifierSettings
from comfyworker.workflow.modifiers import apply_modifier, read_modifier
from comfyworker.workflow.node_classes import NodeClasses
from comfyworker.workflow.parameters import propose_modifier
from strategies import workflows
from support.workflows import node, text_to_image


def proposed(graph: Graph, classes: NodeClasses | None = None) -> dict[str, Any]:
    """Return the parameters that are proposed; the whole file must be one that the worker reads."""
    data = propose_modifier(graph, classes, name="Mine")
    read_modifier(data, path="mine.json")
    parameters: Any = data["parameters"]
    return dict(parameters)


def targets(parameters: dict[str, Any]) -> dict[str, list[str]]:
    """Return what each parameter sets."""
    return {name: parameter["targets"] for name, parameter in parameters.items()}


def test_names(graph: Graph, classes: NodeClasses) -> None:
    """What a caller would set has the name that callers know; the rest that of its input."""
    assert targets(proposed(graph, classes)) == {
        "prompt": ["3.text"],
        "width": ["5.width"],
        "height": ["5.height"],
        "seed": ["6.seed"],
        "steps": ["6.steps"],
        "ckpt_name": ["1.ckpt_name"],
        "lora_name": ["2.lora_name"],
        "strength_model": ["2.strength_model"],
        "strength_clip": ["2.strength_clip"],
        "negative_prompt": ["4.text"],
        "batch_size": ["5.batch_size"],
        "cfg": ["6.cfg"],
        "sampler_name": ["6.sampler_name"],
        "scheduler": ["6.scheduler"],
        "denoise": ["6.denoise"],
        "input_image": ["8.image"],
    }


def test_types_and_bounds(graph: Graph, classes: NodeClasses) -> None:
    """Types, bounds and choices are ComfyUI's; lists of files are left to it."""
    parameters = proposed(graph, classes)
    assert [parameters[name] for name in ("steps", "seed", "ckpt_name")] == [
        {
            "type": "integer",
            "minimum": 1,
            "maximum": 10000,
            "default": 4,
            "description": "How many steps are sampled.",
            "targets": ["6.steps"],
        },
        {
            "type": "integer",
            "minimum": 0,
            "maximum": 2**64 - 1,
            "default": "__RANDOM_INT__",
            "description": "Where the noise starts from; -1 draws one.",
            "targets": ["6.seed"],
        },
        {"type": "string", "default": "dreamshaper_8.safetensors", "description": "", "targets": ["1.ckpt_name"]},
    ]
    assert "euler" in parameters["sampler_name"]["choices"]


def test_without_classes() -> None:
    """Where no ComfyUI tells, the values that are there do."""
    parameters = proposed(text_to_image())
    assert {name: parameter["type"] for name, parameter in parameters.items()} == {
        "prompt": "string",
        "width": "integer",
        "height": "integer",
        "seed": "integer",
        "steps": "integer",
        "ckpt_name": "string",
        "negative_prompt": "string",
        "batch_size": "integer",
        "cfg": "number",
        "sampler_name": "string",
        "scheduler": "string",
        "denoise": "number",
    }


def test_inputs_of_one_prompt() -> None:
    """Inputs that hold the same text are one parameter."""
    graph: Graph = {
        "1": node("CLIPTextEncodeFlux", clip_l="a", t5xxl="a", guidance=3.5),
        "2": node("KSampler", positive=["1", 0]),
    }
    assert targets(proposed(graph)) == {"prompt": ["1.clip_l", "1.t5xxl"], "guidance": ["1.guidance"]}


def test_names_are_unique() -> None:
    """Inputs of one name are told apart by their nodes' titles, else by ids."""
    graph: Graph = {
        "1": node("LoraLoader", "Style", lora_name="a.safetensors", strength_model=1.0),
        "2": node("LoraLoader", "LoraLoader", lora_name="b.safetensors"),
        "57:3": node("LoraLoader", lora_name="c.safetensors"),
        "4": node("LoraLoader", "Style", lora_name="d.safetensors"),
    }
    assert list(proposed(graph)) == [
        "style_lora_name",
        "strength_model",
        "node_2_lora_name",
        "node_57_3_lora_name",
        "style_lora_name_4",
    ]


def test_proposal_of_a_built_in() -> None:
    """The workflow of Text2Image is proposed as the modifier that it is."""
    modifier = load_modifiers(ModifierSettings()).known["Text2Image"]
    assert modifier.workflow is not None
    assert proposed(modifier.workflow).keys() == modifier.parameters.keys()


@given(workflows())
def test_any_workflow(graph: Graph) -> None:
    """Whatever the workflow, the proposal can be read and, with nothing set but the seed, runs what was proposed."""
    data = propose_modifier(graph, None, name="Mine")
    if graph:
        modifier = read_modifier(data, path="mine.json")
        assert apply_modifier(modifier, {}, NodeClasses({}), lambda: 1)[0].keys() == graph.keys()
