"""Vast-shaped routes over plain HTTP, as Vast's PyWorker and its clients ask."""

import asyncio
import base64
import io
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image

from support import workflows
from support.eventually import eventually
from support.proxy import FaultProxy
from support.real_comfyui import RealComfyUI
from support.serving import Serving, get, post, serving, session

KEYS = {"id", "message", "status", "comfyui_response", "output", "timings"}


async def until(client: aiohttp.ClientSession, job_id: str, *statuses: str) -> tuple[int, Any]:
    """Return a job's code and answer as soon as its status is one of these."""

    async def look() -> tuple[int, Any] | None:
        code, answer = await get(client, f"/result/{job_id}")
        return (code, answer) if answer["status"] in statuses else None

    found = await eventually(look, within_s=30)
    assert found is not None
    return found


def job(workflow: object, **more: object) -> dict[str, Any]:
    """Return a bare request; `more` goes into its input."""
    return {"input": {"workflow_json": workflow, **more}, "expected_time": 5.0}


def pixels(answer: dict[str, Any]) -> list[object]:
    """Return the first pixel of each file of an answer."""
    opened = [Image.open(io.BytesIO(base64.b64decode(entry["data"]))) for entry in answer["output"]]
    return [picture.convert("RGB").getpixel((0, 0)) for picture in opened]


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "wrapped"])
async def test_sync_answers_with_the_result(client: aiohttp.ClientSession, wrapped: bool) -> None:
    """One call gives the finished job, whether or not Vast's envelope is around the request."""
    job_id = workflows.unique_prefix()
    body = job(workflows.colour((50, 60, 70)), request_id=job_id)
    asked = {"auth_data": {"cost": "1", "url": "x"}, "session_id": None, "payload": body} if wrapped else body
    code, answer = await post(client, "/generate/sync", asked)
    assert (code, set(answer) - {"cold_start"}) == (200, KEYS)  # which the first job after the server's start has
    assert (answer["id"], answer["status"], answer["message"]) == (job_id, "completed", "Processing complete.")
    assert pixels(answer) == [(50, 60, 70)]
    assert all(isinstance(value, int) for value in answer["timings"].values())
    assert await get(client, f"/result/{job_id}") == (200, answer)


async def test_generate_answers_at_once(client: aiohttp.ClientSession, tmp_path: Path) -> None:
    """The job is pending or generating until its result is there, always with 200; /queue-info counts it."""
    gate = tmp_path / "gate"
    code, taken = await post(client, "/generate", job(workflows.wait(until_file=gate, rgb=(2, 3, 4))))
    assert (code, set(taken), taken["status"] in {"pending", "generating"}) == (202, KEYS, True)
    code, running = await until(client, taken["id"], "generating")
    assert (code, running["output"]) == (200, [])
    assert await get(client, "/queue-info") == (
        200,
        {"preprocess_queue_size": 0, "generation_queue_size": 1, "postprocess_queue_size": 0, "max_queue_size": 1000},
    )
    gate.touch()
    code, done = await until(client, taken["id"], "completed", "failed")
    assert (code, pixels(done)) == (200, [(2, 3, 4)])


async def test_what_is_sent_twice_runs_once(client: aiohttp.ClientSession) -> None:
    """The same request with the same `request_id` gets the first job's result; another request is refused."""
    body = job(workflows.noise(), request_id="twice")
    _, first = await post(client, "/generate/sync", body)
    assert await post(client, "/generate", body) == (200, first)
    code, refused = await post(client, "/generate", job(workflows.noise(), request_id="twice"))
    assert (code, refused["id"], refused["error_code"]) == (422, "twice", "idempotency_key_reuse")


