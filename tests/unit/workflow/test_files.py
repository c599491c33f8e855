"""Inputs that name files, and their new names."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyworker.jobs import ArtifactKind, Graph
from comfyworker.workflow import (
    FileInput,
    NodeClasses,
    UrlInput,
    find_file_inputs,
    find_url_inputs,
    rename_files,
)
from strategies import filenames, workflows

URL = "https://a.de/cat.png?sig=1"
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


def url_node(class_type: str, input_name: str, value: Any) -> Graph:
    """Return a graph of one node."""
    return {"1": {"class_type": class_type, "inputs": {input_name: value}}}


VIDEO_HELPERS = NodeClasses(
    {
        "VHS_LoadVideo": {"input": {"required": {"video": [["a.mp4"]], "format": [["None", "AnimateDiff"]]}}},
        "VHS_LoadVideoFFmpeg": {"input": {"required": {"video": [["a.mp4"]]}}},
        "VHS_LoadAudioUpload": {"input": {"required": {"audio": [["a.mp3"]], "start_time": ["FLOAT", {}]}}},
        "VHS_LoadVideoPath": {"input": {"required": {"video": ["STRING", {"vhs_path_extensions": ["mp4"]}]}}},
        "LoadAudio": {"input": {"required": {"audio": [["a.mp3"], {"audio_upload": True}]}}},
        "Load3D": {"input": {"required": {"model_file": [["a.glb"], {"file_upload": True}]}}},
        "Several": {"input": {"required": {"image": ["COMBO", {"multiselect": True, "image_upload": True}]}}},
    }
)
IMAGE, VIDEO, AUDIO = ArtifactKind.IMAGE, ArtifactKind.VIDEO, ArtifactKind.AUDIO


@pytest.mark.parametrize(
    ("class_type", "input_name", "takes"),
    [
        ("LoadImage", "image", (IMAGE,)),
        ("LoadImageMask", "image", (IMAGE,)),
        ("LoadImageOutput", "image", (IMAGE,)),
        ("LoadVideo", "file", (VIDEO, IMAGE)),
        ("LoadLatent", "latent", ()),
    ],
)
def test_urls_in_loaders_are_found(
    classes: NodeClasses, class_type: str, input_name: str, takes: tuple[ArtifactKind, ...]
) -> None:
    """Every loader of ComfyUI's own that reads an input file is known, with what it reads."""
    expected = UrlInput(node_id="1", input_name=input_name, url=URL, takes=takes)
    assert find_url_inputs(url_node(class_type, input_name, URL), classes) == (expected,)


@pytest.mark.parametrize(
    ("class_type", "input_name", "takes"),
    [
        ("VHS_LoadVideo", "video", ()),
        ("VHS_LoadVideoFFmpeg", "video", ()),
        ("VHS_LoadAudioUpload", "audio", ()),
        ("LoadAudio", "audio", (AUDIO, VIDEO)),
        ("Load3D", "model_file", ()),
    ],
)
def test_urls_in_other_loaders_are_found(class_type: str, input_name: str, takes: tuple[ArtifactKind, ...]) -> None:
    """So are VideoHelperSuite's, which ComfyUI does not mark, and all that it marks."""
    expected = UrlInput(node_id="1", input_name=input_name, url=URL, takes=takes)
    assert find_url_inputs(url_node(class_type, input_name, URL), VIDEO_HELPERS) == (expected,)


@pytest.mark.parametrize(
    ("class_type", "input_name"),
    [
        ("CLIPTextEncode", "text"),
        ("PrimitiveStringMultiline", "value"),
        ("SaveImage", "filename_prefix"),
        ("CheckpointLoaderSimple", "ckpt_name"),
        ("LoadImageMask", "channel"),
        ("LoadImage", "no_such_input"),
        ("NoSuchClass", "image"),
    ],
)
def test_urls_elsewhere_are_text(classes: NodeClasses, class_type: str, input_name: str) -> None:
    """A prompt, a prefix, a choice and a class that nobody knows load no input file."""
    assert find_url_inputs(url_node(class_type, input_name, URL), classes) == ()


def test_urls_elsewhere_in_helpers_are_text() -> None:
    """A path on ComfyUI's disk, or a choice beside the file, is no input file."""
    graph = url_node("VHS_LoadVideoPath", "video", URL) | {
        "2": {"class_type": "VHS_LoadVideo", "inputs": {"format": URL, "video": "a.mp4"}}
    }
    assert find_url_inputs(graph, VIDEO_HELPERS) == ()


@pytest.mark.parametrize(
    ("value", "urls"),
    [
        (f"{URL} [input]", [URL]),
        ([URL, "b.png", URL + "2"], [URL, URL + "2"]),
        ({"__value__": [URL]}, [URL]),
        ([URL, 0], []),
        (f"see {URL}", []),
        ("ftp://a.de/x.png", []),
        (7, []),
    ],
)
def test_what_is_a_url_in_a_loader(value: Any, urls: list[str]) -> None:
    """The whole text must be one; a list may hold several; a link is none."""
    found = find_url_inputs(url_node("Several", "image", value), VIDEO_HELPERS)
    assert [item.url for item in found] == urls


def test_urls_become_names(classes: NodeClasses) -> None:
    """A loader gets the stored file; the same URL in a text stays, even where a file's name would be renamed."""
    graph = url_node("LoadImage", "image", f"{URL} [input]") | {
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": URL}},
        "3": {"class_type": "SaveImage", "inputs": {"filename_prefix": URL}},
        "4": {"class_type": "NoSuchClass", "inputs": {"picture": URL}},
    }
    expected = copy.deepcopy(graph)
    expected["1"]["inputs"]["image"] = "comfyworker/3f.png [input]"
    assert rename_files(graph, classes, {URL: "comfyworker/3f.png"}) == (expected, frozenset({URL}))


def test_a_url_is_not_repeated() -> None:
    """No log shows a URL by showing where it was found."""
    assert "sig" not in repr(UrlInput(node_id="1", input_name="image", url=URL))


@given(workflows(), st.dictionaries(filenames(), filenames(), max_size=3))
def test_no_graph_is_changed(graph: Graph, names: dict[str, str]) -> None:
    """Whatever the names are, the caller's graph stays as it was, and only names that were given are used."""
    kept = copy.deepcopy(graph)
    changed, used = rename_files(graph, None, names)
    assert (graph, changed.keys(), used <= names.keys()) == (kept, kept.keys(), True)
