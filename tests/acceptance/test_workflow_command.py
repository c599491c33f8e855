"""`comfyworker workflow` as its user calls it."""

import json
from pathlib import Path
from typing import Any

import pytest

from comfyworker.provision.config.reading import parse_config
from support.command import call, environment
from support.gui_workflows import line, node, widget, workflow
from support.real_comfyui import CHECKPOINT_NAME, RealComfyUI

MARKER = "workflow.json"


def picture(**parts: Any) -> dict[str, Any]:
    """Return a workflow in GUI format that makes a grey picture in a subgraph and saves it."""
    inner = {
        "id": "make-it",
        "inputs": [{"name": "width", "type": "INT"}],
        "outputs": [{"name": "IMAGE", "type": "IMAGE"}],
        "nodes": [node(1, "EmptyImage", inputs=[widget("width", "INT", 1)], widgets_values=[512, 16, 1, 8421504])],
        "links": [line(1, -10, 0, 1, 0), line(2, 1, 0, -20, 0)],
    }
    saved = workflow(
        node(1, "MarkdownNote", widgets_values=["read me"]),
        node(2, "make-it", widgets_values=[24]),
        node(3, "Reroute", inputs={"": ("*", 1)}),
        node(4, "SaveImage", inputs={"images": ("IMAGE", 2)}, widgets_values=["grey"], title="Result"),
        links=[[1, 2, 0, 3, 0, "IMAGE"], [2, 3, 0, 4, 0, "IMAGE"]],
        subgraphs=[inner],
    )
    return {**saved, **parts}


CONVERTED = {
    "2:1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 24, "height": 16, "batch_size": 1, "color": 8421504},
        "_meta": {"title": "EmptyImage"},
    },
    "4": {
        "class_type": "SaveImage",
        "inputs": {"filename_prefix": "grey", "images": ["2:1", 0]},
        "_meta": {"title": "Result"},
    },
}


@pytest.fixture
def gui_file(tmp_path: Path) -> str:
    """Write the workflow to a file; return its name."""
    (tmp_path / MARKER).write_text(json.dumps(picture()))
    return MARKER


def test_what_was_converted_runs(comfyui: RealComfyUI, tmp_path: Path, gui_file: str) -> None:
    """GUI format in, API format out, and `comfyworker run` makes the picture."""
    done = call("workflow", "convert", gui_file, "-o", "api.json", environ=environment(comfyui), cwd=tmp_path)
    assert (done.code, done.out, done.err) == (0, "", "2 nodes in api.json\n")
    assert json.loads((tmp_path / "api.json").read_text()) == CONVERTED
    ran = call("run", "api.json", "--json", environ=environment(comfyui), cwd=tmp_path)
    assert [(artifact["kind"], artifact["node_id"]) for artifact in ran.json()["artifacts"]] == [("image", "4")]


def test_the_result_goes_to_standard_output(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """So it can be piped, in and out."""
    content = json.dumps(picture()).encode()
    done = call("workflow", "convert", "-", environ=environment(comfyui), cwd=tmp_path, stdin=content)
    assert (done.code, done.json(), done.err) == (0, CONVERTED, "")


def test_a_file_of_node_classes_does_instead_of_a_comfyui(tmp_path: Path, gui_file: str) -> None:
    """With --object-info nothing is asked or started."""
    info = {
        "EmptyImage": {
            "input": {"required": {"width": ["INT"], "height": ["INT"], "batch_size": ["INT"], "color": ["INT"]}},
            "output": ["IMAGE"],
        },
        "SaveImage": {"input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING"]}}, "output": []},
    }
    (tmp_path / "info.json").write_text(json.dumps(info))
    args = ("workflow", "convert", gui_file, "--object-info", "info.json")
    done = call(*args, environ=environment(COMFYUI_PATH="/nowhere"), cwd=tmp_path)
    assert (done.code, done.json()) == (0, CONVERTED)


