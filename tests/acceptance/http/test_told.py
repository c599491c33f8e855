"""Webhooks of jobs that came over HTTP."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from support import workflows
from support.eventually import eventually
from support.real_comfyui import RealComfyUI
from support.serving import Serving, serving, session
from support.webhook_receiver import WebhookReceiver

OPEN = {"ALLOW_PRIVATE_URLS": "true"}
PNG = b"\x89PNG"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_server(
    _shared_comfyui: RealComfyUI, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Serving]:
    """Start a server that may call this machine."""
    async with serving(_shared_comfyui.url, tmp_path_factory.mktemp("server") / "state", environ=OPEN) as server:
        yield server


@pytest.fixture
async def client(server: Serving) -> AsyncIterator[aiohttp.ClientSession]:
    """Open a plain client."""
    async with session(server) as client:
        yield client


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookReceiver]:
    """Listen for webhooks."""
    async with WebhookReceiver() as receiver:
        yield receiver


async def post(client: aiohttp.ClientSession, path: str, body: object = None) -> Any:
    """POST JSON; return the answer."""
    async with client.post(path, json=body) as answer:
        return await answer.json()


async def test_runpods_webhook_hears_what_status_says(client: aiohttp.ClientSession, receiver: WebhookReceiver) -> None:
    """A `webhook` beside `input` gets the body of /status, for good jobs and bad ones."""
    good = {"input": {"workflow": workflows.colour((1, 2, 3))}, "webhook": receiver.url()}
    answer = await post(client, "/runsync", good)
    [arrival] = await receiver.wait(1)
    assert answer["status"] == "COMPLETED"
    assert arrival.told == {**answer, "event": "completed"}
    graph = {**workflows.colour((1, 1, 1)), "3": workflows.node("TestRaise", exception="ValueError", message="bang")}
    answer = await post(client, "/runsync", {"input": {"workflow": graph}, "webhook": receiver.url()})
    [_, arrival] = await receiver.wait(2)
    assert answer["status"] == "FAILED"
    assert arrival.told == {**answer, "event": "failed"}


async def test_a_webhook_in_the_input_hears_in_its_own_words(
    client: aiohttp.ClientSession, receiver: WebhookReceiver
) -> None:
    """It is told in PyWorker's words, with base64 as the client gets it, of each file and of the end."""
    events = ["started", "artifact", "completed"]
    hook = {"url": receiver.url(), "extra_params": {"order": 7}, "events": events}
    body = {"input": {"workflow": workflows.colour((1, 2, 3)), "webhook": hook}}
    answer = await post(client, "/generate/sync", body)
    told = [arrival.told for arrival in await receiver.wait(3)]
    assert [each["event"] for each in told] == events
    assert {each["id"] for each in told} == {answer["id"]}
    assert told[-1]["output"] == answer["output"]
    assert told[-1]["extra"] == {"order": 7}
    assert base64.b64decode(told[-1]["output"][0]["data"]).startswith(PNG)
    async with aiohttp.ClientSession() as anybody, anybody.get(told[1]["output"][0]["url"]) as file:
        assert (file.status, (await file.read()).startswith(PNG)) == (200, True)


async def test_files_are_told_as_urls_where_the_client_wants_urls(
    client: aiohttp.ClientSession, receiver: WebhookReceiver
) -> None:
    """The URL is signed, so that the receiver needs no key."""
    given = {"workflow": workflows.colour((1, 2, 3)), "output": {"delivery": "url"}, "webhook": {"url": receiver.url()}}
    await post(client, "/generate/sync", {"input": given})
    [arrival] = await receiver.wait(1)
    [entry] = arrival.told["output"]
    assert "data" not in entry
    async with aiohttp.ClientSession() as anybody, anybody.get(entry["url"]) as file:
        assert (file.status, (await file.read()).startswith(PNG)) == (200, True)


async def test_files_of_comfy_api_v2s_jobs_are_told_as_urls_of_the_server(
    client: aiohttp.ClientSession, receiver: WebhookReceiver, server: Serving
) -> None:
    """Whoever hears of them can read them."""
    await post(client, "/api/v2/jobs", {"workflow": workflows.colour((1, 2, 3)), "webhook": {"url": receiver.url()}})
    [arrival] = await receiver.wait(1)
    assert server.url in str(arrival.told)


async def test_a_job_that_never_ran_is_told_of(
    client: aiohttp.ClientSession, receiver: WebhookReceiver, tmp_path: Path
) -> None:
    """Also who cancels a job in the queue, or lets it wait too long, has its receiver hear of it."""
    gate = {"input": {"workflow": workflows.wait(until_file=tmp_path / "never")}}
    blocking = [(await post(client, "/run", gate))["id"] for _ in range(4)]
    waiting = await post(client, "/run", {**gate, "webhook": receiver.url()})
    await post(client, f"/cancel/{waiting['id']}")
    [arrival] = await receiver.wait(1)
    assert arrival.told == {**arrival.told, "id": waiting["id"], "status": "CANCELLED", "event": "cancelled"}
    late = await post(client, "/run", {**gate, "webhook": receiver.url(), "policy": {"ttl": 200}})
    [_, arrival] = await receiver.wait(2)
    assert arrival.told == {**arrival.told, "id": late["id"], "status": "TIMED_OUT", "event": "failed"}
    for job_id in blocking:
        await post(client, f"/cancel/{job_id}")


async def test_a_job_that_is_handed_back_is_told_of_once(
    comfyui: RealComfyUI, receiver: WebhookReceiver, tmp_path: Path
) -> None:
    """A server that goes down says nothing of the jobs that it leaves to the next one."""
    gate = tmp_path / "gate"
    body = {"input": {"workflow": workflows.wait(until_file=gate)}, "webhook": receiver.url()}
    environ = {**OPEN, "DRAIN_TIMEOUT_S": "0"}
    async with serving(comfyui.url, tmp_path / "state", environ=environ) as server, session(server) as client:
        job_id = (await post(client, "/run", body))["id"]
        await eventually(lambda: is_running(client, job_id))
    gate.touch()
    async with serving(comfyui.url, tmp_path / "state", environ=environ):
        [arrival] = await receiver.wait(1)
    assert [each.told["status"] for each in receiver.arrived] == ["COMPLETED"]
    assert arrival.told["id"] == job_id


async def is_running(client: aiohttp.ClientSession, job_id: str) -> bool:
    """Tell whether a job has begun."""
    async with client.get(f"/status/{job_id}") as answer:
        return bool((await answer.json())["status"] == "IN_PROGRESS")
