"""Vast's own client library reaches the worker through Vast's router, over TLS, and finds what it expects."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import pytest_asyncio
from PIL import Image

from support import workflows
from support.eventually import eventually
from support.real_comfyui import RealComfyUI
from support.vast_platform import VastPlatform
from support.vast_sdk import VastClient, vast_client
from support.vast_worker import (
    certificate_variables,
    hear_all,
    make_instance_certificate,
    plain_session,
    vast_worker,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

SYNC = "/generate/sync"
LONG_TIME_S = 86400.0
"""So long that no other request may wait behind it."""


class Vast(NamedTuple):
    """A platform, and a client of the endpoint that the worker serves."""

    platform: VastPlatform
    client: VastClient
    session: aiohttp.ClientSession


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def _vast(_shared_comfyui: RealComfyUI, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Vast]:
    """Start a worker with a certificate which clients trust as they do Vast's, and a client."""
    folder = tmp_path_factory.mktemp("vast")
    certificate = make_instance_certificate(folder)
    environ = {**certificate_variables(certificate), "BENCHMARK_RUNS": "1"}
    async with (
        VastPlatform(root_certificate=certificate.file) as platform,
        vast_worker(_shared_comfyui.url, folder / "state", platform, environ=environ) as worker,
    ):
        assert worker.url.startswith("https://")
        await eventually(platform.is_ready, within_s=60)
        async with vast_client(platform, folder) as client, plain_session(worker, certificate) as session:
            yield Vast(platform, client, session)


@pytest_asyncio.fixture(loop_scope="module")
async def platform(_vast: Vast) -> VastPlatform:
    """Return the platform, which has forgotten what other tests did; its worker has nothing to do."""
    _vast.platform.covers = "url"
    await hear_all(_vast.platform, _vast.session, workflows.colour((5, 5, 5)))
    await _vast.platform.forget()
    return _vast.platform


@pytest.fixture
def client(_vast: Vast) -> VastClient:
    """Return the client."""
    return _vast.client


def job(workflow: object, *, expected_time: float = 5.0) -> dict[str, Any]:
    """Return a job whose files come in the answer."""
    return {"input": {"workflow_json": workflow, "return_outputs_as_base64": True}, "expected_time": expected_time}


def pixel(answer: dict[str, Any]) -> object:
    """Return the first pixel of an answer's picture."""
    [entry] = answer["output"]
    return Image.open(io.BytesIO(base64.b64decode(entry["data"]))).convert("RGB").getpixel((0, 0))


async def test_requests_side_by_side_get_their_own_pictures(client: VastClient, platform: VastPlatform) -> None:
    """Each answer has its own job's picture, and each job is reported as served."""
    colours = [(number, 2 * number, 200 - number) for number in range(1, 9)]
    async with asyncio.TaskGroup() as group:
        asked = [
            group.create_task(client.call("request", route=SYNC, payload=job(workflows.colour(rgb)), cost=43))
            for rgb in colours
        ]
    answers = [each.result() for each in asked]
    assert [(came["ok"], came["status"]) for came in answers] == [(True, 200)] * 8
    assert [pixel(came["response"]) for came in answers] == colours
    deletes = await platform.until_deleted(8)
    assert {told["request_idx"] for told in deletes} == {came["request_idx"] for came in answers}
    assert {(told["status"], told["success"]) for told in deletes} == {("Success", True)}


async def test_what_would_fail_again_is_told_once(client: VastClient, platform: VastPlatform) -> None:
    """The client does not try again, and its caller reads what was wrong."""
    failing, unknown = workflows.failing(message="no such luck"), {"1": workflows.node("NoSuchNode")}
    came = [await client.call("request", route=SYNC, payload=job(workflow)) for workflow in (failing, unknown)]
    assert [(each["ok"], each["status"]) for each in came] == [(False, 422)] * 2
    assert "no such luck" in json.dumps(came[0]["response"])
    assert "NoSuchNode" in json.dumps(came[1]["response"])
    assert len(platform.taken("/route/")) == 2
    deletes = await platform.until_deleted(2)
    assert [(told["status"], told["success"]) for told in deletes] == [("Error", False)] * 2


