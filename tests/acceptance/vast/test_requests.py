"""Requests for jobs to a worker on Vast.ai: who is let in, what is answered, and what the platform hears of it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support import workflows
from support.certificates import Certificate
from support.eventually import eventually
from support.real_comfyui import RealComfyUI
from support.serving import Serving, get, post
from support.vast_platform import TOKEN, Signer, VastPlatform
from support.vast_worker import certificate_variables, envelope, plain_session, vast_worker

pytestmark = pytest.mark.asyncio(loop_scope="module")


def job(workflow: object, **more: object) -> dict[str, Any]:
    """Return what a client asks for; 23 seconds are 200 of workload. `more` goes into its input."""
    return {"input": {"workflow_json": workflow, **more}, "expected_time": 23.0}


def ends(platform: VastPlatform) -> list[tuple[str, bool]]:
    """Return how the requests ended that the platform was told of."""
    return [(told["status"], told["success"]) for told in platform.deletes]


async def until_result(client: aiohttp.ClientSession, job_id: str, asked: object) -> tuple[int, Any]:
    """Return a job's code and answer when it is over, asked for as `asked`."""

    async def look() -> tuple[int, Any] | None:
        code, answer = await post(client, f"/result/{job_id}", asked)
        return None if answer["status"] in {"pending", "generating"} else (code, answer)

    found = await eventually(look, within_s=30)
    assert found is not None
    return found


async def test_signed_is_served(client: aiohttp.ClientSession, platform: VastPlatform) -> None:
    """A request that Vast's router has signed is run over TLS, and told as served with its workload."""
    code, answer = await post(client, "/generate/sync", envelope(platform, job(workflows.noise())))
    assert (code, answer["status"], len(answer["output"])) == (200, "completed", 1)
    await platform.until_deleted(1)
    assert ends(platform) == [("Success", True)]
    told = platform.deletes[0]
    assert told["entered_queue_at"] <= told["work_started_at"] <= told["work_completed_at"]
    served = await platform.until_status(lambda status: status["cur_perf"] > 0)
    assert (served["cur_perf"], served["error_msg"]) == (200.0, "")


async def test_what_vast_has_not_signed_is_refused(client: aiohttp.ClientSession, platform: VastPlatform) -> None:
    """No signature, a stranger's, one for another worker, a request that was answered: 401, and Vast hears nothing."""
    workflow = job(workflows.noise())
    good = envelope(platform, workflow)
    stranger = {**good, "auth_data": Signer().auth_data(good["auth_data"]["url"], reqnum=77, request_idx=177)}
    elsewhere = {**good, "auth_data": platform.signer.auth_data("https://192.0.2.7:1", reqnum=78, request_idx=178)}
    assert (await post(client, "/generate/sync", good))[0] == 200
    refused = [await post(client, "/generate/sync", body) for body in (workflow, stranger, elsewhere, good)]
    assert [code for code, _ in refused] == [401] * 4
    assert {answer["error_code"] for _, answer in refused} == {"unauthorized"}
    assert await post(client, "/generate/sync", envelope(platform, workflow))  # what comes after is told
    await platform.until_deleted(2)
    assert ends(platform) == [("Success", True)] * 2


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param({"payload": None}, "payload is missing", id="no payload"),
        pytest.param({"auth_data": {"url": "x"}}, "auth_data.signature is missing", id="auth_data is not whole"),
        pytest.param({"payload": {"input": {}}}, "workflow", id="no workflow"),
    ],
)
async def test_what_is_no_request_is_told_where_it_is_wrong(
    client: aiohttp.ClientSession, platform: VastPlatform, change: dict[str, object], named: str
) -> None:
    """It would be wrong at every other worker, too: 422, which Vast's client does not send again."""
    code, answer = await post(client, "/generate/sync", {**envelope(platform, job({})), **change})
    assert code == 422
    assert named in str([answer["message"], *answer.get("details", [])])


