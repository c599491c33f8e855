"""Requests that are wrong, on a real ComfyUI: one error that names everything, and nothing was queued."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from comfyworker.dialects.worker_comfyui import WorkerComfyUIDialect
from comfyworker.errors import WorkerError
from comfyworker.jobs import Graph, JobError, JobResult
from comfyworker.pipeline import Pipeline
from support import workflows
from support.pipelines import code, files_in, pipeline_on, png, request
from support.proxy import FaultProxy
from support.real_comfyui import RealComfyUI

SECRET = "sk-planted-secret"


async def ask(pipeline: Pipeline, workflow: object, **more: object) -> JobError:
    """Return the error with which a request fails, from the dialect on."""
    body = {"input": {"workflow": workflow, **more}}
    try:
        result = await pipeline.run(WorkerComfyUIDialect().parse(body, new_id=lambda: "job"))
    except WorkerError as error:
        result = JobResult.refused("job", error)
    assert result.error is not None, f"it succeeded: {code(result)}"
    return result.error


def broken(change: Callable[[Graph], None]) -> Graph:
    """Return a whole text-to-image workflow with something wrong."""
    graph = copy.deepcopy(workflows.text_to_image())
    change(graph)
    return graph


def put(node: str, name: str, value: object) -> Callable[[Graph], None]:
    """Return the change of one input."""

    def change(graph: Graph) -> None:
        graph[node]["inputs"][name] = value

    return change


def misspell_class(graph: Graph) -> None:
    """Name a class that ComfyUI does not have."""
    graph["5"]["class_type"] = "KSamplr"


@pytest.mark.parametrize(
    ("workflow", "expected_code", "said"),
    [
        pytest.param([1, 2], "invalid_workflow", ["a list"], id="no object"),
        pytest.param({}, "invalid_workflow", ["empty"], id="empty"),
        pytest.param(
            {"nodes": [], "links": [], "version": 0.4}, "workflow_format_ui", ["nothing to run"], id="GUI format"
        ),
        pytest.param(broken(misspell_class), "missing_node", ["node 5", "'KSamplr'", "'KSampler'"], id="unknown class"),
        pytest.param(
            broken(put("6", "samples", ["77", 0])), "invalid_workflow", ["node 6", "samples", "'77'"], id="broken link"
        ),
        pytest.param(
            broken(put("1", "ckpt_name", "tiny-sd4.safetensors")),
            "missing_model",
            ["node 1", "ckpt_name", "'tiny-sd4.safetensors'", "'tiny-sd3.safetensors'"],
            id="missing model",
        ),
        pytest.param(
            broken(put("5", "steps", 100_000)), "invalid_workflow", ["node 5", "steps", "100000", "10000"], id="range"
        ),
        pytest.param(
            broken(put("5", "sampler_name", "eulr")),
            "invalid_workflow",
            ["node 5", "sampler_name", "'eulr'", "'euler'"],
            id="misspelt choice",
        ),
    ],
)
async def test_a_wrong_workflow(
    comfyui: RealComfyUI, proxy: FaultProxy, workflow: Any, expected_code: str, said: list[str]
) -> None:
    """The error names the node, the input, what is there instead and the nearest spelling; nothing was queued."""
    async with pipeline_on(comfyui, proxy.url) as pipeline:
        error = await ask(pipeline, workflow)
    assert error.code == expected_code
    text = error.message + json.dumps(error.problems)
    assert [part for part in said if part not in text] == []
    assert proxy.count("POST", "/prompt") == 0


async def test_everything_that_is_wrong_at_once(comfyui: RealComfyUI, proxy: FaultProxy) -> None:
    """A workflow with several faults is answered with all of them."""

    def change(graph: Graph) -> None:
        misspell_class(graph)
        put("1", "ckpt_name", "nothing.safetensors")(graph)
        put("4", "width", -8)(graph)
        put("6", "vae", ["99", 0])(graph)

    async with pipeline_on(comfyui, proxy.url) as pipeline:
        error = await ask(pipeline, broken(change))
    found = {(problem.get("node_id"), problem.get("code")) for problem in error.problems}
    assert found >= {
        ("5", "missing_node"),
        ("1", "missing_model"),
        ("4", "value_out_of_range"),
        ("6", "link_to_no_node"),
    }
    assert proxy.count("POST", "/prompt") == 0


async def test_a_model_that_came_later_is_found(comfyui: RealComfyUI) -> None:
    """A model that was put there after ComfyUI was first asked is not refused."""
    name = f"{workflows.unique_prefix()}.safetensors"
    folder = comfyui.base_dir / "models/checkpoints"
    graph = workflows.text_to_image(steps=1)
    graph["1"]["inputs"]["ckpt_name"] = name
    async with pipeline_on(comfyui) as pipeline:
        assert (await ask(pipeline, graph)).code == "missing_model"
        (folder / name).symlink_to((folder / "tiny-sd3.safetensors").resolve())
        try:
            assert code(await pipeline.run(request(graph))) == "succeeded"
        finally:
            (folder / name).unlink()


async def test_a_picture_that_nobody_sent(comfyui: RealComfyUI) -> None:
    """A workflow that names an input file which is not there fails as missing_asset and names it."""
    async with pipeline_on(comfyui) as pipeline:
        error = await ask(pipeline, workflows.invert("not-there.png"))
    assert error.code == "missing_asset"
    assert "not-there.png" in error.message
    assert str(comfyui.base_dir) not in error.model_dump_json()


@pytest.mark.parametrize(
    ("image", "said"),
    [
        pytest.param(
            {"name": "a.png", "image": "bm8gcGljdHVyZSBhdCBhbGw="}, ["images[0]", "no picture at all"], id="no picture"
        ),
        pytest.param({"name": "a.png", "image": "%%% not base64"}, ["images[0]", "base64"], id="not base64"),
        pytest.param({"name": "../../x", "image": "aGVsbG8="}, ["images[0]", "../../x"], id="leads out"),
        pytest.param({"name": "/etc/x.png", "image": "aGVsbG8="}, ["images[0]", "/etc/x.png"], id="absolute"),
        pytest.param(
            {"name": "a.png"}, ["'images' must be a list of objects with 'name' and 'image' keys"], id="no image key"
        ),
        pytest.param(
            {"name": "a.png", "image": "A" * 400_000}, ["images[0]", "more than the 100000"], id="over the limit"
        ),
    ],
)
async def test_a_wrong_picture(comfyui: RealComfyUI, proxy: FaultProxy, image: dict[str, str], said: list[str]) -> None:
    """The error names the picture and what is wrong with it; nothing was queued, nothing is on the disk."""
    before = files_in(comfyui.input_dir)
    async with pipeline_on(comfyui, proxy.url, INPUT_MAX_BYTES="100000") as pipeline:
        error = await ask(pipeline, workflows.invert("a.png"), images=[image])
    assert error.code == "invalid_request"
    text = error.message + json.dumps(error.problems, ensure_ascii=False)
    assert [part for part in said if part not in text] == []
    assert proxy.count("POST", "/prompt") == 0
    assert files_in(comfyui.input_dir) == before


@pytest.mark.parametrize(
    ("kind", "expected"), [("gpu", "out_of_memory"), ("cpu", "out_of_memory"), ("python", "out_of_memory")]
)
async def test_out_of_memory(comfyui: RealComfyUI, kind: str, expected: str) -> None:
    """Out of memory is told apart from other failures of a node, however it is raised; the next job runs."""
    async with pipeline_on(comfyui) as pipeline:
        result = await pipeline.run(request(workflows.out_of_memory(kind)))
        after = await pipeline.run(request(workflows.colour((1, 2, 3))))
    assert (code(result), code(after)) == (expected, "succeeded")


async def test_words_in_a_message_do_not_make_it_out_of_memory(comfyui: RealComfyUI) -> None:
    """A failure is classified by its type: a prompt that talks of memory is an ordinary failure."""
    async with pipeline_on(comfyui) as pipeline:
        result = await pipeline.run(request(workflows.failing("ValueError", "CUDA out of memory, says the prompt")))
    assert code(result) == "node_execution_error"


async def test_a_node_that_raises(comfyui: RealComfyUI) -> None:
    """The error names node, class and reason; no path, traceback or secret of the job is in it."""
    message = f"cannot open {comfyui.base_dir}/models/x.pt with api_key={SECRET}"
    async with pipeline_on(comfyui) as pipeline:
        result = await pipeline.run(request(workflows.failing("OSError", message)))
    assert result.error is not None
    assert result.error.code == "node_execution_error"
    assert result.error.message == "node 2 (TestRaise) failed: OSError: cannot open …/x.pt with api_key=…"
    assert {key: result.error.details[key] for key in ("node_id", "class_type", "exception_type")} == {
        "node_id": "2",
        "class_type": "TestRaise",
        "exception_type": "OSError",
    }
    document = result.model_dump_json()
    assert [leak for leak in (SECRET, str(comfyui.base_dir), "Traceback", "faults.py") if leak in document] == []


async def test_an_output_that_is_announced_but_not_there(comfyui: RealComfyUI) -> None:
    """A file that a node reports and did not write fails the job by name; it never succeeds without."""
    report = {"images": [{"filename": "there.png", "content": "x"}, {"filename": "missing.png"}]}
    before = files_in(comfyui.output_dir)
    async with pipeline_on(comfyui) as pipeline:
        result = await pipeline.run(request(workflows.outputs(report)))
    assert result.error is not None
    assert result.error.code == "delivery_failed"
    assert "missing.png" in result.error.message
    assert files_in(comfyui.output_dir) == before


async def test_a_blocked_branch_is_a_warning(comfyui: RealComfyUI) -> None:
    """A node that stops its branch with a message is a warning; what other branches made is delivered."""
    graph = workflows.block("nothing to see")
    graph["30"] = workflows.save("1")
    async with pipeline_on(comfyui) as pipeline:
        result = await pipeline.run(request(graph))
    assert code(result) == "succeeded"
    assert [artifact.node_id for artifact in result.artifacts] == ["30"]
    assert len(result.warnings) == 1
    assert "nothing to see" in result.warnings[0]


async def test_two_pictures_of_one_name(comfyui: RealComfyUI) -> None:
    """Two different pictures under one name are refused: only one of them could be meant."""
    async with pipeline_on(comfyui) as pipeline:
        first, second = png((1, 2, 3)), png((3, 2, 1))
        job = request(workflows.invert("a.png"), files={"a.png": first, "b.png": second})
        files = (job.files[0], job.files[1].model_copy(update={"name": "a.png"}))
        result = await pipeline.run(job.model_copy(update={"files": files}))
    assert code(result) == "invalid_request"


async def test_a_refusal_that_nobody_understands(comfyui: RealComfyUI, proxy: FaultProxy) -> None:
    """What ComfyUI, or something before it, wrote in place of its own refusal is shown, without paths."""
    proxy.answer("POST", "/prompt", status=400, body="<h1>No GPU today</h1> see /srv/proxy/errors.log")
    async with pipeline_on(comfyui, proxy.url) as pipeline:
        result = await pipeline.run(request(workflows.colour((1, 2, 3))))
    assert result.error is not None
    assert (result.error.code, result.error.message) == (
        "invalid_workflow",
        "ComfyUI refused the workflow: <h1>No GPU today</h1> see …/errors.log",
    )
