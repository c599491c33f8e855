"""RunPod-shaped routes over plain HTTP: what stands in the answers, and what the client libraries do not ask for."""

import base64
import io
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image

from support import workflows
from support.eventually import eventually
from support.real_comfyui import RealComfyUI
from support.serving import get, post, serving, session


def job(workflow: object, **more: object) -> dict[str, Any]:
    """Return a request for `workflow`; `more` goes into its input."""
    return {"input": {"workflow": workflow, **more}}


def pixels(output: dict[str, Any]) -> list[object]:
    """Return the first pixel of each picture in worker-comfyui's answer."""
    opened = [Image.open(io.BytesIO(base64.b64decode(image["data"]))) for image in output["images"]]
    return [picture.convert("RGB").getpixel((0, 0)) for picture in opened]


@pytest.mark.parametrize("prefix", ["", "/v2/any-name"])
async def test_runsync_answers_with_the_output(client: aiohttp.ClientSession, prefix: str) -> None:
    """One call gives the finished job: output, milliseconds of waiting and running, and who ran it."""
    status, answer = await post(client, f"{prefix}/runsync", job(workflows.colour((5, 6, 7))))
    assert status == 200
    assert set(answer) == {"id", "status", "delayTime", "executionTime", "workerId", "output"}
    assert answer["status"] == "COMPLETED"
    assert pixels(answer["output"]) == [(5, 6, 7)]
    assert all(isinstance(answer[name], int) and answer[name] >= 0 for name in ("delayTime", "executionTime"))
    assert await get(client, f"{prefix}/status/{answer['id']}") == (200, answer)
    assert await post(client, f"/status/{answer['id']}") == (200, answer)


async def test_runsync_gives_up_waiting_and_the_job_goes_on(client: aiohttp.ClientSession, tmp_path: Path) -> None:
    """After `?wait=` milliseconds the answer is how the job stands; it is finished all the same."""
    gate = tmp_path / "gate"
    status, answer = await post(client, "/runsync?wait=200", job(workflows.wait(until_file=gate, rgb=(3, 4, 5))))
    assert (status, answer["status"] in {"IN_QUEUE", "IN_PROGRESS"}) == (200, True)

    async def progress() -> Any:
        return (await get(client, f"/status/{answer['id']}"))[1].get("output")

    told = await eventually(progress)
    assert set(told) == {"progress"}
    gate.touch()

    async def ended() -> Any:
        _, now = await get(client, f"/status/{answer['id']}")
        return now if now["status"] == "COMPLETED" else None

    assert pixels((await eventually(ended))["output"]) == [(3, 4, 5)]


async def test_the_stream_is_handed_out_once(client: aiohttp.ClientSession) -> None:
    """Files come in chunks in the dialect's words; a second reader finds the stream at its end."""
    _, done = await post(client, "/runsync", job(workflows.colour((1, 2, 3), batch_size=2), response_format="urls"))
    status, first = await get(client, f"/stream/{done['id']}")
    assert (status, first["status"]) == (200, "COMPLETED")
    assert [set(chunk["output"]["images"][0]) for chunk in first["stream"]] == [
        {"url", "filename", "type", "node_id"}
    ] * 2
    assert (await get(client, f"/stream/{done['id']}"))[1] == {"id": done["id"], "status": "COMPLETED", "stream": []}


@pytest.mark.parametrize("response_format", ["worker-comfyui", "urls", "flux", "pyworker"])
async def test_a_failure_is_told_beside_the_output(client: aiohttp.ClientSession, response_format: str) -> None:
    """Whatever the dialect, `status` is FAILED, `error` says why, and the rest of its answer is the output."""
    graph = {**workflows.colour((1, 1, 1)), "3": workflows.node("TestRaise", exception="ValueError", message="bang")}
    status, answer = await post(client, "/runsync", job(graph, response_format=response_format))
    assert (status, answer["status"]) == (200, "FAILED")
    assert "bang" in answer["error"]
    assert answer["output"]["error_code"] == "node_execution_error"
    assert "error" not in answer["output"]


async def test_a_job_whose_input_is_wrong_has_failed_at_once(client: aiohttp.ClientSession) -> None:
    """It is told in the first answer and later; its id is free for the request that is put right."""
    wrong = {"input": {"workflow": {}, "request_id": "mine"}}
    status, answer = await post(client, "/run", wrong)
    assert (status, answer["id"], answer["status"]) == (200, "mine", "FAILED")
    assert await get(client, "/status/mine") == (200, answer)
    assert (await get(client, "/stream/mine"))[1]["error"] == answer["error"]
    assert (await post(client, "/cancel/mine"))[1] == {"id": "mine", "status": "FAILED"}
    status, refusal = await post(client, "/retry/mine")
    assert (status, refusal["error_code"]) == (400, "invalid_request")
    right = job(workflows.colour((8, 8, 8)), request_id="mine")
    assert (await post(client, "/runsync", right))[1]["status"] == "COMPLETED"
    assert (await get(client, "/status/mine"))[1]["status"] == "COMPLETED"


