"""Files that stay with ComfyUI, which serves them by URL."""

import aiohttp
import pytest

from comfyworker.delivery.comfyui_url import ComfyUIUrlDelivery
from comfyworker.jobs import JobStatus
from support import workflows
from support.pipelines import code, files_in, pipeline_on, request
from support.real_comfyui import RealComfyUI


@pytest.mark.parametrize("shares_disk", [True, False])
async def test_a_file_can_be_fetched_from_its_url(comfyui: RealComfyUI, shares_disk: bool) -> None:
    """After the job it is where the URL points, on this disk or on another machine's; an odd name is no matter."""
    graph = workflows.noise()
    prefix = workflows.unique_prefix()
    graph[workflows.SAVE]["inputs"]["filename_prefix"] = f"{prefix}/a b & ä"
    async with pipeline_on(comfyui, shares_disk=shares_disk) as pipeline:
        result = await pipeline.run(request(graph), delivery=ComfyUIUrlDelivery())
    [artifact] = result.artifacts
    assert (result.status, artifact.data) == (JobStatus.SUCCEEDED, None)
    assert artifact.comfyui_url is not None
    [kept] = (comfyui.output_dir / prefix).iterdir()
    async with aiohttp.ClientSession() as session, session.get(artifact.comfyui_url) as answer:
        assert (answer.status, await answer.read()) == (200, kept.read_bytes())
    kept.unlink()
    kept.parent.rmdir()


async def test_a_job_that_fails_leaves_nothing(comfyui: RealComfyUI) -> None:
    """Nobody gets the URLs of its files."""
    graph = workflows.failing()
    prefix = workflows.unique_prefix()
    graph[workflows.SAVE]["inputs"]["filename_prefix"] = prefix
    async with pipeline_on(comfyui) as pipeline:
        result = await pipeline.run(request(graph), delivery=ComfyUIUrlDelivery())
    assert code(result) == "node_execution_error"
    assert [name for name in files_in(comfyui.output_dir) if prefix in str(name)] == []
