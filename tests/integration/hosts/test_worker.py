"""Jobs of which somebody wants to hear, on a real ComfyUI."""

import asyncio
import contextlib
import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook

from comfyworker.hosts.worker import Worker, open_worker
from comfyworker.jobs import DeliveryMode, JobRequest, Output, WebhookEvent, WebhookOptions
from comfyworker.settings import load_settings
from support import workflows
from support.pipelines import Watch, request
from support.real_comfyui import RealComfyUI
from support.webhook_receiver import Answer, WebhookReceiver

ALL = frozenset(WebhookEvent)
SECRET = "whsec_" + "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"


@contextlib.asynccontextmanager
async def worker_on(comfyui: RealComfyUI, state: Path, **variables: str) -> AsyncIterator[Worker]:
    """Run a worker on a ComfyUI that runs already, with a state folder of its own."""
    environ = {
        "COMFY_API_URL": comfyui.url,
        "COMFYUI_BASE_DIR": str(comfyui.base_dir),
        "STATE_DIR": str(state),
        "ALLOW_PRIVATE_URLS": "true",
        **variables,
    }
    async with open_worker(load_settings(environ)) as worker:
        yield worker


def hooked(job: JobRequest, receiver: WebhookReceiver, **more: Any) -> JobRequest:
    """Return the job, of which the receiver wants to hear."""
    return job.model_copy(update={"webhook": WebhookOptions(url=receiver.url(), **more)})


def plain(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return a body without what is measured."""
    return {key: value for key, value in told.items() if key not in {"timings", "output"}}


async def test_a_webhook_hears_of_the_end(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """The body is Vast's, with the caller's own; the signatures are the standard's and upstream's."""
    job = request(workflows.colour((1, 2, 3)))
    async with WebhookReceiver() as receiver, worker_on(comfyui, tmp_path) as worker:
        result = await worker.run(hooked(job, receiver, extra_params={"order": 7}, secret=SecretStr(SECRET)))
        [arrival] = await receiver.wait(1)
    assert plain(arrival.told) == {
        "id": job.id,
        "status": "completed",
        "message": "Processing complete.",
        "event": "completed",
        "extra": {"order": 7},
        "order": 7,
    }
    [entry] = arrival.told["output"]
    assert (entry["data"], entry["mimetype"]) == (result.artifacts[0].data, "image/png")
    assert arrival.told["timings"]["queued_at_ms"] == round((result.created_at or 0) * 1000)
    Webhook(SECRET).verify(arrival.body, dict(arrival.headers))
    mac = hmac.new(SECRET.encode(), arrival.body, hashlib.sha256).hexdigest()
    assert arrival.headers["X-Webhook-Signature"] == f"sha256={mac}"


async def test_a_webhook_hears_of_a_failure(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """Also of one that was found before anything ran."""
    wrong = workflows.colour((1, 2, 3))
    wrong["1"]["class_type"] = "LoadImag"
    async with WebhookReceiver() as receiver, worker_on(comfyui, tmp_path, WEBHOOK_URL=receiver.url()) as worker:
        failed = await worker.run(request(workflows.failing("ValueError", "raised by a test")))
        refused = await worker.run(request(wrong))
        arrived = await receiver.wait(2)
    assert {arrival.told["id"]: arrival.told["status"] for arrival in arrived} == {
        failed.id: "failed",
        refused.id: "failed",
    }
    told = {arrival.told["error_code"] for arrival in arrived}
    assert told == {"node_execution_error", "missing_node"}


async def test_a_webhook_hears_of_everything_that_it_asks_for(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """The start, the progress, each artifact and the end."""
    job = request(workflows.text_to_image(steps=4))
    async with WebhookReceiver() as receiver, worker_on(comfyui, tmp_path) as worker:
        result = await worker.run(hooked(job, receiver, events=ALL))
        async with asyncio.timeout(30):
            while not {"started", "artifact", "completed"} <= {arrival.told["event"] for arrival in receiver.arrived}:
                await receiver.wait(len(receiver.arrived) + 1)
    by_event = {arrival.told["event"]: arrival.told for arrival in receiver.arrived}
    assert by_event["started"]["status"] == "generating"
    assert [entry["filename"] for entry in by_event["artifact"]["output"]] == [result.artifacts[0].name]
    assert set(by_event) <= {"started", "progress", "artifact", "completed"}
    progress = [arrival.told["progress"]["value"] for arrival in receiver.arrived if "progress" in arrival.told]
    assert all(0 <= value <= 1 for value in progress)


async def test_a_webhook_hears_of_a_job_that_was_canceled(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """Before the caller goes on."""
    watch = Watch()
    async with WebhookReceiver() as receiver, worker_on(comfyui, tmp_path) as worker:
        job = hooked(request(workflows.wait(steps=1000, seconds_per_step=1)), receiver)
        running = asyncio.ensure_future(worker.run(job, on_progress=watch))
        await watch.until_message("executing")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        [arrival] = await receiver.wait(1)
    assert (arrival.told["id"], arrival.told["status"], arrival.told["event"]) == (job.id, "cancelled", "cancelled")


async def test_a_receiver_that_fails_does_not_hold_the_answer_up(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """What is left when the worker ends is delivered by the next one, once, under the same id."""
    job = request(workflows.colour((1, 2, 3)))
    async with WebhookReceiver(Answer(503)) as receiver:
        async with worker_on(comfyui, tmp_path) as worker:
            result = await worker.run(hooked(job, receiver))
            assert result.error is None
            await receiver.wait(1)
        assert len(list((tmp_path / "webhooks").glob("*.json"))) == 1
        async with worker_on(comfyui, tmp_path):
            first, second = await receiver.wait(2)
    assert first.id == second.id
    assert second.told["id"] == job.id


async def test_a_webhook_that_cannot_be_is_refused_before_anything_runs(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """A client that asks for a call wants it, and hears of it now."""
    job = request(workflows.colour((1, 2, 3)))
    wrong = job.model_copy(update={"webhook": WebhookOptions(url="ftp://example.com")})
    async with worker_on(comfyui, tmp_path) as worker:
        result = await worker.run(wrong)
    assert result.error is not None
    assert (result.error.code, result.prompt_id) == ("invalid_request", None)


async def test_the_body_holds_urls_where_the_answer_does(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """What is delivered is told of as it was delivered."""
    job = request(workflows.colour((1, 2, 3))).model_copy(update={"output": Output(delivery=DeliveryMode.URL)})
    async with WebhookReceiver() as receiver, worker_on(comfyui, tmp_path, KEEP_OUTPUTS="true") as worker:
        result = await worker.run(hooked(job, receiver))
        [arrival] = await receiver.wait(1)
    assert [entry["url"] for entry in arrival.told["output"]] == [result.artifacts[0].url]
