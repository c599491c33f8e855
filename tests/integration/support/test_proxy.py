"""The proxy makes the faults that it is told to make, and otherwise changes nothing."""

import asyncio
import uuid

import aiohttp
import pytest

from support import workflows
from support.eventually import eventually
from support.plain_client import executed, run_graph
from support.proxy import FaultProxy, frame
from support.real_comfyui import RealComfyUI


async def post_prompt(url: str, prompt_id: str) -> int:
    """Submit a small job under `prompt_id` and return the status of the answer."""
    async with aiohttp.ClientSession() as session:
        body = {"prompt": workflows.colour((1, 1, 1)), "prompt_id": prompt_id}
        async with session.post(f"{url}/prompt", json=body) as answer:
            return answer.status


async def is_finished(comfyui: RealComfyUI, prompt_id: str) -> bool:
    """Whether ComfyUI itself remembers that prompt as done."""
    async with aiohttp.ClientSession() as session, session.get(f"{comfyui.url}/history/{prompt_id}") as answer:
        return prompt_id in await answer.json()


async def test_without_faults_all_goes_through(proxy: FaultProxy, comfyui: RealComfyUI) -> None:
    """A whole job through the proxy ends as it does without, and its picture can be fetched."""
    frames = await run_graph(proxy.url, workflows.colour((4, 5, 6)))

    [saved] = executed(frames)[workflows.SAVE]["images"]
    async with aiohttp.ClientSession() as session, session.get(f"{proxy.url}/view", params=saved) as answer:
        assert await answer.read() == (comfyui.output_dir / saved["filename"]).read_bytes()
    assert [item.path for item in proxy.requests] == ["/ws", "/prompt", "/view"]


async def test_an_answer_is_replaced_once(proxy: FaultProxy) -> None:
    """One request gets the status and body that were set; the next goes through."""
    proxy.answer("GET", "/queue", status=500, body="broken")
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{proxy.url}/queue") as first:
            assert (first.status, await first.text()) == (500, "broken")
        async with session.get(f"{proxy.url}/queue") as second:
            assert second.status == 200


async def test_a_dropped_answer_was_forwarded(proxy: FaultProxy, comfyui: RealComfyUI) -> None:
    """ComfyUI has the job although the client sees a broken connection."""
    proxy.drop_answer("POST", "/prompt")
    prompt_id = str(uuid.uuid4())
    with pytest.raises(aiohttp.ClientError):
        await post_prompt(proxy.url, prompt_id)
    await eventually(lambda: is_finished(comfyui, prompt_id))


async def test_a_dropped_request_never_arrived(proxy: FaultProxy, comfyui: RealComfyUI) -> None:
    """ComfyUI knows nothing of a request that was dropped."""
    proxy.drop_request("POST", "/prompt")
    prompt_id = str(uuid.uuid4())
    with pytest.raises(aiohttp.ClientError):
        await post_prompt(proxy.url, prompt_id)
    async with aiohttp.ClientSession() as session, session.get(f"{comfyui.url}/queue") as answer:
        assert prompt_id not in await answer.text()
    assert not await is_finished(comfyui, prompt_id)


async def test_an_answer_is_cut_in_its_body(proxy: FaultProxy) -> None:
    """The client gets the head and the first bytes, then the connection breaks."""
    proxy.drop_answer("GET", "/object_info/*", after_bytes=5)
    async with aiohttp.ClientSession() as session, session.get(f"{proxy.url}/object_info/SaveImage") as answer:
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientError):
            await answer.read()


async def test_a_held_request_waits_for_its_release(proxy: FaultProxy, comfyui: RealComfyUI) -> None:
    """The request stays at the proxy until it is released."""
    held = proxy.hold("POST", "/prompt")
    prompt_id = str(uuid.uuid4())
    async with asyncio.TaskGroup() as group:
        posting = group.create_task(post_prompt(proxy.url, prompt_id))
        await held.met.wait()
        assert not await is_finished(comfyui, prompt_id)
        held.release()
    assert posting.result() == 200


@pytest.mark.parametrize("is_delivered", [False, True])
async def test_the_socket_is_cut_at_a_frame(proxy: FaultProxy, is_delivered: bool) -> None:
    """The cut comes before the frame that fits, or right after it."""
    fault = proxy.cut_socket(frame("execution_success"), is_delivered=is_delivered)

    with pytest.raises(AssertionError, match="WebSocket ended"):
        await run_graph(proxy.url, workflows.colour((7, 7, 7)))

    assert fault.hits == 1
    assert any(frame("execution_success")(item) for item in proxy.frames) == is_delivered
    await eventually(lambda: proxy.open_sockets == 0)


async def test_a_swallowed_frame_is_missing(proxy: FaultProxy) -> None:
    """Frames that fit are lost while the socket stays open."""
    proxy.swallow(frame("executed"))
    assert executed(await run_graph(proxy.url, workflows.colour((8, 8, 8)))) == {}


async def test_new_sockets_are_refused(proxy: FaultProxy) -> None:
    """With the flag set no WebSocket opens."""
    proxy.refuse_sockets = True
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(f"{proxy.url}/ws")
