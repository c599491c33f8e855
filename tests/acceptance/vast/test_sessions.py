"""Sessions over real sockets: the SDK's routes, status codes and keys, and what becomes of the jobs in them."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support import workflows
from support.eventually import eventually
from support.real_comfyui import RealComfyUI
from support.serving import Serving, post
from support.vast_platform import VastPlatform
from support.vast_worker import envelope, plain_session, vast_worker
from support.webhook_receiver import WebhookReceiver

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def opened(client: aiohttp.ClientSession, platform: VastPlatform, **wish: object) -> dict[str, Any]:
    """Open a session; return what names it: `session_id` and `session_auth`."""
    asked = envelope(platform, wish)
    code, answer = await post(client, "/session/create", asked)
    assert (code, set(answer)) == (201, {"session_id", "expiration"}), answer
    return {"session_id": answer["session_id"], "session_auth": asked["auth_data"]}


def within(session: dict[str, Any], workflow: object, **more: object) -> dict[str, Any]:
    """Return a request for a job within a session, as Vast's client sends it."""
    payload = {"input": {"workflow_json": workflow, **more}}
    return {"auth_data": session["session_auth"], "session_id": session["session_id"], "payload": payload}


async def test_a_session_from_its_begin_to_its_end(client: aiohttp.ClientSession, platform: VastPlatform) -> None:
    """Whoever opened it is shown it and served in it; after its end requests get 410, and Vast is told once."""
    session = await opened(client, platform, lifetime=40)
    code, shown = await post(client, "/session/get", session)
    assert (code, shown["session_id"], shown["lifetime"]) == (200, session["session_id"], 40.0)
    assert set(shown) == {
        *("session_id", "auth_data", "lifetime", "expiration", "created_at", "on_close_route", "on_close_payload")
    }
    codes = [(await post(client, "/generate/sync", within(session, workflows.noise())))[0] for _ in range(2)]
    _, later = await post(client, "/session/get", session)
    assert (codes, later["expiration"] > shown["expiration"]) == ([200, 200], True)
    at_work = await platform.until_status(lambda status: status["num_requests_working"] == 1)
    assert at_work["working_request_idxs"] == [session["session_auth"]["request_idx"]]
    assert platform.deletes == []
    ended = await post(client, "/session/end", session)
    assert ended == (200, {"ended": True, "removed_session": session["session_id"]})
    assert await post(client, "/session/health", session) == (200, {"ok": False})
    assert (await post(client, "/session/get", session))[0] == 400
    assert (await post(client, "/session/end", session))[0] == 400
    assert (await post(client, "/generate/sync", within(session, workflows.noise())))[0] == 410
    told = await platform.until_deleted(1)
    assert [(one["request_idx"], one["status"]) for one in told] == [
        (session["session_auth"]["request_idx"], "Success")
    ]


async def test_a_session_belongs_to_who_opened_it(client: aiohttp.ClientSession, platform: VastPlatform) -> None:
    """Another client's auth_data, though signed, neither ends it nor runs a job in it; unsigned, none opens."""
    session = await opened(client, platform)
    other = {**session, "session_auth": platform.route()}
    assert await post(client, "/session/health", session) == (200, {"ok": True})
    refused = [await post(client, f"/session/{route}", other) for route in ("health", "get", "end")]
    refused.append(await post(client, "/generate/sync", within(other, workflows.noise())))
    unsigned = {**envelope(platform, {}), "auth_data": {**platform.route(), "signature": "AAAA"}}
    refused.append(await post(client, "/session/create", unsigned))
    assert [code for code, _ in refused] == [401] * 5
    assert (await post(client, "/session/end", {}))[0] == 422
    assert (await post(client, "/session/create", envelope(platform, {"lifetime": -1})))[0] == 422
    assert (await post(client, "/session/end", session))[0] == 200


async def test_the_end_of_a_session_cancels_what_is_waited_for(
    client: aiohttp.ClientSession, platform: VastPlatform, tmp_path: Path
) -> None:
    """A client that waits within it gets 499; a job that nobody waits for goes on, and is read without it."""
    session, gate = await opened(client, platform), tmp_path / "gate"
    code, _ = await post(client, "/generate", within(session, workflows.wait(until_file=gate), request_id="on"))
    assert code == 202
    async with asyncio.TaskGroup() as group:
        body = within(session, workflows.wait(until_file=tmp_path / "never"), request_id="waited")
        waiting = group.create_task(post(client, "/generate/sync", body))

        async def is_known() -> bool:
            return (await post(client, "/result/waited", {**body, "payload": {}}))[0] == 200

        await eventually(is_known)
        await post(client, "/session/end", session)
    assert (waiting.result()[0], waiting.result()[1]["status"]) == (499, "cancelled")
    gate.touch()

    async def is_done() -> bool:
        _, answer = await post(client, "/result/on", envelope(platform, {}))
        return bool(answer["status"] == "completed")

    await eventually(is_done, within_s=30)


async def test_sessions_are_few_and_end_by_themselves(comfyui: RealComfyUI, tmp_path: Path) -> None:
    """MAX_SESSIONS at a time, else 429; one that is not used ends after its lifetime, and whom it names is told."""
    environ = {"MAX_SESSIONS": "1", "ALLOW_PRIVATE_URLS": "true"}
    async with (
        WebhookReceiver() as receiver,
        VastPlatform() as platform,
        vast_worker(comfyui.url, tmp_path / "state", platform, environ=environ) as worker,
        plain_session(worker) as client,
    ):
        await platform.until_status(lambda status: status["max_perf"] > 0)
        wish = {"on_close_route": receiver.url(), "on_close_payload": {"mine": 1}}
        session = await opened(client, platform, lifetime=1, **wish)
        async with client.post("/session/create", json=envelope(platform, {})) as refused:
            assert (refused.status, (await refused.json())["error_code"]) == (429, "too_busy")
            assert refused.headers["Retry-After"] == "1"
        [arrival] = await receiver.wait(1)
        assert arrival.told == {"mine": 1, "session_id": session["session_id"]}
        assert await post(client, "/session/health", session) == (200, {"ok": False})
        await opened(client, platform)
        await platform.until_deleted(2)
        assert sorted(told["status"] for told in platform.deletes) == ["Rejected", "Success"]


async def test_nobody_near_the_worker_is_called(client: aiohttp.ClientSession, platform: VastPlatform) -> None:
    """A session's on_close_route must be a public URL: not the machine's own, a cloud's metadata, or a mere path."""
    for route in ("http://127.0.0.1:1/x", "http://169.254.169.254/latest", "/relative", 7):
        code, answer = await post(client, "/session/create", envelope(platform, {"on_close_route": route}))
        assert (code, "on_close_route" in answer["error"]) == (422, True), route


async def test_the_worker_does_not_update_itself(
    worker: Serving, client: aiohttp.ClientSession, platform: VastPlatform
) -> None:
    """/pyworker/update is Vast's alone, and is told that nothing was done."""
    assert (await post(client, "/pyworker/update", {}))[0] == 401
    code, answer = await post(client, "/pyworker/update", {}, Authorization="Bearer t0ken-of-the-master")
    assert (code, answer["ok"]) == (501, False)
    assert worker.process.returncode is None
    assert platform.deletes == []
