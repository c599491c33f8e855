"""Input files by URL, on a real ComfyUI: from the request and from the workflow itself."""

from collections.abc import AsyncIterator

import pytest

from comfyworker.jobs import InputFile, JobStatus
from support import workflows
from support.file_server import FileServer
from support.pipelines import code, colour_of, files_in, pipeline_on, png, request
from support.real_comfyui import RealComfyUI

SECRET = "?X-Amz-Signature=5ecre7"


@pytest.fixture
async def server() -> AsyncIterator[FileServer]:
    """Return a running server with two pictures and a page."""
    async with FileServer() as server:
        server.files |= {
            "/blue.png": (png((0, 0, 255)), "image/png"),
            "/page": (b"<!DOCTYPE html><title>Log in</title>", "text/html"),
        }
        yield server


async def test_a_url_in_a_loader_is_loaded(comfyui: RealComfyUI, server: FileServer) -> None:
    """LoadImage gets the picture that lies at the URL; the file is gone afterwards."""
    graph = workflows.invert(server.url(f"/blue.png{SECRET}"))
    before = files_in(comfyui.input_dir)
    async with pipeline_on(comfyui, ALLOW_PRIVATE_URLS="true") as pipeline:
        result = await pipeline.run(request(graph))
    assert (code(result), [colour_of(artifact) for artifact in result.artifacts]) == ("succeeded", [(255, 255, 0)])
    assert (result.warnings, server.asked) == ((), {"/blue.png": 1})
    assert files_in(comfyui.input_dir) == before


async def test_a_file_of_the_request_may_be_a_url(comfyui: RealComfyUI, server: FileServer) -> None:
    """The workflow calls it by its name."""
    files = (InputFile(name="input.png", data=server.url("/blue.png")),)
    async with pipeline_on(comfyui, ALLOW_PRIVATE_URLS="true") as pipeline:
        result = await pipeline.run(request(workflows.invert()).model_copy(update={"files": files}))
    assert (result.status, [colour_of(artifact) for artifact in result.artifacts]) == (
        JobStatus.SUCCEEDED,
        [(255, 255, 0)],
    )


@pytest.mark.parametrize(
    ("path", "opened", "said"),
    [
        ("/blue.png", "false", "leads to a loopback address, which is not fetched from"),
        ("/page", "true", "is an HTML page"),
        ("/nothing", "true", "answered with status 404"),
    ],
)
async def test_a_url_that_brings_no_picture_is_refused(
    comfyui: RealComfyUI, server: FileServer, path: str, opened: str, said: str
) -> None:
    """The error names the input and what is there, without the query; ComfyUI is not asked to run anything."""
    graph = workflows.invert(server.url(f"{path}{SECRET}"))
    async with pipeline_on(comfyui, ALLOW_PRIVATE_URLS=opened) as pipeline:
        result = await pipeline.run(request(graph))
    assert result.error is not None
    (problem,) = result.error.problems
    assert (result.error.code, said in result.error.message) == ("invalid_request", True)
    assert str(problem["path"]).endswith(".inputs.image")
    assert "5ecre7" not in result.model_dump_json()


async def test_a_url_in_a_prompt_stays_text(comfyui: RealComfyUI, server: FileServer) -> None:
    """Nobody is asked for it."""
    graph = {
        "text": workflows.node("PrimitiveStringMultiline", value=server.url("/blue.png")),
        "shown": workflows.node("PreviewAny", source=["text", 0]),
    }
    async with pipeline_on(comfyui, ALLOW_PRIVATE_URLS="true") as pipeline:
        result = await pipeline.run(request(graph))
    assert (code(result), server.asked) == ("succeeded", {})
    assert server.url("/blue.png") in [artifact.text for artifact in result.artifacts]
