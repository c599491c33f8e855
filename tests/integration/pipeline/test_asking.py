"""Every way of asking for a picture, on a real ComfyUI."""

import base64
import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from comfyworker.jobs import Graph, JobRequest, JobResult, JobStatus
from comfyworker.pipeline import Pipeline
from support import gui_workflows as gui
from support import workflows
from support.pipelines import code, colour_of, picture, pipeline_on, png
from support.real_comfyui import CHECKPOINT_NAME, RealComfyUI

SMALL = {"prompt": "a cat on a windowsill", "width": 64, "height": 96, "steps": 2}


async def ask(pipeline: Pipeline, **fields: Any) -> JobResult:
    """Run a request of these fields, which must succeed."""
    result = await pipeline.run(JobRequest.model_validate({"id": uuid.uuid4().hex, "timeout_s": 60.0, **fields}))
    assert result.status is JobStatus.SUCCEEDED, result.error
    return result


def size_of(result: JobResult) -> tuple[int, int]:
    """Return width and height of the only picture."""
    [artifact] = result.artifacts
    return picture(artifact).size


async def test_text2image(comfyui: RealComfyUI) -> None:
    """The modifier runs with the only checkpoint there is, and tells that and the seed that was drawn."""
    async with pipeline_on(comfyui) as pipeline:
        result = await ask(pipeline, modifier="Text2Image", modifications=SMALL)
    seed = result.used["seed"]
    assert isinstance(seed, int)
    assert (size_of(result), result.used) == ((64, 96), {"seed": seed, "ckpt_name": CHECKPOINT_NAME})


async def test_image2image(comfyui: RealComfyUI) -> None:
    """The input picture comes with the request, under the name that the parameter says."""
    files = [{"name": "mine.png", "data": base64.b64encode(png((200, 10, 10), 80)).decode()}]
    modifications = {**SMALL, "input_image": "mine.png", "denoise": 0.5, "seed": 3, "ckpt_name": CHECKPOINT_NAME}
    async with pipeline_on(comfyui) as pipeline:
        result = await ask(pipeline, modifier="Image2Image", modifications=modifications, files=files)
    assert (size_of(result), result.used) == ((64, 96), {})


async def test_raw_workflow(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """RawWorkflow runs on the request's workflow, on the worker's default one, and without any on Text2Image's."""
    default = tmp_path / "default.json"
    default.write_text(json.dumps(workflows.noise(32, 32)))
    size = {"width": 48, "height": 80}
    async with pipeline_on(comfyui) as pipeline:
        own = await ask(pipeline, modifier="RawWorkflow", modifications=size, workflow=workflows.noise())
        fallback = await ask(pipeline, modifier="RawWorkflow", modifications={**SMALL, "seed": 5})
    async with pipeline_on(comfyui, DEFAULT_WORKFLOW=str(default)) as pipeline:
        on_default = await ask(pipeline, modifier="RawWorkflow", modifications=size)
    assert [size_of(result) for result in (own, fallback, on_default)] == [(48, 80), (64, 96), (48, 80)]


async def test_shortcuts_and_overrides(comfyui: RealComfyUI) -> None:
    """Both are applied to the workflow of the request, shortcuts last."""
    async with pipeline_on(comfyui) as pipeline:
        result = await ask(
            pipeline,
            workflow=workflows.text_to_image(),
            overrides=[
                {"title": "Sampler", "field": "steps", "value": 1},
                {"node_id": "4", "field": "inputs.width", "value": 64},
            ],
            shortcuts={"prompt": "a fox", "seed": -1, "height": 64, "width": 128},
        )
    assert (size_of(result), list(result.used)) == ((128, 64), ["seed"])


async def test_gui_format(comfyui: RealComfyUI) -> None:
    """A workflow as ComfyUI's page saves it is converted, and overrides name its nodes."""
    saved = gui.workflow(
        gui.node(1, "EmptyImage", widgets_values=[512, 16, 1, 8421504]),
        gui.node(2, "SaveImage", inputs={"images": ("IMAGE", 1)}, widgets_values=[workflows.unique_prefix()]),
        links=[[1, 1, 0, 2, 0, "IMAGE"]],
    )
    async with pipeline_on(comfyui) as pipeline:
        result = await ask(pipeline, gui_workflow=saved, overrides=[{"node_id": 1, "field": "width", "value": 24}])
    assert size_of(result) == (24, 16)


async def test_random_integers(comfyui: RealComfyUI) -> None:
    """A placeholder draws another picture each time, and the answer tells with what."""
    graph: Graph = workflows.noise()
    graph["1"]["inputs"]["seed"] = "__RANDOM_INT__"
    async with pipeline_on(comfyui) as pipeline:
        first, second = await ask(pipeline, workflow=graph), await ask(pipeline, workflow=graph)
    assert list(first.used) == ["1.seed"]
    assert first.used != second.used
    assert first.artifacts[0].data != second.artifacts[0].data


async def test_modifier_of_the_owner(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """MODIFIERS_DIR adds modifiers, and replaces built-in ones of the same name."""
    tint = {
        "name": "Text2Image",
        "workflow": workflows.colour((1, 2, 3)),
        "parameters": {"red": {"type": "integer", "targets": ["1.red"]}},
    }
    (tmp_path / "tint.json").write_text(json.dumps(tint))
    async with pipeline_on(comfyui, MODIFIERS_DIR=str(tmp_path)) as pipeline:
        result = await ask(pipeline, modifier="Text2Image", modifications={"red": 99})
    assert colour_of(result.artifacts[0]) == (99, 2, 3)


@pytest.mark.parametrize(
    ("fields", "expected", "said"),
    [
        (
            {"modifier": "Text2Image", "modifications": {"prompt": "x", "ckpt_name": "tiny-sd4.safetensors"}},
            "invalid_request",
            ["modifications.ckpt_name", "'tiny-sd3.safetensors'"],
        ),
        ({"modifier": "Text3Image"}, "invalid_request", ["'Text2Image'", "RawWorkflow"]),
        (
            {
                "workflow": workflows.text_to_image(),
                "overrides": [{"node_id": "5", "field": "sampler_name", "value": "eulr"}],
                "shortcuts": {"width": 8, "height": 64},
            },
            "invalid_workflow",
            ["overrides[0].value", "'euler'", "width", "16"],
        ),
    ],
)
async def test_asking_wrongly(comfyui: RealComfyUI, fields: dict[str, Any], expected: str, said: list[str]) -> None:
    """What cannot be made is told with what there is instead."""
    async with pipeline_on(comfyui) as pipeline:
        result = await pipeline.run(JobRequest.model_validate({"id": "j", **fields}))
    assert code(result) == expected
    assert result.error is not None
    assert [part for part in said if part not in result.error.message] == []
