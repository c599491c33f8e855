"""Several ComfyUIs that run already, of which one goes away."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from comfyworker.comfyui.client import NotConnected
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


async def test_a_submission_that_was_refused_is_made_again(
    comfyui: RealComfyUI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job whose submission certainly did not arrive, as in the moment of a restart, is submitted again."""
    async with pipeline_on(comfyui) as pipeline:
        await eventually(lambda: pipeline.pool.instances[0].is_ready)
        client = pipeline.pool.instances[0].client
        submit, refusals = client.submit, [NotConnected("ComfyUI does not accept connections")]

        async def refuse_once(*args: Any, **kwargs: Any) -> Mapping[str, Any]:
            if refusals:
                raise refusals.pop()
            return await submit(*args, **kwargs)

        monkeypatch.setattr(client, "submit", refuse_once)
        result = await pipeline.run(request(workflows.colour((7, 7, 7))))
    assert (code(result), refusals) == ("succeeded", [])