async def test_a_job_that_would_fail_again_is_not_served(client: aiohttp.ClientSession, platform: VastPlatform) -> None:
    """A workflow with a wrong value and one that raises are 422, and end as errors with no workload served."""
    wrong = workflows.noise()
    wrong["1"]["class_type"] = "NoSuchNode"
    answers = [
        await post(client, "/generate/sync", envelope(platform, job(graph))) for graph in (wrong, workflows.failing())
    ]
    assert [(code, answer["error_code"]) for code, answer in answers] == [
        (422, "missing_node"),
        (422, "node_execution_error"),
    ]
    await platform.until_deleted(2)
    assert ends(platform) == [("Error", False)] * 2
    assert sum(status["cur_perf"] for status in platform.statuses) == 0


async def test_a_job_that_is_not_waited_for_counts_until_its_end(
    client: aiohttp.ClientSession, platform: VastPlatform, tmp_path: Path
) -> None:
    """/generate answers at once; the work is told as under way until it is done, and read with the same auth_data."""
    gate = tmp_path / "gate"
    asked = envelope(platform, job(workflows.wait(until_file=gate), request_id="later"))
    code, taken = await post(client, "/generate", asked)
    assert (code, taken["id"]) == (202, "later")
    index = asked["auth_data"]["request_idx"]
    at_work = await platform.until_status(lambda status: index in status["working_request_idxs"])
    assert (at_work["cur_load"], platform.deletes) == (200.0, [])
    gate.touch()
    code, answer = await until_result(client, "later", {**asked, "payload": {}})
    assert (code, answer["status"]) == (200, "completed")
    await platform.until_deleted(1)
    assert ends(platform) == [("Success", True)]


async def test_a_stream_tells_to_the_end(client: aiohttp.ClientSession, platform: VastPlatform) -> None:
    """/generate/stream gives events and the result; the request is told as served when the job has ended."""
    asked = envelope(platform, job(workflows.wait(steps=2)))
    async with client.post("/generate/stream", json=asked) as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        lines = (await answer.text()).splitlines()
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert (events[-1]["status"], events[-1]["result"]["status"]) == ("final_result", "completed")
    await platform.until_deleted(1)
    assert ends(platform) == [("Success", True)]


async def test_who_hangs_up_has_canceled(client: aiohttp.ClientSession, platform: VastPlatform, tmp_path: Path) -> None:
    """The job leaves ComfyUI, and Vast hears of a canceled request, which is nobody's fault."""
    asked = envelope(platform, job(workflows.wait(until_file=tmp_path / "never"), request_id="gone"))
    index = asked["auth_data"]["request_idx"]
    async with asyncio.TaskGroup() as group:
        calling = group.create_task(post(client, "/generate/sync", asked))
        await platform.until_status(lambda status: index in status["working_request_idxs"])
        calling.cancel()
    await platform.until_deleted(1)
    assert ends(platform) == [("Cancelled", True)]
    code, answer = await until_result(client, "gone", {**envelope(platform, {}), "payload": {}})
    assert (code, answer["status"]) == (499, "cancelled")


async def test_a_signed_client_cancels_by_id(
    client: aiohttp.ClientSession, platform: VastPlatform, tmp_path: Path
) -> None:
    """POST /cancel/{id} takes what Vast has signed; /queue-info counts what is left."""
    asked = envelope(platform, job(workflows.wait(until_file=tmp_path / "never"), request_id="unwanted"))
    await post(client, "/generate", asked)
    signed = {**asked, "payload": {}}
    assert (await post(client, "/queue-info", signed))[1]["generation_queue_size"] == 1
    code, answer = await post(client, "/cancel/unwanted", signed)
    assert (code, answer["status"]) == (200, "cancelled")
    assert (await post(client, "/cancel/unwanted", {"payload": {}}))[0] == 401
    await platform.until_deleted(1)
    assert ends(platform) == [("Cancelled", True)]


