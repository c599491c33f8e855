"""Jobs of RunPod's through the SDK's own loop, on one worker that all of these tests share."""

import base64
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import pytest_asyncio
from PIL import Image

from support import workflows
from support.eventually import eventually
from support.object_store import REGION, ObjectStore
from support.real_comfyui import RealComfyUI
from support.runpod_platform import API_KEY, TOKEN, RunPodPlatform, Ticket
from support.runpod_worker import RunPodWorker, on_comfyui, runpod_worker
from support.webhook_receiver import WebhookReceiver

pytestmark = pytest.mark.asyncio(loop_scope="module")

COMFY_ORG_KEY = "comfyui-s3cr3t-0f-a-client"


class RunPod(NamedTuple):
    """A platform and its worker."""

    platform: RunPodPlatform
    worker: RunPodWorker


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runpod(_shared_comfyui: RealComfyUI, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunPod]:
    """Start a worker that says as much as it can, and reports progress often."""
    environ = {
        **on_comfyui(_shared_comfyui),
        "ALLOW_PRIVATE_URLS": "true",
        "BUCKET_REGION": REGION,  # RunPod's s3Config has none
        "RUNPOD_PROGRESS_INTERVAL_S": "0.1",
        "RUNPOD_LOG_LEVEL": "DEBUG",
        "LOG_LEVEL": "debug",
    }
    folder = tmp_path_factory.mktemp("runpod")
    async with RunPodPlatform() as platform, runpod_worker(platform, folder, environ, args=()) as worker:
        yield RunPod(platform, worker)


def pixels(output: dict[str, Any]) -> list[object]:
    """Return the first pixel of each picture in worker-comfyui's answer."""
    opened = [Image.open(io.BytesIO(base64.b64decode(image["data"]))) for image in output["images"]]
    return [picture.convert("RGB").getpixel((0, 0)) for picture in opened]


async def waits_in_comfyui(comfyui: RealComfyUI, count: int) -> None:
    """Wait until ComfyUI has this many prompts, the running one included."""

    async def has_them() -> bool:
        async with aiohttp.ClientSession(comfyui.url) as client, client.get("/queue") as response:
            queue = await response.json()
        return len(queue["queue_running"]) + len(queue["queue_pending"]) == count

    await eventually(has_them, within_s=30)


async def test_ten_queued_jobs_are_answered_each_with_its_own(runpod: RunPod) -> None:
    """One answer each; the worker never asks for more than it may hold. Neighbours may end in either order."""
    platform = runpod.platform
    asked_before, delivered_before = len(platform.asked), len(platform.delivered)
    tickets = await platform.submit_all([workflows.colour((number, 5, 6)) for number in range(10)])
    await platform.wait(*tickets)
    assert [(ticket.error, pixels(ticket.output)) for ticket in tickets] == [
        (None, [(number, 5, 6)]) for number in range(10)
    ]
    assert [ticket.result_count for ticket in tickets] == [1] * 10
    assert sorted(platform.delivered[delivered_before:]) == sorted(ticket.id for ticket in tickets)
    assert max(platform.asked[asked_before:], default=1) <= 7


async def test_more_jobs_are_held_than_run(runpod: RunPod, comfyui: RealComfyUI, tmp_path: Path) -> None:
    """While one job runs, the next ones are in ComfyUI's queue and one more is here: no pick-up makes ComfyUI wait."""
    platform, gate = runpod.platform, tmp_path / "gate"
    tickets = await platform.submit_all([workflows.wait(until_file=gate, rgb=(1, 1, number)) for number in range(12)])
    await waits_in_comfyui(comfyui, 2)
    await platform.until(lambda: sum(ticket.taken_at is not None for ticket in tickets) >= 3)
    taken = sum(ticket.taken_at is not None for ticket in tickets)
    assert 3 <= taken <= 7
    gate.touch()
    await platform.wait(*tickets)
    assert [pixels(ticket.output) for ticket in tickets] == [[(1, 1, number)] for number in range(12)]


async def test_a_running_job_and_a_waiting_one_are_stopped(
    runpod: RunPod, comfyui: RealComfyUI, tmp_path: Path
) -> None:
    """Both leave ComfyUI and get no answer; the others run, and there is room for new ones."""
    platform, gate = runpod.platform, tmp_path / "gate"
    held = [workflows.wait(until_file=gate, rgb=(2, 2, number)) for number in range(3)]
    running, waiting, other = await platform.submit_all(held)
    await waits_in_comfyui(comfyui, 2)
    await platform.stop(running)
    await platform.stop(waiting)

    def are_stopped() -> bool:
        return {running.id, waiting.id} <= {event["job_id"] for event in runpod.worker.events("job.canceled")}

    await eventually(are_stopped, within_s=30)
    await waits_in_comfyui(comfyui, 1)
    gate.touch()
    later = await platform.submit(workflows.colour((2, 2, 9)))
    await platform.wait(other, later)
    assert (pixels(other.output), pixels(later.output)) == ([(2, 2, 2)], [(2, 2, 9)])
    assert (running.result, waiting.result) == (None, None)


