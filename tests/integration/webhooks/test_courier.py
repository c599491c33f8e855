"""Receivers that fail: how often a message is tried, and when it is given up."""

import time
from pathlib import Path

import pytest
import structlog

from comfyworker.settings import WebhookSettings
from comfyworker.webhooks.outbox import Outbox
from support.eventually import eventually
from support.ports import free_port
from support.webhook_receiver import Answer, WebhookReceiver
from support.webhooks import BODY, COMPLETED, hook_of, kept, make, named


@pytest.mark.parametrize("what", [500, 503, 429, 408, 425, "cut"])
async def test_what_may_pass_is_tried_again(receiver: WebhookReceiver, folder: Path, what: int) -> None:
    """A receiver that fails for a while hears the message in the end: the same bytes under the same id."""
    receiver.answers.extend([Answer(what)] * 3)
    async with make(folder) as webhooks:
        await webhooks.put(hook_of(webhooks, receiver.url()), COMPLETED, BODY)
        first, *others = await receiver.wait(4)
        await eventually(lambda: kept(folder) == [])
    assert {(other.id, other.body) for other in others} == {(first.id, first.body)}
    assert len(receiver.arrived) == 4


async def test_a_receiver_that_hangs_is_asked_again(receiver: WebhookReceiver, folder: Path) -> None:
    """An attempt ends after its time, which the request may set."""
    receiver.answers.append(Answer("hang"))
    async with make(folder) as webhooks:
        await webhooks.put(hook_of(webhooks, receiver.url(), timeout_s=0.2), COMPLETED, BODY)
        await receiver.wait(2)
        await eventually(lambda: kept(folder) == [])


async def test_a_receiver_that_comes_up_later_hears_it(folder: Path) -> None:
    """A refused connection is tried again."""
    port = free_port()
    async with make(folder) as webhooks:
        with structlog.testing.capture_logs() as events:
            await webhooks.put(hook_of(webhooks, f"http://127.0.0.1:{port}/"), COMPLETED, BODY)
            await eventually(lambda: named(events, "webhooks.put_off"))
        async with WebhookReceiver(port=port) as receiver:
            await receiver.wait(1)
            await eventually(lambda: kept(folder) == [])


@pytest.mark.parametrize("status", [301, 302, 400, 401, 404, 410, 413])
async def test_what_lasts_is_given_up(receiver: WebhookReceiver, folder: Path, status: int) -> None:
    """A redirect is not followed, a refusal not repeated; one warning tells where, how often and why."""
    receiver.answers.append(Answer(status, {"Location": receiver.url("/elsewhere")}))
    with structlog.testing.capture_logs() as events:
        async with make(folder) as webhooks:
            await webhooks.put(hook_of(webhooks, receiver.url()), COMPLETED, BODY)
            await eventually(lambda: named(events, "webhooks.given_up"))
    [event] = events
    assert (event["log_level"], event["status"], event["attempts"]) == ("warning", status, 1)
    assert event["host"] == f"http://127.0.0.1:{receiver.port}/…"
    assert (len(receiver.arrived), kept(folder)) == (1, [])


async def test_what_nobody_takes_in_time_is_given_up(receiver: WebhookReceiver, folder: Path) -> None:
    """When WEBHOOK_RETRY_WITHIN_S has passed since the message was made, it has one attempt more."""
    async with make(folder) as webhooks:
        hook = hook_of(webhooks, receiver.url())
    await webhooks.put(hook, COMPLETED, BODY)
    receiver.answers.append(Answer(503))
    with structlog.testing.capture_logs() as events:
        async with make(folder, WebhookSettings(retry_within_s=0)):
            await eventually(lambda: named(events, "webhooks.given_up"))
    assert (len(receiver.arrived), kept(folder)) == (1, [])


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_a_receiver_says_when_to_come_again(receiver: WebhookReceiver, folder: Path, form: str) -> None:
    """Retry-After is kept to, also over a restart, and never longer than messages are kept."""
    later = time.time() + 1000
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(later))
    receiver.answers.append(Answer(429, {"Retry-After": "1000" if form == "seconds" else date}))
    async with make(folder) as webhooks:
        await webhooks.put(hook_of(webhooks, receiver.url()), COMPLETED, BODY)
        [item] = await eventually(lambda: [item for item in Outbox(folder).pending() if item.due_at > later - 100])
    assert item.due_at < later + 100
    async with make(folder):
        pass
    assert (len(receiver.arrived), len(kept(folder))) == (1, 1)


async def test_a_receiver_cannot_have_a_message_kept_for_ever(receiver: WebhookReceiver, folder: Path) -> None:
    """A Retry-After beyond the message's life means its end."""
    receiver.answers.append(Answer(503, {"Retry-After": "999999999999"}))
    async with make(folder) as webhooks:
        await webhooks.put(hook_of(webhooks, receiver.url()), COMPLETED, BODY)
        [item] = await eventually(
            lambda: [item for item in Outbox(folder).pending() if item.due_at > time.time() + 100]
        )
    assert item.due_at == pytest.approx(item.envelope.created_at + 3600, abs=1)


async def test_a_host_that_hangs_leaves_room_for_the_others(folder: Path) -> None:
    """Messages to another host do not wait behind those that nobody answers."""
    async with WebhookReceiver(*[Answer("hang")] * 100) as hangs, WebhookReceiver() as answers:
        async with make(folder, leave_within_s=0.1) as webhooks:
            for _ in range(20):
                await webhooks.put(hook_of(webhooks, hangs.url()), COMPLETED, BODY)
            await webhooks.put(hook_of(webhooks, answers.url()), COMPLETED, BODY)
            await answers.wait(1)
        assert 1 <= len(hangs.arrived) <= 4
