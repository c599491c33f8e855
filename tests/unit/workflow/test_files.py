"""Inputs that name files, and their new names."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyworker.jobs import Graph
from comfyworker.workflow import FileInput, NodeClasses, find_file_inputs, rename_files
from strategies import filenames, workflows

NAMES = {"example.png": "comfyworker/1f.png", "unused.png": "comfyworker/2f.png"}


def renamed_value(class_type: str, input_name: str, value: Any, classes: NodeClasses | None) -> Any:
    """Return what becomes of one input."""
    graph, _ = rename_files({"1": {"class_type": class_type, "inputs": {input_name: value}}}, classes, NAMES)
    return graph["1"]["inputs"][input_name]


def test_files_are_renamed(graph: Graph, classes: NodeClasses) -> None:
    """The input gets the new name, the names that were used are told, and the caller's graph is left alone."""
    kept = copy.deepcopy(graph)
    expected = copy.deepcopy(graph)
    expected["8"]["inputs"]["image"] = "comfyworker/1f.png"
    assert rename_files(graph, classes, NAMES) == (expected, frozenset({"example.png"}))
    assert graph == kept


def test_several_inputs_may_name_one_file(graph: Graph, classes: NodeClasses) -> None:
    """Each input that names the file is renamed."""
    graph["11"] = {"class_type": "LoadImageMask", "inputs": {"image": "example.png", "channel": "alpha"}}
    changed, _ = rename_files(graph, classes, NAMES)
    assert [changed[node_id]["inputs"]["image"] for node_id in ("8", "11")] == ["comfyworker/1f.png"] * 2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("example.png [input]", "comfyworker/1f.png [input]"),
        ("example.png [output]", "example.png [output]"),
        ("sub/example.png", "sub/example.png"),
        ("EXAMPLE.png", "EXAMPLE.png"),
        ({"__value__": ["example.png", "b"]}, {"__value__": ["comfyworker/1f.png", "b"]}),
        (["example.png", "b.png"], ["comfyworker/1f.png", "b.png"]),
        (["example.png", 0], ["example.png", 0]),
        (7, 7),
        (None, None),
    ],
)
def test_what_is_a_name(classes: NodeClasses, value: Any, expected: Any) -> None:
    """Only the very name counts, with ComfyUI's annotation or without; links stay links."""
    assert renamed_value("LoadImage", "image", value, classes) == expected


@pytest.mark.parametrize(
    ("class_type", "input_name", "is_renamed"),
    [
        ("LoadImage", "image", True),
        ("LoadVideo", "file", True),
        ("LoadLatent", "latent", True),
        ("SaveImage", "filename_prefix", True),
        ("CLIPTextEncode", "text", False),
        ("PrimitiveStringMultiline", "value", False),
        ("LoadImage", "no_such_input", False),
        ("NoSuchClass", "picture", True),
        ("NoSuchClass", "text", False),
        ("NoSuchClass", "Prompt", False),
    ],
)
def test_which_inputs_can_name_a_file(classes: NodeClasses, class_type: str, input_name: str, is_renamed: bool) -> None:
    """Choices, uploads and single-line texts can; a prompt never, even if it is nothing but a file's name."""
    expected = "comfyworker/1f.png" if is_renamed else "example.png"
    assert renamed_value(class_type, input_name, "example.png", classes) == expected


def test_classes_may_be_unknown(graph: Graph) -> None:
    """Without classes, every text counts but prompts."""
    assert renamed_value("LoadImage", "image", "example.png", None) == "comfyworker/1f.png"
    assert rename_files(graph, None, {"a cat": "x"}) == (graph, frozenset())


def test_find_file_inputs(graph: Graph, classes: NodeClasses) -> None:
    """Inputs that name files of the input folder are told, without those of other folders."""
    graph["11"] = {"class_type": "LoadImage", "inputs": {"image": "mask.png [input]"}}
    graph["12"] = {"class_type": "LoadImage", "inputs": {"image": "old.png [output]"}}
    graph["13"] = {"class_type": "NoSuchClass", "inputs": {"image": "x.png"}}
    assert find_file_inputs(graph, classes) == (
        FileInput(node_id="8", input_name="image", name="example.png"),
        FileInput(node_id="11", input_name="image", name="mask.png"),
    )


@given(workflows(), st.dictionaries(filenames(), filenames(), max_size=3))
def test_no_graph_is_changed(graph: Graph, names: dict[str, str]) -> None:
    """Whatever the names are, the caller's graph stays as it was, and only names that were given are used."""
    kept = copy.deepcopy(graph)
    changed, used = rename_files(graph, None, names)
    assert (graph, changed.keys(), used <= names.keys()) == (kept, kept.keys(), True)
