"""Connections that break between the worker and a real ComfyUI."""

import asyncio

import pytest

from comfyworker.jobs import JobResult
from support import workflows
from support.eventually import eventually
from support.pipelines import code, colour_of, pipeline_on, queue_of, request
from support.ports import free_port
from support.proxy import FaultProxy, frame
from support.real_comfyui import RealComfyUI


def assert_colour(result: JobResult, rgb: tuple[int, int, int]) -> None:
    """The job succeeded and its picture has this colour."""
    assert code(result) == "succeeded", result.error
    assert colour_of(result.artifacts[0]) == rgb


async def test_websocket_cut_in_the_middle(comfyui: RealComfyUI, proxy: FaultProxy) -> None:
    """The job goes on when its WebSocket is cut while a node runs."""
    cut = proxy.cut_socket(frame("progress"))
    async with pipeline_on(comfyui, proxy.url) as pipeline:
        result = await pipeline.run(request(workflows.wait(steps=4, seconds_per_step=0.05, rgb=(1, 2, 3))))
    assert cut.hits == 1
    assert_colour(result, (1, 2, 3))


@pytest.mark.parametrize("last", ["executed", "execution_success", "executing"])
async def test_websocket_cut_just_before_the_end(comfyui: RealComfyUI, proxy: FaultProxy, last: str) -> None:
    """The outputs are repaired from the history when one of the last events is lost with its connection."""
    is_end = frame("executing", node=None) if last == "executing" else frame(last)
    cut = proxy.cut_socket(is_end)
    async with pipeline_on(comfyui, proxy.url) as pipeline:
        result = await pipeline.run(request(workflows.colour((4, 5, 6))))
    assert cut.hits == 1
    assert_colour(result, (4, 5, 6))


@pytest.mark.parametrize("lost", ["executed", "execution_success"])
async def test_an_event_lost_while_the_websocket_came_back(comfyui: RealComfyUI, proxy: FaultProxy, lost: str) -> None:
    """The last event of all arrives, so nothing is silent; what came before it is taken from the history."""
    cut = proxy.cut_socket(frame("progress"))
    proxy.swallow(frame(lost))
    async with pipeline_on(comfyui, proxy.url) as pipeline:
        result = await pipeline.run(request(workflows.wait(steps=20, seconds_per_step=0.05, rgb=(6, 5, 4))))
    assert cut.hits == 1
    assert_colour(result, (6, 5, 4))


async def test_websocket_cut_and_refused_for_a_while(comfyui: RealComfyUI, proxy: FaultProxy) -> None:
    """While no WebSocket can be had, the worker asks over HTTP, and the job succeeds."""
    async with pipeline_on(comfyui, proxy.url, WEBSOCKET_RECONNECT_ATTEMPTS="100") as pipeline:
        await pipeline.run(request(workflows.colour((0, 0, 1))))
        proxy.refuse_sockets = True
        proxy.cut_sockets_now()
        result = await pipeline.run(request(workflows.colour((7, 8, 9))))
    assert_colour(result, (7, 8, 9))


async def test_no_websocket_at_all(comfyui: RealComfyUI, proxy: FaultProxy) -> None:
    """Behind a proxy that takes no WebSockets, jobs run by polling."""
    proxy.refuse_sockets = True
    async with pipeline_on(comfyui, proxy.url, WEBSOCKET_RECONNECT_ATTEMPTS="2") as pipeline:
        result = await pipeline.run(request(workflows.colour((3, 2, 1))))
    assert_colour(result, (3, 2, 1))


async def test_frames_lost_on_an_open_websocket(comfyui: RealComfyUI, proxy: FaultProxy) -> None:
    """A WebSocket that stays open but brings nothing for the job does not hang it."""
    proxy.swallow(lambda message: (message.get("data") or {}).get("prompt_id") is not None)
    async with pipeline_on(comfyui, proxy.url) as pipeline:
        result = await pipeline.run(request(workflows.colour((9, 9, 1))))
    assert_colour(result, (9, 9, 1))