def test_classes_that_are_missing_are_each_named(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """Exit code 1, and a line for each node that cannot be converted."""
    saved = picture()
    saved["nodes"] += [node(8, "Fancy", inputs={"a": ("IMAGE", 9)}), node(9, "Plain", inputs={"a": ("IMAGE", 8)})]
    saved["links"] += [[8, 2, 0, 9, 0, "IMAGE"], [9, 2, 0, 8, 0, "IMAGE"]]
    (tmp_path / MARKER).write_text(json.dumps(saved))
    done = call("workflow", "convert", MARKER, environ=environment(comfyui), cwd=tmp_path)
    assert (done.code, done.out) == (1, "")
    assert "[missing_node] 2 problems" in done.err
    assert "node 8 (Fancy): this ComfyUI has no such class" in done.err
    assert "node 9 (Plain): this ComfyUI has no such class" in done.err


@pytest.mark.parametrize(
    ("content", "said"), [(None, "no such file"), ("{", "is not JSON"), ("", "is empty")], ids=["none", "cut", "empty"]
)
@pytest.mark.parametrize("command", ["convert", "inspect"])
def test_a_file_that_cannot_be_read_is_an_error_of_use(
    tmp_path: Path, command: str, content: str | None, said: str
) -> None:
    """Exit code 2, before anything is asked."""
    if content is not None:
        (tmp_path / MARKER).write_text(content)
    done = call("workflow", command, MARKER, environ=environment(COMFYUI_PATH="/nowhere"), cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_a_file_of_something_else_is_no_object_info(tmp_path: Path, gui_file: str) -> None:
    """A workflow given in its place is told apart."""
    args = ("workflow", "convert", gui_file, "--object-info", gui_file)
    done = call(*args, environ=environment(COMFYUI_PATH="/nowhere"), cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert f"--object-info {gui_file}: is not what a ComfyUI answers to GET /object_info" in done.err


def test_api_format_is_passed_through(tmp_path: Path) -> None:
    """A file that needs no conversion is told so, and nothing is asked."""
    (tmp_path / MARKER).write_text(json.dumps(CONVERTED))
    done = call("workflow", "convert", MARKER, environ=environment(COMFYUI_PATH="/nowhere"), cwd=tmp_path)
    assert (done.code, done.json(), done.err) == (0, CONVERTED, f"{MARKER} is in API format already\n")


def test_inspect_tells_what_a_workflow_needs(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """With a ComfyUI it also tells what is there."""
    graph = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": CHECKPOINT_NAME}},
        "2": {"class_type": "LoraLoaderModelOnly", "inputs": {"model": ["1", 0], "lora_name": "x.safetensors"}},
    }
    (tmp_path / MARKER).write_text(json.dumps(graph))
    needs = call("workflow", "inspect", MARKER, "--json", environ=environment(comfyui), cwd=tmp_path).json()
    assert [(model["name"], model["folder"], model["is_there"]) for model in needs["models"]] == [
        (CHECKPOINT_NAME, "checkpoints", True),
        ("x.safetensors", "loras", False),
    ]


def test_inspect_needs_no_comfyui(tmp_path: Path, gui_file: str) -> None:
    """In GUI format too: what the file alone tells."""
    environ = environment(COMFYUI_PATH="/nowhere")
    needs = call("workflow", "inspect", gui_file, "--json", environ=environ, cwd=tmp_path).json()
    assert [entry["class_type"] for entry in needs["classes"]] == ["EmptyImage", "SaveImage"]
    assert needs["outputs"] == [{"node_id": "4", "class_type": "SaveImage", "title": "Result"}]


def test_inspect_prints_a_table(tmp_path: Path) -> None:
    """One table for each part; parts that are empty are left out."""
    graph = {
        "1": {"class_type": "VAELoader", "inputs": {"vae_name": "v.safetensors"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red fox"}, "_meta": {"title": "Positive"}},
    }
    (tmp_path / MARKER).write_text(json.dumps(graph))
    done = call("workflow", "inspect", MARKER, environ=environment(), cwd=tmp_path)
    lines = [" ".join(text.split()) for text in done.out.splitlines() if text.strip()]
    assert lines == [
        "Models", "v.safetensors vae node 1",
        "Node classes", "CLIPTextEncode", "VAELoader",
        "Outputs", "1 VAELoader", "2 CLIPTextEncode Positive",
        "Parameters", "2.text a red fox Positive",
    ]  # fmt: skip


def listing(tmp_path: Path) -> str:
    """Write a workflow in GUI format that says where its model is; return its name."""
    entry = {"name": "a.safetensors", "url": "https://example.com/a.safetensors", "directory": "vae"}
    loader = node(5, "VAELoader", widgets_values=["a.safetensors"], properties={"models": [entry]}, title="VAE")
    custom = node(6, "Seed (rgthree)", inputs={"vae": ("VAE", 3)})
    saved = picture()
    saved["nodes"] += [loader, custom]
    saved["links"].append([3, 5, 0, 6, 0, "VAE"])
    (tmp_path / "listing.json").write_text(json.dumps(saved))
    return "listing.json"


def test_a_config_for_workflows(tmp_path: Path) -> None:
    """What is printed is a valid config.yml, without a ComfyUI and without a network."""
    graph = {"1": {"class_type": "LoraLoader", "inputs": {"lora_name": "wan/b.safetensors"}}}
    (tmp_path / "api.json").write_text(json.dumps(graph))
    done = call("workflow", "config", listing(tmp_path), "api.json", environ=environment(), cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "# What listing.json, api.json need; made by `comfyworker workflow config`.\n"
        "# To fill in by hand: 1 model; each is a comment.\n"
        "# Not looked up: sizes and hashes of the models; --online asks their hosts\n"
        "models:\n"
        "  # wanted by listing.json: node 5 (VAELoader)\n"
        "  - url: https://example.com/a.safetensors\n"
        "    destination: vae\n"
        "    filename: a.safetensors\n"
        "  # wanted by api.json: node 1 (LoraLoader)\n"
        "  # - url: ???\n"
        "  #   destination: loras/wan\n"
        "  #   filename: b.safetensors\n"
        "nodes:\n"
        "  # brings Seed (rgthree); known by the names of its classes\n"
        "  - url: https://github.com/rgthree/rgthree-comfy\n"
    )
    assert [model.destination for model in parse_config(done.out).models] == ["vae"]


def test_only_what_a_comfyui_lacks(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """Its models and classes are left out, and the result is written to a file."""
    graph = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": CHECKPOINT_NAME}},
        "2": {"class_type": "LoraLoader", "inputs": {"lora_name": "gone.safetensors"}},
    }
    (tmp_path / "api.json").write_text(json.dumps(graph))
    arguments = ("workflow", "config", "api.json", "--missing", "--json", "-o", "out.json")
    done = call(*arguments, environ=environment(comfyui), cwd=tmp_path)
    assert (done.code, done.out, done.err) == (0, "", "1 model and 0 custom nodes in out.json\n")
    answer = json.loads((tmp_path / "out.json").read_text())
    assert [model["filename"] for model in answer["models"]] == ["gone.safetensors"]
    assert answer["config_yml"].count("gone.safetensors") == 1


def test_a_file_that_is_no_workflow_is_named(tmp_path: Path) -> None:
    """Of several files, the error says which."""
    (tmp_path / "good.json").write_text('{"1": {"class_type": "A", "inputs": {}}}')
    (tmp_path / "bad.json").write_text('{"1": {"inputs": {}}}')
    done = call("workflow", "config", "good.json", "bad.json", environ=environment(), cwd=tmp_path)
    assert (done.code, done.out) == (1, "")
    assert "bad.json: node 1: has no class_type" in done.err
