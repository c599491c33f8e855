"""One prompt on the real ComfyUI when its connection fails at bad moments."""

import asyncio
import json
import uuid
from typing import Any

import pytest

from comfyworker.comfyui.tracker import PromptTracker
from comfyworker.errors import ComfyUIUnreachable
from support import workflows
from support.eventually import eventually
from support.pipelines import Watch, code, pipeline_on, queue_of, request
from support.proxy import ALWAYS, FaultProxy
from support.real_comfyui import RealComfyUI


async def test_withdrawn_in_spite_of_failures(comfyui: RealComfyUI, proxy: FaultProxy) -> None:
    """A canceled job is taken out of ComfyUI although the first requests for that fail."""
    watch = Watch()
    async with pipeline_on(comfyui, proxy.url) as pipeline:
        job = asyncio.ensure_future(
            pipeline.run(request(workflows.wait(steps=1000, seconds_per_step=1)), on_progress=watch)
        )
        await watch.until_class("TestWait")
        failures = [proxy.answer("POST", "/queue", status=500), proxy.drop_request("POST", "/interrupt")]
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert [failure.hits for failure in failures] == [1, 1]
        assert await queue_of(comfyui.url) == ([], [])


async def test_gone_while_it_is_withdrawn(comfyui: RealComfyUI, proxy: FaultProxy) -> None:
    """A canceled job whose ComfyUI is gone ends soon; it does not wait for the whole time that it might have."""
    watch = Watch()
    async with pipeline_on(comfyui, proxy.url, CANCEL_DEADLINE_S="1000") as pipeline:
        job = asyncio.ensure_future(
            pipeline.run(request(workflows.wait(steps=1000, seconds_per_step=1)), on_progress=watch)
        )
        await watch.until_class("TestWait")
        await proxy.stop()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
    await take_back_all(comfyui)


async def test_lost_after_it_was_seen_running(comfyui: RealComfyUI, proxy: FaultProxy) -> None:
    """Where no WebSocket tells of its beginning, a job that was seen running is not run a second time."""
    proxy.refuse_sockets = True
    async with pipeline_on(comfyui, proxy.url, WEBSOCKET_RECONNECT_ATTEMPTS="2") as pipeline:
        job = asyncio.ensure_future(pipeline.run(request(workflows.wait(steps=1000, seconds_per_step=1))))

        async def is_running() -> bool:
            return len((await queue_of(comfyui.url))[0]) == 1

        await eventually(is_running)
        seen = proxy.count("GET", "/queue")
        await eventually(lambda: proxy.count("GET", "/queue") > seen + 1)
        # As after a restart: it knows nothing of the job any more.
        proxy.answer("GET", "/history/*", status=200, body="{}", times=ALWAYS)
        empty = json.dumps({"queue_running": [], "queue_pending": []})
        proxy.answer("GET", "/queue", status=200, body=empty, times=ALWAYS)
        result = await job
    assert (code(result), proxy.count("POST", "/prompt")) == ("comfyui_crashed", 1)
    await take_back_all(comfyui)


async def test_unreachable_after_it_was_submitted(comfyui: RealComfyUI, proxy: FaultProxy) -> None:
    """A ComfyUI that refuses connections after it took the job is no reason to say that nothing has arrived."""
    graph: dict[str, dict[str, Any]] = workflows.wait(steps=1000, seconds_per_step=1)
    watch = Watch()
    async with pipeline_on(comfyui, proxy.url, WEBSOCKET_RECONNECT_ATTEMPTS="2") as pipeline:
        await eventually(lambda: pipeline.pool.instances[0].is_ready)
        running = asyncio.ensure_future(
            pipeline.pool.instances[0].execute(
                graph,
                prompt_id=str(uuid.uuid4()),
                tracker=PromptTracker(graph, {}),
                extra_data={},
                withdraw_within_s=0.1,
                on_progress=watch,
            )
        )
        await watch.until_class("TestWait")
        await proxy.stop()
        with pytest.raises(ComfyUIUnreachable) as caught:
            await running
    assert type(caught.value) is ComfyUIUnreachable
    await take_back_all(comfyui)


async def take_back_all(comfyui: RealComfyUI) -> None:
    """Stop what a test has left behind in ComfyUI on purpose."""
    async with pipeline_on(comfyui) as pipeline:
        instance = await pipeline.pool.any_ready()
        running, _ = await queue_of(comfyui.url)
        for prompt_id in running:
            await instance.client.interrupt(prompt_id)

        async def is_idle() -> bool:
            return await queue_of(comfyui.url) == ([], [])

        await eventually(is_idle)
