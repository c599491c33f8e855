"""Jobs that overlap on a real ComfyUI: one is delivered, or prepared, while another executes."""

import asyncio
from collections.abc import Sequence

import pytest

from comfyworker.delivery.inline import InlineDelivery
from comfyworker.jobs import Artifact
from support import workflows
from support.pipelines import Watch, code, colour_of, files_in, pipeline_on, request
from support.proxy import FaultProxy
from support.real_comfyui import RealComfyUI


class HeldDelivery:
    """Delivers inline, but not before it is let go."""

    keeps_outputs = False

    def __init__(self) -> None:
        """Hold."""
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    async def deliver(self, artifacts: Sequence[Artifact]) -> tuple[Artifact, ...]:
        """Wait, then deliver."""
        self.begun.set()
        await self.go.wait()
        return await InlineDelivery().deliver(artifacts)


async def test_a_job_executes_while_another_is_delivered(comfyui: RealComfyUI) -> None:
    """A slow delivery holds neither ComfyUI nor the next jobs; its file waits for it under its own name."""
    held = HeldDelivery()
    graphs = [workflows.colour((colour, 0, 0)) for colour in (10, 20, 30)]
    for graph in graphs:
        graph[workflows.SAVE]["inputs"]["filename_prefix"] = "overlap"
    async with pipeline_on(comfyui, COMFYUI_QUEUE_DEPTH="1") as pipeline, asyncio.TaskGroup() as group:
        slow = group.create_task(pipeline.run(request(graphs[0]), delivery=held))
        await held.begun.wait()
        others = [await pipeline.run(request(graph)) for graph in graphs[1:]]
        held.go.set()
        results = [await slow, *others]
    assert [colour_of(result.artifacts[0]) for result in results] == [(10, 0, 0), (20, 0, 0), (30, 0, 0)]


async def test_a_job_is_in_comfyuis_queue_while_another_executes(comfyui: RealComfyUI, proxy: FaultProxy) -> None:
    """The next job is checked and submitted while one runs, so that ComfyUI goes from one to the other by itself."""
    gate = comfyui.base_dir / f"gate-{workflows.unique_prefix()}"
    watch, second_watch = Watch(), Watch()
    async with pipeline_on(comfyui, proxy.url) as pipeline, asyncio.TaskGroup() as group:
        first = group.create_task(pipeline.run(request(workflows.wait(until_file=gate)), on_progress=watch))
        await watch.until_class("TestWait")
        second = group.create_task(pipeline.run(request(workflows.colour((1, 2, 3))), on_progress=second_watch))
        await second_watch.until_message("executing")
        gate.touch()
    assert [code(first.result()), code(second.result())] == ["succeeded", "succeeded"]
    assert proxy.count("POST", "/prompt") == 2


async def test_canceled_while_being_delivered(comfyui: RealComfyUI) -> None:
    """A job canceled in its delivery leaves no output behind."""
    held, before = HeldDelivery(), files_in(comfyui.output_dir)
    async with pipeline_on(comfyui) as pipeline:
        job = asyncio.ensure_future(pipeline.run(request(workflows.colour((1, 2, 3))), delivery=held))
        await held.begun.wait()
        assert len(files_in(comfyui.output_dir)) == len(before) + 1
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert files_in(comfyui.output_dir) == before


async def test_over_its_deadline_while_being_delivered(comfyui: RealComfyUI) -> None:
    """The deadline holds for the delivery too."""
    before = files_in(comfyui.output_dir)
    async with pipeline_on(comfyui) as pipeline:
        result = await pipeline.run(request(workflows.colour((1, 2, 3)), timeout_s=1.0), delivery=HeldDelivery())
    assert result.error is not None
    assert (result.error.code, result.error.details["stage"]) == ("job_timeout", "deliver")
    assert files_in(comfyui.output_dir) == before


async def test_canceled_while_being_collected(comfyui: RealComfyUI, proxy: FaultProxy) -> None:
    """A job canceled while its outputs are fetched over HTTP leaves nothing where they were fetched to."""
    spool = comfyui.base_dir / f"spool-{workflows.unique_prefix()}"
    held = proxy.hold("GET", "/view")
    async with pipeline_on(comfyui, proxy.url, shares_disk=False, SPOOL_DIR=str(spool)) as pipeline:
        job = asyncio.ensure_future(pipeline.run(request(workflows.colour((1, 2, 3)))))
        await held.met.wait()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        held.release()
    assert list(spool.glob("*")) == []


async def test_canceled_while_being_prepared(comfyui: RealComfyUI, proxy: FaultProxy) -> None:
    """A job canceled before it was submitted never reaches ComfyUI."""
    held = proxy.hold("GET", "/object_info")
    async with pipeline_on(comfyui, proxy.url) as pipeline:
        job = asyncio.ensure_future(pipeline.run(request(workflows.colour((1, 2, 3)))))
        await held.met.wait()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        held.release()
    assert proxy.count("POST", "/prompt") == 0