async def test_a_job_is_stopped_that_has_just_been_taken(runpod: RunPod, tmp_path: Path) -> None:
    """The SDK does not know it yet, for a tenth of a second; the stop is kept for it."""
    ticket = await runpod.platform.submit(workflows.wait(until_file=tmp_path / "never"))
    await runpod.platform.until(lambda: ticket.taken_at is not None)
    await runpod.platform.stop(ticket)
    await eventually(
        lambda: ticket.id in {event["job_id"] for event in runpod.worker.events("runpod.job_stopped")}, within_s=30
    )
    later = await runpod.platform.submit(workflows.colour((2, 3, 9)))
    await runpod.platform.wait(later)
    assert (pixels(later.output), ticket.result) == ([(2, 3, 9)], None)


async def test_a_job_that_is_handed_over_twice_is_answered_once(runpod: RunPod, tmp_path: Path) -> None:
    """It is run once, too; the next job's answer comes after all that there was."""
    platform, gate, job_id = runpod.platform, tmp_path / "gate", workflows.unique_prefix()
    graph = workflows.wait(until_file=gate, rgb=(3, 1, 4))
    _, ticket = await platform.submit_all([graph] * 2, job_id=job_id)
    await eventually(lambda: runpod.worker.events("runpod.job_repeated"), within_s=30)
    gate.touch()
    await platform.wait(ticket)
    await platform.wait(await platform.submit(workflows.colour((3, 1, 5))))
    assert (ticket.result_count, pixels(ticket.output)) == (1, [(3, 1, 4)])


async def test_a_job_without_an_input_is_answered(runpod: RunPod) -> None:
    """The SDK would throw a single one away, and its client would wait for ever."""
    (ticket,) = await runpod.platform.hand_out([{"id": workflows.unique_prefix()}])
    await runpod.platform.wait(ticket)
    assert (ticket.error, ticket.output) == ("Please provide input", {"error_code": "invalid_request"})


async def test_progress_is_told_in_order_and_not_after_the_end(runpod: RunPod) -> None:
    """What /status shows never falls, has the contract's keys, and nothing comes after the result."""
    ticket = await runpod.platform.submit(workflows.wait(steps=60, seconds_per_step=0.02))
    await runpod.platform.wait(ticket)
    assert all(set(told) == {"progress"} for told in ticket.progress)
    values = [told["progress"]["value"] for told in ticket.progress]
    assert len(values) >= 3
    assert values == sorted(values)
    # Of what comes in quick succession only the latest is told, which may be that a node without steps is at work.
    assert {told["progress"]["steps"] for told in ticket.progress} - {None} == {60}
    follower = await runpod.platform.submit(workflows.wait(steps=30, seconds_per_step=0.02))
    await runpod.platform.until(lambda: follower.progress)
    await runpod.platform.wait(follower)
    assert (ticket.late_progress, follower.late_progress) == ([], [])


@pytest.mark.parametrize("response_format", ["worker-comfyui", "urls", "flux", "pyworker"])
async def test_a_failure_is_told_beside_the_output(runpod: RunPod, response_format: str) -> None:
    """Whatever the dialect, `error` is a text at the top, and the rest of its answer is the output."""
    ticket = await runpod.platform.submit(workflows.failing(message="bang"), response_format=response_format)
    await runpod.platform.wait(ticket)
    assert isinstance(ticket.error, str)
    assert "bang" in ticket.error
    assert ticket.output["error_code"] == "node_execution_error"
    assert "Traceback" not in str(ticket.result)


@pytest.mark.parametrize(
    ("beside", "error"),
    [
        pytest.param({}, "Missing 'workflow' parameter", id="no workflow"),
        pytest.param({"beside_policy": {"executionTimeout": "soon"}}, "policy.executionTimeout", id="wrong policy"),
        pytest.param({"beside_s3Config": "mine"}, "s3Config", id="wrong s3Config"),
    ],
)
async def test_a_wrong_job_is_answered(runpod: RunPod, beside: dict[str, Any], error: str) -> None:
    """It fails with what is wrong with it, and the worker goes on."""
    ticket = await runpod.platform.submit(**beside)
    await runpod.platform.wait(ticket)
    assert error in ticket.error
    assert ticket.output["error_code"] == "invalid_request"


async def test_the_platforms_time_limit_is_the_deadline(runpod: RunPod, tmp_path: Path) -> None:
    """`policy.executionTimeout` is in milliseconds, and goes before a longer limit of the request's own."""
    ticket = await runpod.platform.submit(
        workflows.wait(until_file=tmp_path / "never"), timeout=300, beside_policy={"executionTimeout": 300}
    )
    await runpod.platform.wait(ticket)
    assert ticket.output["error_code"] == "job_timeout"
    assert "0.3 s" in ticket.error


