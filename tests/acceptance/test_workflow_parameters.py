"""`comfyworker workflow parameters` as its user calls it."""

import json
from pathlib import Path

from support import workflows
from support.command import call, environment
from support.real_comfyui import RealComfyUI


def test_a_proposed_modifier_runs(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """What the command writes is a modifier that requests may name, with ComfyUI's bounds."""
    (tmp_path / "noise.json").write_text(json.dumps(workflows.noise()))
    (tmp_path / "modifiers").mkdir()
    arguments = ("workflow", "parameters", "noise.json", "-o", "modifiers/noise.json", "--name", "Noise")
    done = call(*arguments, environ=environment(comfyui), cwd=tmp_path)
    assert (done.code, done.out, done.err) == (0, "", "modifier 'Noise' in modifiers/noise.json\n")
    request = {"input": {"modifier": "Noise", "modifications": {"width": 48, "height": 32}}}
    (tmp_path / "request.json").write_text(json.dumps(request))
    done = call("handle", "request.json", environ=environment(comfyui, MODIFIERS_DIR="modifiers"), cwd=tmp_path)
    assert (done.code, [image["type"] for image in done.json()["images"]]) == (0, ["base64"])


def test_no_comfyui_is_needed(tmp_path: Path) -> None:
    """Without a ComfyUI the values of the workflow tell the types; the result goes to standard output."""
    (tmp_path / "noise.json").write_text(json.dumps(workflows.noise(seed=3)))
    done = call("workflow", "parameters", "noise.json", environ=environment(COMFYUI_PATH="/nowhere"), cwd=tmp_path)
    document = done.json()
    assert (done.code, document["name"]) == (0, "noise")
    assert {name: entry["type"] for name, entry in document["parameters"].items()} == {
        "width": "integer",
        "height": "integer",
        "seed": "integer",
        "batch_size": "integer",
    }


def test_a_file_that_is_no_workflow(tmp_path: Path) -> None:
    """It is said what the file holds instead."""
    (tmp_path / "x.json").write_text("[1]")
    done = call("workflow", "parameters", "x.json", environ=environment(COMFYUI_PATH="/nowhere"), cwd=tmp_path)
    assert (done.code, done.out) == (1, "")
    assert "workflow is a list, not an object of nodes" in done.err
