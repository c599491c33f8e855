"""Check: what can be told of a job before its turn comes."""

import pytest

from comfyworker.errors import InvalidWorkflow, MissingNode
from comfyworker.jobs import JobRequest
from support import workflows
from support.pipelines import pipeline_on
from support.ports import free_port
from support.real_comfyui import RealComfyUI


async def test_what_comfyui_would_refuse_is_refused_before(comfyui: RealComfyUI) -> None:
    """As the job itself would be refused; a job that fits is not, and nothing is run for either."""
    bad = {"1": workflows.node("NoSuchClass"), workflows.SAVE: workflows.save("1")}
    async with pipeline_on(comfyui) as pipeline:
        await pipeline.pool.any_ready()
        await pipeline.check(JobRequest(id="good", workflow=workflows.noise()))
        with pytest.raises(MissingNode):
            await pipeline.check(JobRequest(id="bad", workflow=bad))
        with pytest.raises(InvalidWorkflow, match="no output"):
            await pipeline.check(JobRequest(id="none", workflow={"1": workflows.noise()["1"]}))


async def test_nothing_is_told_while_there_is_no_comfyui(comfyui: RealComfyUI) -> None:
    """The job may come all the same, and waits for it."""
    async with pipeline_on(comfyui, f"http://127.0.0.1:{free_port()}") as pipeline:
        await pipeline.check(JobRequest(id="job", workflow={"1": workflows.node("NoSuchClass")}))