async def test_a_job_is_retried_under_its_id(client: aiohttp.ClientSession, tmp_path: Path) -> None:
    """A job that ran out of time is TIMED_OUT; /retry has it wait again, with its old request."""
    gate = tmp_path / "gate"
    body = {**job(workflows.wait(until_file=gate, rgb=(7, 7, 7))), "policy": {"executionTimeout": 1000}}
    _, answer = await post(client, "/runsync", body)
    assert (answer["status"], answer["output"]["error_code"]) == ("TIMED_OUT", "job_timeout")
    gate.touch()
    assert await post(client, f"/retry/{answer['id']}") == (200, {"id": answer["id"], "status": "IN_QUEUE"})

    async def ended() -> Any:
        _, now = await get(client, f"/status/{answer['id']}")
        return now if now["status"] == "COMPLETED" else None

    assert pixels((await eventually(ended))["output"]) == [(7, 7, 7)]
    status, refusal = await post(client, f"/retry/{answer['id']}")
    assert (status, refusal["error_code"]) == (400, "invalid_request")


async def test_policy_says_how_long_a_job_waits_and_who_goes_first(
    client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """`ttl` ends a job that has not begun, as TIMED_OUT; `lowPriority` lets all others go first."""
    gate = tmp_path / "gate"
    for _ in range(4):
        await post(client, "/run", job(workflows.wait(until_file=gate)))
    short = {**job(workflows.colour((1, 1, 1))), "policy": {"ttl": 300}}
    _, expired = await post(client, "/runsync", short)
    assert (expired["status"], "executionTime" in expired) == ("TIMED_OUT", False)
    low = {**job(workflows.colour((1, 1, 2))), "policy": {"lowPriority": True}}
    _, last = await post(client, "/run", low)
    _, first = await post(client, "/run", job(workflows.wait(until_file=tmp_path / "never")))
    gate.touch()

    async def running() -> Any:
        return (await get(client, f"/status/{first['id']}"))[1].get("output")

    await eventually(running, within_s=30)
    _, waiting = await get(client, f"/status/{last['id']}")
    assert waiting["status"] in {"IN_QUEUE", "IN_PROGRESS"}
    await post(client, f"/cancel/{first['id']}")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        pytest.param({}, "the request has no 'input'", id="no input"),
        pytest.param([], "the request has no 'input'", id="no object"),
        pytest.param(
            {"input": {}, "policy": {"ttl": -1, "executionTimeout": "1"}},
            "policy.executionTimeout must be a positive number of milliseconds; "
            "policy.ttl must be a positive number of milliseconds",
            id="policy",
        ),
        pytest.param({"input": {}, "policy": 7}, "policy must be an object", id="policy no object"),
        pytest.param({"input": {}, "policy": {"lowPriority": 1}}, "policy.lowPriority must be true", id="priority"),
        pytest.param({"input": {}, "s3Config": []}, "s3Config must be an object", id="s3Config"),
        pytest.param({"input": {}, "webhook": {}}, "webhook must be a URL", id="webhook"),
    ],
)
async def test_a_request_that_is_none(client: aiohttp.ClientSession, body: object, problem: str) -> None:
    """What RunPod itself would refuse is a 400 that names every fault; no job is made of it."""
    for path in ("/run", "/runsync"):
        status, answer = await post(client, path, body)
        assert (status, answer["error_code"]) == (400, "invalid_request")
        assert answer["error"].startswith(problem)


async def test_a_method_that_a_path_does_not_know(client: aiohttp.ClientSession) -> None:
    """The answer names all that it does."""
    async with client.delete("/status/x") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, POST")


async def test_a_full_queue_says_when_to_come_again(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """It is a 429 with Retry-After, as on RunPod; what has been taken stays."""
    async with (
        serving(comfyui.url, tmp_path / "state", environ={"QUEUE_MAX": "1"}) as server,
        session(server) as client,
    ):
        taken = []
        refused = None
        for _ in range(10):
            async with client.post("/run", json=job(workflows.wait(until_file=tmp_path / "never"))) as answer:
                body = await answer.json()
                if answer.status == 200:
                    taken.append(body["id"])
                    continue
                refused = (answer.status, body["error_code"], answer.headers["Retry-After"].isdigit())
                break
        assert refused == (429, "queue_full", True)
        assert taken
        for job_id in taken:
            assert (await post(client, f"/cancel/{job_id}"))[1]["status"] == "CANCELLED"


async def test_nobody_sees_the_jobs_of_another_key(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """For another key's client a job is not there, by no route; its queue is not emptied either."""
    keys = {"API_KEYS": "first-key-of-all,second-key-of-all"}
    async with (
        serving(comfyui.url, tmp_path / "state", environ=keys) as server,
        session(server, key="first-key-of-all") as first,
        session(server, key="second-key-of-all") as second,
    ):
        _, mine = await post(first, "/run", job(workflows.wait(until_file=tmp_path / "never")))
        for path in ("status", "stream"):
            assert (await get(second, f"/{path}/{mine['id']}"))[0] == 404
        for path in ("cancel", "retry", "v2/x/cancel"):
            assert (await post(second, f"/{path}/{mine['id']}"))[0] == 404
        assert (await post(second, "/purge-queue"))[1]["removed"] == 0
        assert (await post(first, f"/cancel/{mine['id']}"))[1]["status"] == "CANCELLED"


async def test_a_result_that_has_expired(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """After RESULT_TTL_S there is a 404 that says so."""
    async with (
        serving(comfyui.url, tmp_path / "state", environ={"RESULT_TTL_S": "1"}) as server,
        session(server) as client,
    ):
        _, done = await post(client, "/runsync", job(workflows.colour((1, 2, 3))))

        async def gone() -> Any:
            status, answer = await get(client, f"/status/{done['id']}")
            return answer if status == 404 else None

        assert (await eventually(gone, within_s=20))["error"].startswith(f"the result of job {done['id']} has expired")
        assert (await get(client, f"/stream/{done['id']}"))[0] == 404