async def test_answer_to_the_submission_is_lost(comfyui: RealComfyUI, proxy: FaultProxy) -> None:
    """A submission whose answer was lost is found by its id, not sent again."""
    lost = proxy.drop_answer("POST", "/prompt")
    async with pipeline_on(comfyui, proxy.url) as pipeline:
        result = await pipeline.run(request(workflows.colour((6, 6, 2))))
    assert lost.hits == 1
    assert proxy.count("POST", "/prompt") == 1
    assert_colour(result, (6, 6, 2))


async def test_submission_that_never_arrived(
    comfyui: RealComfyUI, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A submission that is nowhere afterwards fails as unreachable, and is not sent twice."""
    monkeypatch.setattr("comfyworker.comfyui.execution._UNSURE_LOOKS", 2)
    proxy.drop_request("POST", "/prompt")
    async with pipeline_on(comfyui, proxy.url) as pipeline:
        result = await pipeline.run(request(workflows.colour((6, 6, 3))))
    assert code(result) == "comfyui_unreachable"
    assert proxy.count("POST", "/prompt") == 1


async def test_http_500_on_submission(comfyui: RealComfyUI, proxy: FaultProxy) -> None:
    """HTTP 500 is an error that names the route and the status, and the next job succeeds."""
    proxy.answer("POST", "/prompt", status=500, body="500 Internal Server Error")
    async with pipeline_on(comfyui, proxy.url) as pipeline:
        result = await pipeline.run(request(workflows.colour((1, 1, 2))))
        second = await pipeline.run(request(workflows.colour((1, 1, 3))))
    assert result.error is not None
    assert (result.error.code, result.error.retryable) == ("comfyui_unreachable", True)
    assert result.error.message == "ComfyUI answered POST /prompt with HTTP 500"
    assert_colour(second, (1, 1, 3))


async def test_http_500_on_everything_else(comfyui: RealComfyUI, proxy: FaultProxy) -> None:
    """Questions that fail once are asked again: a repair survives one HTTP 500."""
    proxy.cut_socket(frame("executing", node=None))
    failed = proxy.answer("GET", "/history/*", status=500)
    async with pipeline_on(comfyui, proxy.url) as pipeline:
        result = await pipeline.run(request(workflows.colour((2, 1, 2))))
    assert failed.hits == 1
    assert_colour(result, (2, 1, 2))


async def test_no_comfyui_there(comfyui: RealComfyUI) -> None:
    """Where nobody listens, the job fails with what to do, once the time for it is up."""
    url = f"http://127.0.0.1:{free_port()}"
    async with pipeline_on(comfyui, url, COMFY_API_AVAILABLE_TIMEOUT_S="0.2") as pipeline:
        result = await pipeline.run(request(workflows.colour((1, 1, 1))))
    assert result.error is not None
    assert (result.error.code, result.error.retryable) == ("comfyui_unreachable", True)
    assert "COMFY_API_URL" in (result.error.hint or "")


@pytest.mark.parametrize("is_deaf", [False, True], ids=["", "on a socket that was opened anew"])
async def test_a_job_deleted_from_comfyuis_queue_by_somebody(
    comfyui: RealComfyUI, proxy: FaultProxy, is_deaf: bool
) -> None:
    """A job that somebody else takes out of ComfyUI's queue ends as canceled; it is not waited for for ever.

    Nor is it run again when the socket was opened anew because it brought nothing: ComfyUI was not restarted.
    """
    if is_deaf:
        proxy.swallow(lambda message: (message.get("data") or {}).get("prompt_id") is not None)
    async with pipeline_on(comfyui, proxy.url) as pipeline, asyncio.TaskGroup() as group:
        gate = comfyui.base_dir / f"gate-{workflows.unique_prefix()}"
        first = group.create_task(pipeline.run(request(workflows.wait(until_file=gate))))

        async def is_running() -> bool:
            return len((await queue_of(comfyui.url))[0]) == 1

        await eventually(is_running)
        second = group.create_task(pipeline.run(request(workflows.colour((5, 5, 5)))))

        async def pending() -> list[str]:
            return (await queue_of(comfyui.url))[1]

        await eventually(pending)
        instance = pipeline.pool.instances[0]
        await instance.client.delete_pending((await pending())[0])
        assert code(await second) == "job_canceled"
        gate.touch()
        assert code(await first) == "succeeded"