async def test_the_platforms_webhook_is_the_platforms(runpod: RunPod) -> None:
    """RunPod calls the webhook beside `input` itself; the one inside is ours to call."""
    async with WebhookReceiver() as receiver:
        ticket = await runpod.platform.submit(
            workflows.colour((3, 3, 3)),
            webhook={"url": receiver.url("/ours")},
            beside_webhook=receiver.url("/theirs"),
        )
        arrived = await receiver.wait(1)
        await runpod.platform.wait(ticket)
    assert [(arrival.path.partition("?")[0], arrival.told["id"]) for arrival in arrived] == [("/ours", ticket.id)]


async def large(platform: RunPodPlatform, prefix: str = "", **more: Any) -> Ticket:
    """Run a job whose picture has 12 MB, 16 MB as base64."""
    job_id = f"{prefix}{workflows.unique_prefix()}"
    ticket = await platform.submit(workflows.noise(2000, 2000), job_id=job_id, **more)
    await platform.wait(ticket)
    return ticket


async def test_an_answer_that_is_too_large_for_run_says_so(runpod: RunPod) -> None:
    """The platform would drop it unseen; the error names the sizes and object storage."""
    ticket = await large(runpod.platform)
    assert ticket.output["error_code"] == "answer_too_large"
    assert "BUCKET_ENDPOINT_URL" in ticket.error
    assert ticket.result_bytes < 10_000


async def test_an_answer_may_be_larger_for_runsync(runpod: RunPod) -> None:
    """Jobs of /runsync, whose ids begin with `sync-`, may have answers of 20 MB."""
    ticket = await large(runpod.platform, "sync-")
    assert ticket.error is None
    assert 16_000_000 < ticket.result_bytes < 20_000_000


async def test_a_large_answer_goes_to_object_storage(runpod: RunPod, object_store: ObjectStore) -> None:
    """With `s3Config` of the platform's shape beside the input, the answer has a URL."""
    bucket = await object_store.make_bucket()
    config = {
        "accessId": object_store.access_key_id,
        "accessSecret": object_store.secret_access_key,
        "bucketName": bucket,
        "endpointUrl": object_store.endpoint_url,
    }
    ticket = await large(runpod.platform, beside_s3Config=config)
    assert ticket.error is None
    (image,) = ticket.output["images"]
    assert image["type"] == "s3_url"
    assert f"/{bucket}/{ticket.id}/" in image["data"]


@pytest.mark.parametrize("fault", [500, "cut"])
async def test_a_result_that_is_not_taken_is_sent_again(runpod: RunPod, fault: Any) -> None:
    """The SDK tries again, and the job is answered once."""
    runpod.platform.done_faults.append(fault)
    ticket = await runpod.platform.submit(workflows.colour((7, 7, 7)))
    await runpod.platform.wait(ticket)
    assert (ticket.result_count, pixels(ticket.output)) == (1, [(7, 7, 7)])


async def test_a_platform_that_fails_is_asked_again(runpod: RunPod) -> None:
    """Questions for jobs that fail are repeated, with pauses, and jobs run afterwards; odd answers are told."""
    runpod.platform.take_faults.extend([500, "cut", 400, 204, "page", "broken"])
    tickets = await runpod.platform.submit_all([workflows.colour((8, 8, number)) for number in range(3)])
    await runpod.platform.wait(*tickets)
    assert [pixels(ticket.output) for ticket in tickets] == [[(8, 8, number)] for number in range(3)]
    last = await runpod.platform.submit(workflows.colour((8, 8, 8)))
    await runpod.platform.wait(last)
    await eventually(lambda: not runpod.platform.take_faults, within_s=30)
    await eventually(
        lambda: [event["found"] for event in runpod.worker.events("runpod.answer_odd")] == ["text/html", "broken JSON"]
    )


async def test_the_log_has_no_payloads_and_no_secrets(runpod: RunPod) -> None:
    """At its most talkative too: neither pictures nor keys, tokens, or query strings; and nothing on stdout."""
    platform = runpod.platform
    platform.done_faults.append(500)
    ticket = await platform.submit(workflows.colour((6, 6, 6)), comfy_org_api_key=COMFY_ORG_KEY)
    await platform.wait(ticket)
    await platform.until(lambda: platform.pings)
    said = [event["message"] for event in runpod.worker.events("runpod.said")]
    assert any(message.startswith("Handler output") for message in said)
    written = runpod.worker.stderr()
    assert [
        secret for secret in (TOKEN, API_KEY, COMFY_ORG_KEY, ticket.output["images"][0]["data"]) if secret in written
    ] == []
    assert "gpu=cpu" not in written
    assert "Traceback" not in written
    assert runpod.worker.stdout() == ""
    assert all(line.startswith("{") for line in written.splitlines())


async def test_an_idle_worker_is_seen_alive(runpod: RunPod) -> None:
    """The SDK's heartbeat names the jobs that are in progress."""
    count = len(runpod.platform.pings)
    await runpod.platform.until(lambda: len(runpod.platform.pings) > count)
    assert runpod.platform.pings[-1]["runpod_version"]
