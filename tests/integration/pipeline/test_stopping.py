"""Jobs that are stopped, by a deadline or by somebody, on a real ComfyUI."""

import asyncio

import pytest

from support import workflows
from support.eventually import eventually
from support.pipelines import Watch, code, files_in, pipeline_on, png, queue_of, request
from support.proxy import FaultProxy
from support.real_comfyui import RealComfyUI


async def test_over_its_deadline_while_running(comfyui: RealComfyUI) -> None:
    """A running job over its deadline is interrupted in ComfyUI, and says in which stage it was."""
    async with pipeline_on(comfyui) as pipeline:
        result = await pipeline.run(request(workflows.wait(steps=1000, seconds_per_step=1), timeout_s=0.5))
    assert result.error is not None
    assert (result.error.code, result.error.details["stage"]) == ("job_timeout", "execute")
    assert await queue_of(comfyui.url) == ([], [])


async def test_canceled_while_running(comfyui: RealComfyUI) -> None:
    """A running job that is canceled is interrupted; afterwards ComfyUI's queue is empty and nothing is on the disk."""
    before = files_in(comfyui.input_dir) + files_in(comfyui.output_dir)
    graph = workflows.wait(steps=1000, seconds_per_step=1)
    graph["1"] = workflows.node("LoadImage", image="in.png")
    watch = Watch()
    async with pipeline_on(comfyui) as pipeline:
        job = asyncio.ensure_future(pipeline.run(request(graph, files={"in.png": png((5, 5, 5))}), on_progress=watch))
        await watch.until_class("TestWait")
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert await queue_of(comfyui.url) == ([], [])
        assert files_in(comfyui.input_dir) + files_in(comfyui.output_dir) == before
        assert code(await pipeline.run(request(workflows.colour((1, 2, 3))))) == "succeeded"


async def test_canceled_while_waiting_in_comfyui(comfyui: RealComfyUI) -> None:
    """A job that waits in ComfyUI's queue is deleted there; the one before it is not touched."""
    gate = comfyui.base_dir / f"gate-{workflows.unique_prefix()}"
    watch = Watch()
    async with pipeline_on(comfyui) as pipeline:
        first = asyncio.ensure_future(pipeline.run(request(workflows.wait(until_file=gate)), on_progress=watch))
        await watch.until_class("TestWait")
        second = asyncio.ensure_future(pipeline.run(request(workflows.colour((1, 2, 4)))))

        async def is_pending() -> bool:
            return len((await queue_of(comfyui.url))[1]) == 1

        await eventually(is_pending)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        running, pending = await queue_of(comfyui.url)
        assert (len(running), pending) == (1, [])
        gate.touch()
        assert code(await first) == "succeeded"


async def test_canceled_while_waiting_for_its_turn(comfyui: RealComfyUI, proxy: FaultProxy) -> None:
    """A job beyond COMFYUI_QUEUE_DEPTH waits with us; canceling it asks nothing of ComfyUI."""
    gate = comfyui.base_dir / f"gate-{workflows.unique_prefix()}"
    watch, third_watch = Watch(), Watch()
    async with pipeline_on(comfyui, proxy.url, COMFYUI_QUEUE_DEPTH="1") as pipeline:
        first = asyncio.ensure_future(pipeline.run(request(workflows.wait(until_file=gate)), on_progress=watch))
        await watch.until_class("TestWait")
        third = asyncio.ensure_future(pipeline.run(request(workflows.colour((1, 2, 5))), on_progress=third_watch))
        await third_watch.until_message("waiting for its turn")
        third.cancel()
        with pytest.raises(asyncio.CancelledError):
            await third
        assert proxy.count("POST", "/prompt") == 1
        assert proxy.count("POST", "/queue") == 0
        gate.touch()
        assert code(await first) == "succeeded"


async def test_canceled_while_being_submitted(comfyui: RealComfyUI, proxy: FaultProxy) -> None:
    """A job canceled before ComfyUI's answer came is looked for and taken back, also when it arrives late."""
    held = proxy.hold("POST", "/prompt")
    async with pipeline_on(comfyui, proxy.url) as pipeline:
        job = asyncio.ensure_future(pipeline.run(request(workflows.wait(steps=1000, seconds_per_step=1))))
        await held.met.wait()
        job.cancel()
        held.release()
        with pytest.raises(asyncio.CancelledError):
            await job
    assert await queue_of(comfyui.url) == ([], [])


async def test_over_its_deadline_while_waiting(comfyui: RealComfyUI) -> None:
    """A job whose deadline passes in ComfyUI's queue is taken out of it."""
    gate = comfyui.base_dir / f"gate-{workflows.unique_prefix()}"
    watch = Watch()
    async with pipeline_on(comfyui) as pipeline:
        first = asyncio.ensure_future(pipeline.run(request(workflows.wait(until_file=gate)), on_progress=watch))
        await watch.until_class("TestWait")
        second = await pipeline.run(request(workflows.colour((1, 2, 6)), timeout_s=0.3))
        assert code(second) == "job_timeout"
        assert (await queue_of(comfyui.url))[1] == []
        gate.touch()
        assert code(await first) == "succeeded"


async def test_canceled_twice(comfyui: RealComfyUI) -> None:
    """A second cancellation while the first one cleans up changes nothing: ComfyUI is let go of all the same."""
    watch = Watch()
    async with pipeline_on(comfyui) as pipeline:
        job = asyncio.ensure_future(
            pipeline.run(request(workflows.wait(steps=1000, seconds_per_step=1)), on_progress=watch)
        )
        await watch.until_class("TestWait")
        job.cancel()
        asyncio.get_running_loop().call_soon(job.cancel)
        with pytest.raises(asyncio.CancelledError):
            await job
        assert await queue_of(comfyui.url) == ([], [])


async def test_interrupted_by_somebody_else(comfyui: RealComfyUI) -> None:
    """A job that somebody stops in ComfyUI's own interface ends as canceled, and says so."""
    watch = Watch()
    async with pipeline_on(comfyui) as pipeline, asyncio.TaskGroup() as group:
        job = group.create_task(
            pipeline.run(request(workflows.wait(steps=1000, seconds_per_step=1)), on_progress=watch)
        )
        await watch.until_class("TestWait")
        running, _ = await queue_of(comfyui.url)
        await pipeline.pool.instances[0].client.interrupt(running[0])
        result = await job
    assert (code(result), str(result.status)) == ("job_canceled", "canceled")