async def test_too_much_work_is_a_429(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """Beyond MAX_QUEUE_TIME_S a request is turned away and told as rejected; it is taken when there is room."""
    gate = tmp_path / "gate"
    environ = {"MAX_QUEUE_TIME_S": "0.000001"}
    async with (
        VastPlatform() as platform,
        vast_worker(comfyui.url, tmp_path / "state", platform, environ=environ) as worker,
        plain_session(worker) as client,
    ):
        await platform.until_status(lambda status: status["max_perf"] > 0)
        first = envelope(platform, job(workflows.wait(until_file=gate), request_id="first"))
        assert (await post(client, "/generate", first))[0] == 202
        second = envelope(platform, job(workflows.noise()))
        async with client.post("/generate/sync", json=second) as refused:
            answer = await refused.json()
            assert (refused.status, answer["error_code"]) == (429, "too_busy")
            assert int(refused.headers["Retry-After"]) >= 1
        rejected = await platform.until_status(lambda status: status["rej_load"] > 0)
        assert rejected["rej_load"] == 200.0
        gate.touch()
        await until_result(client, "first", {**first, "payload": {}})
        await platform.until_deleted(2)
        assert (await post(client, "/generate/sync", second))[0] == 200
        await platform.until_deleted(3)
        assert ends(platform) == [("Rejected", False), ("Success", True), ("Success", True)]


async def test_what_is_unsigned_needs_a_key(comfyui: RealComfyUI, certificate: Certificate, tmp_path: Path) -> None:
    """Only /health answers everybody; a key named `vast` reads what was signed, another has jobs of its own."""
    environ = {**certificate_variables(certificate), "API_KEYS": "vast:k3y-of-vast,other-k3y"}
    async with (
        VastPlatform() as platform,
        vast_worker(comfyui.url, tmp_path / "state", platform, environ=environ) as worker,
        plain_session(worker, certificate) as client,
    ):
        await platform.until_status(lambda status: status["max_perf"] > 0)
        assert (await get(client, "/health"))[0] == 200
        for path in ("/ready", "/metrics", "/docs", "/openapi.json", "/result/x", "/queue-info", "/status/x"):
            async with client.get(path) as answer:
                assert answer.status == 401, path
        assert (await post(client, "/run", {"input": {"workflow": workflows.noise()}}))[0] == 401
        signed = envelope(platform, job(workflows.noise(), request_id="mine"))
        assert (await post(client, "/generate/sync", signed))[0] == 200
        codes = {}
        for key in ("k3y-of-vast", "other-k3y"):
            async with client.get("/result/mine", headers={"Authorization": f"Bearer {key}"}) as answer:
                codes[key] = answer.status
        assert codes == {"k3y-of-vast": 200, "other-k3y": 404}
        keyed = await post(client, "/generate/sync", job(workflows.noise()), Authorization="Bearer other-k3y")
        assert keyed[0] == 200


async def test_unsecured_takes_bare_requests(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """Without Vast's variables and with UNSECURED, a bare request is run, and one in an odd envelope."""
    async with (
        vast_worker(comfyui.url, tmp_path / "state", None) as worker,
        plain_session(worker) as client,
    ):

        async def is_ready() -> bool:
            return (await get(client, "/ready"))[0] == 200

        await eventually(is_ready, within_s=30)
        bare = job(workflows.noise())
        odd = {"auth_data": {"url": "x"}, "session_id": None, "payload": bare}
        assert [(await post(client, "/generate/sync", body))[0] for body in (bare, odd)] == [200, 200]


async def test_nothing_secret_is_written(
    worker: Serving, client: aiohttp.ClientSession, platform: VastPlatform
) -> None:
    """Neither the token nor a signature stands in the log or in an answer."""
    asked = envelope(platform, job(workflows.noise()))
    _, answer = await post(client, "/generate/sync", asked)
    _, refused = await post(client, "/generate/sync", asked)
    update = await post(client, "/pyworker/update", {}, Authorization="Bearer no-t0ken")
    secrets = (TOKEN, asked["auth_data"]["signature"])
    written = worker.log_text() + json.dumps([answer, refused, update[1]])
    assert [secret for secret in secrets if secret in written] == []
