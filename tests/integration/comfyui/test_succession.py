"""Prompts that are left in a ComfyUI that outlives its workers, taken back as soon as that is possible."""

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import structlog

from comfyworker.comfyui.client_record import write_record
from comfyworker.jobs import Graph
from support import workflows
from support.eventually import eventually
from support.pipelines import code, colour_of, pipeline_on, queue_of, request
from support.proxy import ALWAYS, FaultProxy
from support.real_comfyui import RealComfyUI

IMPATIENT = {"WEBSOCKET_RECONNECT_ATTEMPTS": "2", "CANCEL_DEADLINE_S": "1"}


@contextlib.asynccontextmanager
async def left_running(comfyui: RealComfyUI, state_dir: Path, url: str, gate: Path) -> AsyncIterator[str]:
    """Leave what a killed worker does: a running prompt, and a record of its client id; return the prompt's id."""
    client_id = uuid.uuid4().hex
    write_record(state_dir / "comfyui-clients", url, client_id).release()
    try:
        prompt_id = await submit(comfyui, workflows.wait(steps=1, until_file=gate), client_id)
        await eventually(lambda: runs(comfyui, prompt_id))
        yield prompt_id
    finally:
        open_gate(gate)


async def submit(comfyui: RealComfyUI, graph: Graph, client_id: str) -> str:
    """Submit a prompt; return its id."""
    body: dict[str, Any] = {"prompt": graph, "client_id": client_id}
    async with aiohttp.ClientSession() as session, session.post(f"{comfyui.url}/prompt", json=body) as answer:
        return str((await answer.json())["prompt_id"])


async def runs(comfyui: RealComfyUI, prompt_id: str) -> bool:
    """Tell whether a ComfyUI runs a prompt."""
    running, _ = await queue_of(comfyui.url)
    return running == [prompt_id]


def records(state_dir: Path) -> list[str]:
    """Return which client ids are on record, in no order."""
    return [path.name for path in (state_dir / "comfyui-clients").iterdir()]


def open_gate(gate: Path) -> None:
    """Let the long prompts end."""
    gate.touch()


async def test_one_that_comes_late_is_cleared_before_its_first_job(
    comfyui: RealComfyUI, proxy: FaultProxy, tmp_path: Path
) -> None:
    """A ComfyUI that does not answer at the start is cleared when it does, before it takes a job."""
    async with left_running(comfyui, tmp_path, proxy.url, tmp_path / "gate") as prompt_id:
        fault = proxy.drop_request("*", "*", times=ALWAYS)
        async with pipeline_on(comfyui, proxy.url, STATE_DIR=str(tmp_path)) as pipeline:
            await fault.met.wait()
            assert await runs(comfyui, prompt_id)
            fault.stop()
            result = await pipeline.run(request(workflows.colour((1, 1, 1))))
    assert code(result) == "succeeded", result.error
    paths = [item.path for item in proxy.requests]
    assert paths.index("/interrupt") < paths.index("/prompt")


async def test_one_that_is_not_there_holds_up_no_other(comfyui: RealComfyUI, proxy: FaultProxy, tmp_path: Path) -> None:
    """Where a dead worker's ComfyUI does not answer, the others take jobs, and it is cleared by a later start."""
    async with left_running(comfyui, tmp_path, proxy.url, tmp_path / "gate") as prompt_id:
        fault = proxy.drop_request("*", "*", times=ALWAYS)
        both = f"{proxy.url},{comfyui.url}"
        async with pipeline_on(comfyui, both, STATE_DIR=str(tmp_path)) as pipeline:
            await eventually(lambda: pipeline.pool.instances[1].is_ready)
        assert await runs(comfyui, prompt_id)
        fault.stop()
        async with pipeline_on(comfyui, both, STATE_DIR=str(tmp_path)) as pipeline:
            await eventually(lambda: pipeline.pool.instances[0].is_ready)
            assert await is_idle(comfyui)
    assert records(tmp_path) == []


async def is_idle(comfyui: RealComfyUI) -> bool:
    """Tell whether a ComfyUI has nothing to do."""
    return await queue_of(comfyui.url) == ([], [])


async def test_a_prompt_of_a_lost_connection_is_taken_back_after_it(
    comfyui: RealComfyUI, proxy: FaultProxy, tmp_path: Path
) -> None:
    """A job that fails since ComfyUI is out of reach leaves a prompt, which is taken back when it is there again."""
    gate = tmp_path / "gate"
    async with pipeline_on(comfyui, proxy.url, STATE_DIR=str(tmp_path), environ=IMPATIENT) as pipeline:
        job = asyncio.ensure_future(pipeline.run(request(workflows.wait(steps=1, until_file=gate))))
        running = await eventually(lambda: running_on(comfyui))
        fault = proxy.drop_request("*", "*", times=ALWAYS)
        proxy.cut_sockets_now()
        result = await job
        assert code(result) == "comfyui_unreachable"
        assert await running_on(comfyui) == running
        fault.stop()
        await eventually(lambda: is_idle(comfyui))
        result = await pipeline.run(request(workflows.colour((3, 3, 3))))
    open_gate(gate)
    assert colour_of(result.artifacts[0]) == (3, 3, 3)
    assert records(tmp_path) == []


async def running_on(comfyui: RealComfyUI) -> list[str]:
    """Return what a ComfyUI runs."""
    running, _ = await queue_of(comfyui.url)
    return running


async def test_a_prompt_that_could_not_be_taken_back_is_the_next_workers(
    comfyui: RealComfyUI, proxy: FaultProxy, tmp_path: Path
) -> None:
    """A worker that ends while its ComfyUI is out of reach leaves a record, with which the next one clears up."""
    gate = tmp_path / "gate"
    async with pipeline_on(comfyui, proxy.url, STATE_DIR=str(tmp_path), environ=IMPATIENT) as pipeline:
        job = asyncio.ensure_future(pipeline.run(request(workflows.wait(steps=1, until_file=gate))))
        await eventually(lambda: running_on(comfyui))
        fault = proxy.drop_request("*", "*", times=ALWAYS)
        proxy.cut_sockets_now()
        await job
    fault.stop()
    assert len(records(tmp_path)) == 1
    async with pipeline_on(comfyui, proxy.url, STATE_DIR=str(tmp_path)) as pipeline:
        await eventually(lambda: pipeline.pool.instances[0].is_ready)
        assert await is_idle(comfyui)
    open_gate(gate)
    assert records(tmp_path) == []


async def test_without_a_state_folder_jobs_run_all_the_same(comfyui: RealComfyUI) -> None:
    """Where nothing can be written down, that is said, and the worker goes on."""
    with structlog.testing.capture_logs() as events:
        async with pipeline_on(comfyui, STATE_DIR=os.devnull) as pipeline:
            result = await pipeline.run(request(workflows.colour((2, 2, 2))))
    assert code(result) == "succeeded", result.error
    warnings = [event for event in events if event["event"] == "comfyui.not_recorded"]
    assert [(event["log_level"], event["error"]) for event in warnings] == [("warning", "Not a directory")]