async def test_a_request_that_is_turned_away_comes_again_and_is_served(
    client: VastClient, platform: VastPlatform, tmp_path: Path
) -> None:
    """On 429 the client asks the router again, under the same request_idx, until there is room."""
    gate = tmp_path / "gate"
    long = job(workflows.wait(until_file=gate), expected_time=LONG_TIME_S)
    _, first = client.begin("request", route=SYNC, payload=long)
    try:
        await platform.until_status(lambda status: status["num_requests_working"] == 1)
        _, second = client.begin("request", route=SYNC, payload=job(workflows.colour((7, 8, 9))))
        await eventually(lambda: [told["status"] for told in platform.deletes][:1] == ["Rejected"], within_s=30)
    finally:
        gate.touch()
    assert (await first)["returned"]["status"] == 200
    came = (await second)["returned"]
    assert (came["status"], pixel(came["response"])) == (200, (7, 8, 9))
    await eventually(lambda: [told["status"] for told in platform.deletes].count("Success") == 2, within_s=30)
    told = [each["status"] for each in platform.deletes if each["request_idx"] == came["request_idx"]]
    assert (told[0], told[-1]) == ("Rejected", "Success")


async def test_a_retry_under_the_same_number_is_taken(
    client: VastClient, platform: VastPlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing promises that the router numbers a retry anew."""
    gate = tmp_path / "gate"
    long = job(workflows.wait(until_file=gate), expected_time=LONG_TIME_S)
    _, first = client.begin("request", route=SYNC, payload=long)
    try:
        await platform.until_status(lambda status: status["num_requests_working"] == 1)
        again = platform.route()
        monkeypatch.setattr(platform, "route", lambda **_: again)
        _, second = client.begin("request", route=SYNC, payload=job(workflows.colour((4, 5, 6))))
        await eventually(lambda: [told["status"] for told in platform.deletes][:1] == ["Rejected"], within_s=30)
    finally:
        gate.touch()
    assert (await first)["returned"]["status"] == 200
    assert (await second)["returned"]["status"] == 200
    refused = await client.call("request", route=SYNC, payload=job(workflows.colour((4, 5, 6))))
    assert refused["status"] == 401
    await eventually(lambda: [told["status"] for told in platform.deletes].count("Success") == 2, within_s=30)


async def test_progress_can_be_streamed(client: VastClient, platform: VastPlatform) -> None:
    """The SDK reads our server-sent events, the result last."""
    asked = job(workflows.wait(steps=3, rgb=(3, 2, 1)))
    came = await client.call("stream", route="/generate/stream", payload=asked)
    assert came["status"] == 200
    assert {event["status"] for event in came["events"][:-1]} >= {"generating"}
    assert came["events"][-1]["status"] == "final_result"
    assert pixel(came["events"][-1]["result"]) == (3, 2, 1)
    [delete] = await platform.until_deleted(1)
    assert delete["status"] == "Success"


async def test_a_session_keeps_its_worker(client: VastClient, platform: VastPlatform) -> None:
    """Requests in it carry its auth_data again and again, and are taken; once it is closed, no more."""
    opened = await client.call("open_session", cost=100, lifetime=60.0)
    number = opened["number"]
    for rgb in ((1, 2, 3), (4, 5, 6)):
        came = await client.call("session_request", number=number, route=SYNC, payload=job(workflows.colour(rgb)))
        assert (came["status"], pixel(came["response"])) == (200, rgb)
    found = await client.call("get_session", number=number)
    assert (found["lifetime"], found["auth_data"]) == (60.0, opened["auth_data"])
    assert await client.call("is_open", number=number)
    await client.call("close_session", number=number)
    kind, message = await client.raised_by(
        "session_request", number=number, route=SYNC, payload=job(workflows.colour((7, 8, 9)))
    )
    assert (kind, message) == ("ValueError", "Cannot make request on closed session.")
    [delete] = await platform.until_deleted(1)
    assert (delete["request_idx"], delete["status"]) == (opened["auth_data"]["request_idx"], "Success")


@pytest.mark.parametrize("covers", ["whole", "whole_without_index"])
async def test_an_older_router_is_understood(client: VastClient, platform: VastPlatform, covers: Any) -> None:
    """One that signs every field of auth_data."""
    platform.covers = covers
    came = await client.call("request", route=SYNC, payload=job(workflows.colour((9, 9, 1))), cost=43)
    assert (came["status"], pixel(came["response"])) == (200, (9, 9, 1))
    assert [told["status"] for told in await platform.until_deleted(1)] == ["Success"]
