"""Models that lie on a volume, from the folder there to the picture."""

import json
from pathlib import Path

import orjson

from support import workflows
from support.command import Done, call, environment
from support.real_comfyui import CHECKPOINT_NAME, Install

ON_VOLUME = "only-on-the-volume.safetensors"


def write_workflow(cwd: Path, checkpoint: str) -> None:
    """Write `workflow.json`, which makes a picture with that checkpoint."""
    graph = workflows.text_to_image()
    graph["1"]["inputs"]["ckpt_name"] = checkpoint
    (cwd / "workflow.json").write_text(json.dumps(graph), encoding="utf-8")


def run(install: Install, base_dir: Path, cwd: Path, *args: str, **variables: str) -> Done:
    """Run `comfyworker` in `cwd` with a ComfyUI of its own in `base_dir`."""
    environ = environment(
        COMFYUI_PATH=str(install.path),
        COMFYUI_PYTHON=str(install.python),
        COMFYUI_BASE_DIR=str(base_dir),
        COMFYUI_ARGS="--disable-api-nodes",
        STATE_DIR=str(cwd / "state"),
        LOG_FORMAT="json",
        LOG_LEVEL="info",
    )
    return call(*args, environ=environ | variables, cwd=cwd)


def events(done: Done) -> dict[str, dict[str, object]]:
    """Return the last event of each name in the log."""
    lines = [line for line in done.err.splitlines() if line.startswith("{")]
    return {event["event"]: event for event in map(orjson.loads, lines)}


def test_a_job_uses_a_model_of_the_volume(comfyui_install: Install, comfyui_base: Path, tmp_path: Path) -> None:
    """A checkpoint that is nowhere but on the volume makes a picture, and the log tells of it when asked to."""
    volume = tmp_path / "volume with: odd 'name'"
    (volume / "ComfyUI/models/checkpoints").mkdir(parents=True)
    own = comfyui_base / "models/checkpoints" / CHECKPOINT_NAME
    own.rename(volume / "ComfyUI/models/checkpoints" / ON_VOLUME)
    write_workflow(tmp_path, ON_VOLUME)

    variables = {"MODELS_PATH": str(volume), "NETWORK_VOLUME_DEBUG": "true"}
    done = run(comfyui_install, comfyui_base, tmp_path, "run", "workflow.json", "--json", **variables)

    assert done.code == 0, done.err
    assert done.json()["status"] == "succeeded"
    told = events(done)
    assert told["volume.found"]["models_in"] == [str(volume / "ComfyUI/models")]
    assert (told["volume.kind_counted"]["kind"], told["volume.kind_counted"]["names"]) == ("checkpoints", [ON_VOLUME])
    assert (told["volume.counted"]["files"], told["volume.counted"]["doubts"]) == (1, 0)


def test_a_model_that_is_nowhere_is_named_with_those_of_the_volume(
    comfyui_install: Install, comfyui_base: Path, tmp_path: Path
) -> None:
    """The answer to a wrong name lists what there is in ComfyUI's own folder and on the volume alike."""
    checkpoints = tmp_path / "volume/checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / ON_VOLUME).symlink_to((comfyui_base / "models/checkpoints" / CHECKPOINT_NAME).resolve())
    write_workflow(tmp_path, "only-on-the-volum.safetensors")

    done = run(comfyui_install, comfyui_base, tmp_path, "run", "workflow.json", "--json", MODELS_PATH="volume")

    assert done.code != 0
    [problem] = done.json()["error"]["problems"]
    assert (problem["code"], set(problem["choices"])) == ("missing_model", {CHECKPOINT_NAME, ON_VOLUME})