async def test_a_stream_ends_with_the_result(client: aiohttp.ClientSession) -> None:
    """Each event is one line of JSON with the request's id; the last one holds the whole result."""
    async with client.post("/generate/stream", json=job(workflows.wait(steps=3, rgb=(6, 6, 6)))) as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        lines = (await answer.text()).splitlines()
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    last = events[-1]
    assert {event["request_id"] for event in events} == {last["result"]["id"]}
    assert {event["status"] for event in events[:-1]} == {"pending", "generating"}
    assert any("progress" in event for event in events)
    assert (last["status"], pixels(last["result"])) == ("final_result", [(6, 6, 6)])


async def test_a_stream_is_taken_up_where_it_broke(client: aiohttp.ClientSession, tmp_path: Path) -> None:
    """The same request with Last-Event-ID goes on behind that event; the job ran once."""
    gate = tmp_path / "gate"
    body = job(workflows.wait(until_file=gate, rgb=(4, 4, 4)), request_id="long")
    seen = 0
    async with client.post("/generate/stream", json=body) as answer:
        async for line in answer.content:
            if line.startswith(b"id: "):
                seen = int(line[4:])
            if b'"generating"' in line:
                break
    gate.touch()
    async with client.post("/generate/stream", json=body, headers={"Last-Event-ID": str(seen)}) as answer:
        text = await answer.text()
    ids = [int(line[4:]) for line in text.splitlines() if line.startswith("id: ")]
    assert all(number > seen for number in ids)
    assert pixels(json.loads(text.rstrip().rpartition("data: ")[2])["result"]) == [(4, 4, 4)]


async def test_hanging_up_cancels_the_job(client: aiohttp.ClientSession, server: Serving, tmp_path: Path) -> None:
    """Who waits for a job and goes away wants it no more; sent again, it runs again."""
    gate = tmp_path / "gate"
    body = job(workflows.wait(until_file=gate, rgb=(5, 5, 5)), request_id="dropped")
    async with asyncio.TaskGroup() as group, session(server) as other:
        waiting = group.create_task(post(other, "/generate/sync", body))
        await eventually(lambda: is_known(client, "dropped"))
        await until(client, "dropped", "generating")
        waiting.cancel()
    code, canceled = await until(client, "dropped", "cancelled")
    assert (code, canceled["error_code"]) == (499, "job_canceled")
    gate.touch()
    code, answer = await post(client, "/generate/sync", body)
    assert (code, pixels(answer)) == (200, [(5, 5, 5)])


async def is_known(client: aiohttp.ClientSession, job_id: str) -> bool:
    """Tell whether the server has a job."""
    return (await get(client, f"/result/{job_id}"))[0] != 404


async def test_a_job_is_cancelled(client: aiohttp.ClientSession, tmp_path: Path) -> None:
    """`/cancel/{id}` answers in Vast's words for a job of Vast's, and once more when it is over."""
    _, taken = await post(client, "/generate", job(workflows.wait(until_file=tmp_path / "never")))
    await until(client, taken["id"], "generating")
    code, answer = await post(client, f"/cancel/{taken['id']}")
    assert (code, set(answer), answer["id"]) == (200, {"id", "message", "status"}, taken["id"])
    code, canceled = await until(client, taken["id"], "cancelled")
    assert (code, set(canceled) - KEYS) == (499, {"error_code"})
    assert (await post(client, f"/cancel/{taken['id']}"))[1]["status"] == "cancelled"


@pytest.mark.parametrize(
    ("given", "error_code"),
    [
        pytest.param({}, "invalid_request", id="neither"),
        pytest.param({"modifier": "Text2Image", "workflow_json": {"1": {}}}, "invalid_request", id="both"),
        pytest.param({"modifications": {"prompt": "x"}}, "invalid_request", id="no modifier"),
        pytest.param({"workflow_json": {"1": {"class_type": "NoSuch", "inputs": {}}}}, "missing_node", id="node"),
        pytest.param({"workflow_json": {}, "request_id": "../../evil"}, "invalid_request", id="path"),
        pytest.param({"workflow_json": {"1": {}}}, "invalid_workflow", id="workflow"),
        pytest.param(
            {"workflow_json": workflows.colour((1, 1, 1)), "output": {"delivery": "s3"}}, "invalid_request", id="s3"
        ),
    ],
)
async def test_what_would_fail_again_is_a_422(
    client: aiohttp.ClientSession, given: dict[str, Any], error_code: str
) -> None:
    """Vast's clients send 5xx again for ever, so these are none; the body is a result that says what is wrong."""
    code, answer = await post(client, "/generate/sync", {"input": given})
    assert (code, answer["status"], answer["error_code"]) == (422, "failed", error_code)
    assert set(answer) >= KEYS


