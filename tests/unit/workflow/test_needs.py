"""What a workflow needs and offers."""

from typing import Any

import pytest

from comfyworker.jobs import Graph
from comfyworker.workflow import NodeClasses
from comfyworker.workflow.gui import ListedModel
from comfyworker.workflow.needs import ClassNeed, FileNeed, ModelNeed, OutputNode, Parameter, inspect_workflow


def models(graph: Graph, **known: Any) -> list[tuple[str, str | None]]:
    """Return name and folder of each model that the graph names."""
    return [(model.name, model.folder) for model in inspect_workflow(graph, **known).models]


def test_models_stand_by_folder(graph: Graph, classes: NodeClasses) -> None:
    """Each file once, with its folder, the nodes that name it, and whether ComfyUI has it."""
    graph["2"]["inputs"]["lora_name"] = "other.safetensors"
    assert inspect_workflow(graph, classes).models == (
        ModelNeed(name="dreamshaper_8.safetensors", folder="checkpoints", node_ids=("1",), is_there=True),
        ModelNeed(name="other.safetensors", folder="loras", node_ids=("2",), is_there=False),
    )


def test_inputs_and_outputs_are_told(graph: Graph, classes: NodeClasses) -> None:
    """Files that ComfyUI takes from its input folder, and nodes that give results."""
    needs = inspect_workflow(graph, classes)
    assert needs.inputs == (FileNeed(name="example.png", node_id="8", input_name="image"),)
    assert needs.outputs == (OutputNode(node_id="10", class_type="SaveImage", title=None),)


def test_without_a_comfyui_the_same_is_found(graph: Graph, classes: NodeClasses) -> None:
    """Tables and endings of names find what `/object_info` would tell."""
    known, unknown = inspect_workflow(graph, classes), inspect_workflow(graph)
    assert unknown.inputs == known.inputs
    assert unknown.outputs == known.outputs
    assert [(model.name, model.folder) for model in unknown.models] == models(graph, classes=classes)


def test_classes_are_counted(graph: Graph, classes: NodeClasses) -> None:
    """With the custom node that brings them, and whether they are there."""
    graph["11"] = {"class_type": "Fancy", "inputs": {}}
    needs = inspect_workflow(graph, classes, packs={"Fancy": "fancy-nodes"}).classes
    assert [need for need in needs if need.class_type in ("CLIPTextEncode", "Fancy")] == [
        ClassNeed(class_type="CLIPTextEncode", count=2, is_there=True),
        ClassNeed(class_type="Fancy", count=1, pack="fancy-nodes", is_there=False),
    ]


def test_a_custom_class_names_its_pack() -> None:
    """ComfyUI says which custom node a class is from."""
    classes = NodeClasses({"A": {"input": {}, "output": [], "python_module": "custom_nodes.some-pack"}})
    assert inspect_workflow({"1": {"class_type": "A", "inputs": {}}}, classes).classes == (
        ClassNeed(class_type="A", count=1, pack="some-pack", is_there=True),
    )


def test_parameters_are_what_a_caller_sets(graph: Graph, classes: NodeClasses) -> None:
    """Texts, seeds, sizes and the like, where they are values and not links."""
    graph["6"]["inputs"]["steps"] = ["8", 0]
    found = inspect_workflow(graph, classes).parameters
    assert found[2] == Parameter(
        node_id="3", title="Positive", class_type="CLIPTextEncode", input_name="text", value="a cat"
    )
    assert [f"{entry.node_id}.{entry.input_name}" for entry in found] == [
        "2.strength_model", "2.strength_clip", "3.text", "4.text", "5.width", "5.height", "5.batch_size",
        "6.seed", "6.cfg", "6.sampler_name", "6.scheduler", "6.denoise",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("class_type", "inputs", "wanted"),
    [
        ("UnetLoaderGGUF", {"unet_name": "x.gguf"}, [("x.gguf", "diffusion_models")]),
        ("UNETLoaderDisTorch2MultiGPU", {"unet_name": "x.safetensors"}, [("x.safetensors", "diffusion_models")]),
        ("TripleCLIPLoader", {"clip_name3": "t5.safetensors"}, [("t5.safetensors", "text_encoders")]),
        ("CLIPVisionLoader", {"clip_name": "v.safetensors"}, [("v.safetensors", "clip_vision")]),
        ("VAELoader", {"vae_name": "taesd_decoder.safetensors"}, [("taesd_decoder.safetensors", "vae_approx")]),
        ("UltralyticsDetectorProvider", {"model_name": "bbox/face.pt"}, [("bbox/face.pt", "ultralytics/bbox")]),
        ("NunchakuFluxDiTLoader", {"model_path": "n.safetensors"}, [("n.safetensors", "diffusion_models")]),
        ("Whatever", {"thing": "w.safetensors"}, [("w.safetensors", None)]),
        ("CR LoRA Stack", {"lora_name_1": "None", "lora_name_2": "l.safetensors"}, [("l.safetensors", "loras")]),
        ("VAELoader", {"vae_name": "Baked VAE"}, []),
        (
            "Power Lora Loader (rgthree)",
            {
                "lora_1": {"on": True, "lora": "l.safetensors", "strength": 1},
                "lora_2": {"on": False, "lora": "off.safetensors", "strength": 1},
            },
            [("l.safetensors", "loras")],
        ),
    ],
)
def test_folders_of_custom_loaders(class_type: str, inputs: dict[str, Any], wanted: list[Any]) -> None:
    """Wrapped classes, numbered inputs and lists of LoRAs are known; anything else is told without a folder."""
    assert models({"1": {"class_type": class_type, "inputs": inputs}}) == wanted


def test_metadata_tells_where_a_model_can_be_had() -> None:
    """A file in GUI format may list its models."""
    listed = ListedModel(name="w.safetensors", folder="sams", url="https://example.com/w", node_id="1")
    graph: Graph = {"1": {"class_type": "Whatever", "inputs": {"thing": "w.safetensors"}}}
    assert inspect_workflow(graph, listed_models=[listed]).models == (
        ModelNeed(name="w.safetensors", folder="sams", node_ids=("1",), url="https://example.com/w"),
    )
