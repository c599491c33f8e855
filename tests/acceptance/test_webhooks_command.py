"""`comfyworker webhooks` as its user calls it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from comfyworker.jobs import JobRequest, WebhookOptions
from comfyworker.webhooks.outbox import Outbox, StoredMessage
from support.command import Done, call, environment
from support.webhook_receiver import Answer, WebhookReceiver
from support.webhooks import BODY, COMPLETED, make


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookReceiver]:
    """Return a running receiver."""
    async with WebhookReceiver() as receiver:
        yield receiver


async def put(state: Path, receiver: WebhookReceiver, *job_ids: str) -> None:
    """Have a message of each job on its way, as a worker leaves it that has ended."""
    async with make(state / "webhooks") as webhooks:
        options = WebhookOptions(url=receiver.url())
        hooks = [webhooks.hook_for(JobRequest(id=job_id, webhook=options)) for job_id in job_ids]
    for hook in hooks:
        assert hook is not None
        await webhooks.put(hook, COMPLETED, BODY)


async def command(state: Path, *args: str) -> Done:
    """Run the command, whose worker keeps its state in `state`."""
    environ = environment(STATE_DIR=str(state), ALLOW_PRIVATE_URLS="true")
    return await asyncio.to_thread(call, "webhooks", *args, environ=environ, cwd=state.parent)


async def test_nothing_on_its_way(tmp_path: Path) -> None:
    """A folder that is not there has no messages, and is not made."""
    state = tmp_path / "state"
    assert (await command(state, "list", "--json")).json() == []
    done = await command(state, "list")
    assert (done.code, done.out, done.err) == (0, "", "no webhook is on its way\n")
    assert not await asyncio.to_thread(state.exists)


async def test_messages_are_listed(tmp_path: Path, receiver: WebhookReceiver) -> None:
    """Where each goes is told, but no more of a URL than its host."""
    await put(tmp_path, receiver, "job-1", "job-2")
    first, second = (await command(tmp_path, "list", "--json")).json()
    assert (first["job_id"], second["job_id"], first["event"]) == ("job-1", "job-2", "completed")
    assert first["host"] == f"http://127.0.0.1:{receiver.port}/…"
    assert first["due_at"] == pytest.approx(first["created_at"], abs=0.001)
    done = await command(tmp_path, "list")
    assert [line.split()[0] for line in done.out.splitlines()] == ["id", first["id"], second["id"]]
    assert "5ecre7" not in done.out + done.err


async def test_a_host_without_a_name_is_listed_whole(tmp_path: Path) -> None:
    """Brackets are part of it."""
    async with make(tmp_path / "webhooks") as webhooks:
        hook = webhooks.hook_for(JobRequest(id="job", webhook=WebhookOptions(url="http://[fd00::5]/x")))
    assert hook is not None
    await webhooks.put(hook, COMPLETED, BODY)
    assert "http://[fd00::5]/…" in (await command(tmp_path, "list")).out


async def test_a_message_is_sent_now(tmp_path: Path, receiver: WebhookReceiver) -> None:
    """What is taken is gone, what is not stays, and the exit code tells."""
    await put(tmp_path, receiver, "job-1", "job-2", "job-3")
    receiver.answers.extend([Answer(204), Answer(410)])
    done = await command(tmp_path, "retry", "job-1", "job-2")
    assert done.code == 1
    assert [line.split(" ", 1)[1] for line in done.out.splitlines()] == [
        "delivered: it answered with status 204",
        "failed: it answered with status 410",
    ]
    assert [item.envelope.job_id for item in Outbox(tmp_path / "webhooks").pending()] == ["job-2", "job-3"]
    done = await command(tmp_path, "retry", "--json")
    assert (done.code, [item["outcome"] for item in done.json()]) == (0, ["delivered", "delivered"])
    assert len(receiver.arrived) == 4


async def test_a_message_in_a_workers_hands_is_left_to_it(tmp_path: Path, receiver: WebhookReceiver) -> None:
    """Nothing is sent twice at the same time."""
    await put(tmp_path, receiver, "job-1")
    [item] = Outbox(tmp_path / "webhooks").pending()
    stored = StoredMessage(item.path, item.envelope)
    stored.take()
    done = await command(tmp_path, "retry")
    stored.release()
    assert (done.code, done.out) == (1, f"{item.envelope.id} busy: a worker is sending it right now\n")
    assert receiver.arrived == []


async def test_messages_are_dropped(tmp_path: Path, receiver: WebhookReceiver) -> None:
    """By the id of the message or of its job, or all of them; without either, nothing."""
    await put(tmp_path, receiver, "job-1", "job-2", "job-3", "job-4")
    ids = [item.envelope.id for item in Outbox(tmp_path / "webhooks").pending()]
    assert (await command(tmp_path, "drop", "job-1", ids[1])).out == f"{ids[0]} dropped\n{ids[1]} dropped\n"
    done = await command(tmp_path, "drop")
    assert (done.code, done.err) == (2, "give either ids or --all\n")
    assert (await command(tmp_path, "drop", "--all")).code == 0
    assert Outbox(tmp_path / "webhooks").pending() == []
    assert receiver.arrived == []


@pytest.mark.parametrize("verb", ["retry", "drop"])
async def test_an_id_that_means_nothing(tmp_path: Path, receiver: WebhookReceiver, verb: str) -> None:
    """Nothing is done, and the error names it."""
    await put(tmp_path, receiver, "job-1")
    done = await command(tmp_path, verb, "job-1", "job-9")
    assert done.code == 1
    assert "has the id job-9" in done.err
    assert len(Outbox(tmp_path / "webhooks").pending()) == 1
    assert receiver.arrived == []
