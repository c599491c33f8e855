"""ComfyUI's node classes as we read them."""

from typing import Any

import pytest

from comfyworker.workflow import NodeClasses
from comfyworker.workflow.node_classes import parse_input


def test_class_is_parsed_once(classes: NodeClasses) -> None:
    """The second look at a class finds what the first made."""
    assert classes.get("KSampler") is classes.get("KSampler")


def test_unknown_class_is_none(classes: NodeClasses) -> None:
    """A class that this ComfyUI does not have is None."""
    assert (classes.get("NoSuchClass"), "NoSuchClass" in classes, "KSampler" in classes) == (None, False, True)


def test_output_node_and_types(classes: NodeClasses) -> None:
    """A class tells whether it is an output, and what its outputs are."""
    told = {name: classes.get(name) for name in ("SaveImage", "CheckpointLoaderSimple")}
    assert {name: (known.is_output, known.output_types) for name, known in told.items() if known} == {
        "SaveImage": (True, ()),
        "CheckpointLoaderSimple": (False, ("MODEL", "CLIP", "VAE")),
    }


def test_hidden_inputs_are_left_out(classes: NodeClasses) -> None:
    """SaveImage's prompt and extra_pnginfo are ComfyUI's own affair."""
    save = classes.get("SaveImage")
    assert save is not None
    assert list(save.inputs) == ["images", "filename_prefix"]


def test_bounds(classes: NodeClasses) -> None:
    """A number's bounds are told."""
    sampler = classes.get("KSampler")
    assert sampler is not None
    assert (sampler.inputs["steps"].minimum, sampler.inputs["steps"].maximum) == (1, 10000)


@pytest.mark.parametrize(
    "config", [[["a", "b"]], [["a", "b"], {"tooltip": "x"}], ["COMBO", {"options": ["a", "b"], "multiselect": False}]]
)
def test_both_styles_of_choices(config: list[Any]) -> None:
    """Choices stand in the place of the type, or among the options."""
    spec = parse_input("mode", config, required=True)
    assert (spec.type_name, spec.choices, spec.is_open, spec.offers("a"), spec.offers(["a"])) == (
        "COMBO",
        ("a", "b"),
        False,
        True,
        False,
    )


@pytest.mark.parametrize(
    ("config", "is_upload"),
    [
        ([["a.png"], {"image_upload": True}], True),
        ([[], {"upload": True}], True),
        (["COMBO", {"options": [], "video_upload": True}], True),
        (["COMBO", {"options": ["a"], "multiselect": True}], False),
        (["COMBO", {"remote": {"route": "/x"}}], False),
        (["COMBO", {}], False),
        (["COMFY_AUTOGROW_V3", {}], False),
    ],
)
def test_inputs_that_only_comfyui_can_judge(config: list[Any], is_upload: bool) -> None:
    """Uploads, lists that ComfyUI's page fetches and inputs that grow are open."""
    spec = parse_input("x", config)
    assert (spec.is_open, spec.is_upload) == (True, is_upload)


@pytest.mark.parametrize(
    ("name", "config", "expected"),
    [
        ("ckpt_name", [[]], True),
        ("clip_name2", [[]], True),
        ("name", [["a.safetensors"]], True),
        ("model_name", ["COMBO", {"options": []}], True),
        ("sampler_name", [["euler"]], False),
        ("image", [["a.png"], {"image_upload": True}], False),
        ("model_name", ["STRING", {}], False),
    ],
)
def test_loader_inputs(name: str, config: list[Any], expected: bool) -> None:
    """A loader's choices are model files, or it is called as loaders' inputs are."""
    assert parse_input(name, config).is_loader is expected


@pytest.mark.parametrize(
    "config", [None, [], 3, [{}], [None, None], ["INT", ["x"]], ["INT", {"min": "low", "max": None}]]
)
def test_odd_declarations_take_anything(config: object) -> None:
    """A declaration that is not understood gives an input without choices and bounds."""
    spec = parse_input("x", config)
    assert (spec.choices, spec.minimum, spec.maximum) == (None, None, None)


@pytest.mark.parametrize("info", [None, [], {}, {"input": [], "output": None}, {"input": {"required": 3}}])
def test_odd_classes_have_no_inputs(info: Any) -> None:
    """A class whose entry is not understood is there, with no inputs and outputs."""
    known = NodeClasses({"X": info}).get("X")
    assert known is not None
    assert (known.inputs, known.output_types, known.is_output) == ({}, (), False)


def test_length_and_names(object_info: dict[str, Any]) -> None:
    """All classes are told without parsing them."""
    classes = NodeClasses(object_info)
    assert (len(classes), list(classes)) == (len(object_info), list(object_info))
