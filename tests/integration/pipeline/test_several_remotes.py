"""Several ComfyUIs that run already, of which one goes away."""

import asyncio

from support import workflows
from support.eventually import eventually
from support.pipelines import code, colour_of, pipeline_on, request
from support.proxy import FaultProxy
from support.real_comfyui import RealComfyUI


async def test_jobs_of_one_that_is_gone_go_to_the_other(comfyui: RealComfyUI, proxy: FaultProxy) -> None:
    """When one of two stops answering, jobs that it certainly has not got are run by the other."""
    colours = [(index, 1, 2) for index in range(4)]
    async with FaultProxy(comfyui.url) as other:
        async with pipeline_on(comfyui, f"{other.url},{proxy.url}") as pipeline:
            await eventually(lambda: [one.is_ready for one in pipeline.pool.instances] == [True, True])
            await pipeline.run(request(workflows.colour((0, 0, 0))))
            await other.stop()
            jobs = [pipeline.run(request(workflows.colour(colour))) for colour in colours]
            results = await asyncio.gather(*jobs)
        assert [code(result) for result in results] == ["succeeded"] * 4
        assert [colour_of(result.artifacts[0]) for result in results] == colours