async def test_a_node_that_raises_is_a_422(client: aiohttp.ClientSession) -> None:
    """A workflow that fails while it runs would fail again."""
    graph = {**workflows.colour((1, 1, 1)), "3": workflows.node("TestRaise", exception="ValueError", message="bang")}
    code, answer = await post(client, "/generate/sync", job(graph))
    assert (code, answer["status"], answer["error_code"]) == (422, "failed", "node_execution_error")
    assert "bang" in answer["message"]


async def test_what_is_no_json(client: aiohttp.ClientSession) -> None:
    """It is told in the same shape."""
    async with client.post("/generate", data=b"{nope", headers={"Content-Type": "application/json"}) as answer:
        assert (answer.status, set(await answer.json()) >= KEYS) == (422, True)


async def test_a_result_that_nobody_has(client: aiohttp.ClientSession) -> None:
    """It is a 404 in Vast's shape."""
    code, answer = await get(client, "/result/nobody")
    assert (code, answer["status"], answer["error_code"]) == (404, "failed", "not_found")


async def test_a_full_queue_says_when_to_come_again(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """It is a 503 with Retry-After."""
    async with (
        serving(comfyui.url, tmp_path / "state", environ={"QUEUE_MAX": "1"}) as server,
        session(server) as client,
    ):
        taken, refused = [], None
        for _ in range(10):
            body = job(workflows.wait(until_file=tmp_path / "never"))
            async with client.post("/generate", json=body) as answer:
                told = await answer.json()
                if answer.status == 202:
                    taken.append(told["id"])
                    continue
                refused = (answer.status, told["error_code"], answer.headers["Retry-After"].isdigit())
                break
        assert refused == (503, "queue_full", True)
        for job_id in taken:
            await post(client, f"/cancel/{job_id}")
        for job_id in taken:
            await until(client, job_id, "cancelled")


async def test_the_header_asks_for_base64(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """Beside a bucket the answer has URLs, unless `X-Return-Outputs-As-Base64` says otherwise."""
    store = {"BUCKET_ENDPOINT_URL": f"file://{tmp_path / 'bucket'}"}
    async with serving(comfyui.url, tmp_path / "state", environ=store) as server, session(server) as client:
        _, stored = await post(client, "/generate/sync", job(workflows.colour((7, 8, 9))))
        assert [set(entry) & {"url", "data"} for entry in stored["output"]] == [{"url"}]
        header = {"X-Return-Outputs-As-Base64": "1"}
        _, inline = await post(client, "/generate/sync", job(workflows.colour((7, 8, 9))), **header)
        assert pixels(inline) == [(7, 8, 9)]


async def test_comfyui_that_is_gone_is_worth_another_try(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """It is a 5xx, and the same request sent again runs again when ComfyUI is back."""
    body = job(workflows.colour((3, 1, 4)), request_id="again", timeout=30)
    async with (
        FaultProxy(comfyui.url) as proxy,
        serving(proxy.url, tmp_path / "state") as server,
        session(server) as client,
    ):
        fault = proxy.drop_request("POST", "/prompt", times=100)
        code, answer = await post(client, "/generate/sync", body)
        assert (code, answer["status"], answer["error_code"]) == (502, "failed", "comfyui_unreachable")
        fault.stop()
        code, answer = await post(client, "/generate/sync", body)
        assert (code, pixels(answer)) == (200, [(3, 1, 4)])
