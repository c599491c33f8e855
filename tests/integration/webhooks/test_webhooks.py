"""Webhooks on real receivers: what arrives, in which order, and what is never shown."""

import asyncio
import hashlib
import hmac
from pathlib import Path

import pytest
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult
from pydantic import JsonValue, SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from comfyworker.errors import InvalidRequest, InvalidSettings
from comfyworker.jobs import JobRequest, WebhookEvent
from comfyworker.outbound import addresses, sessions
from comfyworker.settings import WebhookSettings
from support.eventually import eventually
from support.ports import free_port
from support.webhook_receiver import Answer, WebhookReceiver
from support.webhooks import BODY, COMPLETED, asks, hook_of, kept, make, named

SECRET = "whsec_NWVjcmU3NWVjcmU3NWVjcmU3NWVjcmU3"


async def test_a_message_is_told_signed_and_gone(receiver: WebhookReceiver, folder: Path) -> None:
    """The real library verifies it, and so does a client of comfyui-api-wrapper; nothing is left on disk."""
    async with make(folder) as webhooks:
        hook = hook_of(webhooks, receiver.url(), secret=SECRET, extra_params={"order": 7, "status": "mine"})
        await webhooks.put(hook, COMPLETED, BODY)
    [arrival] = receiver.arrived
    assert arrival.path == "/hook?token=5ecre7"
    assert arrival.headers["Content-Type"] == "application/json"
    extra = {"order": 7, "status": "mine"}
    assert Webhook(SECRET).verify(arrival.body, dict(arrival.headers)) == {
        **BODY,
        "event": "completed",
        "extra": extra,
        "order": 7,
    }
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(arrival.body + b" ", dict(arrival.headers))
    digest = hmac.new(SECRET.encode(), arrival.body, hashlib.sha256).hexdigest()
    assert arrival.headers["X-Webhook-Signature"] == f"sha256={digest}"
    assert kept(folder) == []


async def test_base64_arrives_whole(receiver: WebhookReceiver, folder: Path) -> None:
    """Megabytes are sent as they are, up to WEBHOOK_MAX_BYTES."""
    output: list[JsonValue] = [{"filename": "a", "data": "a" * 4_000_000}, {"filename": "b", "data": "b" * 7_000_000}]
    async with make(folder) as webhooks:
        await webhooks.put(hook_of(webhooks, receiver.url(), secret=SECRET), COMPLETED, {**BODY, "output": output})
    [arrival] = receiver.arrived
    Webhook(SECRET).verify(arrival.body, dict(arrival.headers))
    assert arrival.told["output"] == [output[0], {"filename": "b", "data_omitted": True}]


async def test_the_workers_own_webhook_is_told_of_every_end(receiver: WebhookReceiver, folder: Path) -> None:
    """WEBHOOK_URL may lead to a private network and have a password; WEBHOOK_SECRET signs."""
    url = receiver.url().replace("//", "//user:pass@")
    settings = WebhookSettings(url=url, secret=SecretStr(SECRET))
    async with make(folder, settings, allow_private_urls=False) as webhooks:
        hook = webhooks.hook_for(JobRequest(id="job-1"))
        assert hook is not None
        await webhooks.put(hook, WebhookEvent.STARTED, BODY)
        await webhooks.put(hook, WebhookEvent.FAILED, BODY)
    [arrival] = receiver.arrived
    assert Webhook(SECRET).verify(arrival.body, dict(arrival.headers)) == {**BODY, "event": "failed"}
    assert arrival.headers["Authorization"].startswith("Basic ")


@pytest.mark.parametrize("secret", ["", None])
async def test_without_a_secret_nothing_is_signed(receiver: WebhookReceiver, folder: Path, secret: str | None) -> None:
    """An empty secret of the request wins over the worker's; the id and time are there all the same."""
    settings = WebhookSettings(secret=None if secret is None else SecretStr(SECRET))
    async with make(folder, settings) as webhooks:
        await webhooks.put(hook_of(webhooks, receiver.url(), secret=secret), COMPLETED, BODY)
    [arrival] = receiver.arrived
    assert {"webhook-signature", "X-Webhook-Signature"} & set(arrival.headers) == set()
    assert {"webhook-id", "webhook-timestamp"} <= set(arrival.headers)


async def test_messages_of_one_job_go_out_in_their_order(receiver: WebhookReceiver, folder: Path) -> None:
    """A later event does not overtake an earlier one that is still on its first way."""
    receiver.answers.append(Answer("hang"))
    async with make(folder) as webhooks:
        hook = hook_of(webhooks, receiver.url(), events=frozenset(WebhookEvent))
        await webhooks.put(hook, WebhookEvent.STARTED, BODY)
        await webhooks.put(hook, WebhookEvent.ARTIFACT, BODY, key="a.png")
        await webhooks.put(hook, WebhookEvent.ARTIFACT, BODY, key="b.png")
        await webhooks.put(hook, COMPLETED, BODY)
        await receiver.wait(1)
        receiver.ends.set()
        arrivals = await receiver.wait(4)
    assert [arrival.told["event"] for arrival in arrivals] == ["started", "artifact", "artifact", "completed"]
    assert len({arrival.id for arrival in arrivals}) == 4


async def test_a_failing_first_message_does_not_hold_up_the_last(receiver: WebhookReceiver, folder: Path) -> None:
    """Only first attempts wait for each other."""
    receiver.answers.append(Answer(503))
    async with make(folder, pauses=lambda _: 1000.0) as webhooks:
        hook = hook_of(webhooks, receiver.url(), events=frozenset(WebhookEvent))
        await webhooks.put(hook, WebhookEvent.STARTED, BODY)
        await webhooks.put(hook, COMPLETED, BODY)
        arrivals = await receiver.wait(2)
    assert [arrival.told["event"] for arrival in arrivals] == ["started", "completed"]
    assert len(kept(folder)) == 1


async def test_of_progress_only_the_latest_is_told(receiver: WebhookReceiver, folder: Path) -> None:
    """What comes while one is on its way is told once, by the last of it; one that fails is not tried again."""
    receiver.answers.extend([Answer("hang"), Answer(503)])
    async with make(folder) as webhooks:
        hook = hook_of(webhooks, receiver.url(), events=frozenset(WebhookEvent))
        await webhooks.put(hook, WebhookEvent.PROGRESS, {"value": 0.0})
        await receiver.wait(1)
        for value in (0.1, 0.2, 0.3):
            await webhooks.put(hook, WebhookEvent.PROGRESS, {"value": value})
        receiver.ends.set()
        arrivals = await receiver.wait(2)
        await webhooks.put(hook, COMPLETED, BODY)
        await receiver.wait(3)
    assert [arrival.told.get("value") for arrival in arrivals] == [0.0, 0.3]
    assert (len(receiver.arrived), kept(folder)) == (3, [])


async def test_no_progress_is_told_after_the_end(receiver: WebhookReceiver, folder: Path) -> None:
    """What hangs or waits of it is dropped when the job has ended, and what comes later too."""
    receiver.answers.append(Answer("hang"))
    async with make(folder) as webhooks:
        hook = hook_of(webhooks, receiver.url(), events=frozenset(WebhookEvent))
        await webhooks.put(hook, WebhookEvent.PROGRESS, {"value": 0.0})
        await receiver.wait(1)
        await webhooks.put(hook, WebhookEvent.PROGRESS, {"value": 0.1})
        await webhooks.put(hook, COMPLETED, BODY)
        await webhooks.put(hook, WebhookEvent.PROGRESS, {"value": 0.2})
        arrivals = await receiver.wait(2)
    assert [arrival.told["event"] for arrival in arrivals] == ["progress", "completed"]
    assert len(receiver.arrived) == 2


async def test_progress_that_has_not_begun_is_dropped_at_the_end(receiver: WebhookReceiver, folder: Path) -> None:
    """Progress and the end in one breath: only the end is told."""
    async with make(folder) as webhooks:
        hook = hook_of(webhooks, receiver.url(), events=frozenset(WebhookEvent))
        await webhooks.put(hook, WebhookEvent.PROGRESS, {"value": 0.1})
        await webhooks.put(hook, COMPLETED, BODY)
    assert [arrival.told["event"] for arrival in receiver.arrived] == ["completed"]


async def test_a_cancelled_put_is_told_all_the_same(receiver: WebhookReceiver, folder: Path) -> None:
    """Who is cancelled while a message is written down hears of it, and the message goes out."""
    async with make(folder) as webhooks:
        hook = hook_of(webhooks, receiver.url())
        putting = asyncio.get_running_loop().create_task(webhooks.put(hook, COMPLETED, BODY))
        await asyncio.sleep(0)
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        await receiver.wait(1)


async def test_a_repeated_job_has_the_same_message_ids(receiver: WebhookReceiver, folder: Path) -> None:
    """A platform that hands a job out twice makes two messages, which the receiver can tell to be one."""
    async with make(folder) as webhooks:
        for _ in range(2):
            await webhooks.put(hook_of(webhooks, receiver.url()), COMPLETED, BODY)
        first, second = await receiver.wait(2)
    assert first.id == second.id


class Names(AbstractResolver):
    """A name server that knows one address for all names."""

    def __init__(self, *answers: str) -> None:
        """Answer with one address after the other, and then with the last."""
        self.answers = list(answers)

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        """Return the next answer."""
        del family
        address = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [ResolveResult(hostname=host, host=address, port=port, family=2, proto=0, flags=0)]

    async def close(self) -> None:
        """Do nothing."""


async def test_a_name_that_leads_to_a_private_network_is_not_called(receiver: WebhookReceiver, folder: Path) -> None:
    """What a request's name resolves to is looked at when the connection is made, and refused for good."""
    with structlog.testing.capture_logs() as events:
        async with make(folder, allow_private_urls=False, resolver=Names("127.0.0.1")) as webhooks:
            await webhooks.put(hook_of(webhooks, receiver.url(host="a.example")), COMPLETED, BODY)
    [event] = named(events, "webhooks.given_up")
    assert event["reason"] == "it leads to a loopback address, which is not called"
    assert (receiver.arrived, kept(folder)) == ([], [])


async def test_each_attempt_is_looked_at_anew(
    receiver: WebhookReceiver, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that was public at the first attempt is refused when it has become private."""
    real = addresses.refusal

    def refusal(address: str, *, allow_private: bool) -> str | None:
        return None if address == "127.0.0.2" else real(address, allow_private=allow_private)

    monkeypatch.setattr(sessions, "refusal", refusal)
    receiver.answers.append(Answer(503))
    with structlog.testing.capture_logs() as events:
        async with make(folder, allow_private_urls=False, resolver=Names("127.0.0.2", "127.0.0.1")) as webhooks:
            await webhooks.put(hook_of(webhooks, receiver.url(host="a.example")), COMPLETED, BODY)
            await eventually(lambda: named(events, "webhooks.given_up"))
    assert len(receiver.arrived) == 1


async def test_a_private_address_is_refused_before_the_job(folder: Path) -> None:
    """Where the URL has the address itself, the request is refused at once."""
    async with make(folder, allow_private_urls=False) as webhooks:
        with pytest.raises(InvalidRequest) as caught:
            webhooks.hook_for(asks("http://10.0.0.1/hook"))
    assert caught.value.problems[0].path == "webhook.url"


async def test_a_webhook_url_that_is_none_stops_the_start(folder: Path) -> None:
    """WEBHOOK_URL is looked at when the worker starts, not when the first job ends."""
    with pytest.raises(InvalidSettings):
        make(folder, WebhookSettings(url="example.com/hook"))


async def test_nothing_of_a_url_or_secret_is_logged(
    receiver: WebhookReceiver, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Logs have hosts only, whatever comes of a message."""
    receiver.answers.extend([Answer(503), Answer(404), Answer("cut"), Answer(200)])
    urls = [receiver.url(), f"http://127.0.0.1:{free_port()}/5ecre7", f"https://127.0.0.1:{receiver.port}/5ecre7"]
    with structlog.testing.capture_logs() as events:
        async with make(folder, WebhookSettings(retry_within_s=0.2)) as webhooks:
            for url in urls * 2:
                hook = hook_of(webhooks, url, secret="5ecre7", extra_params={"a": "5ecre7"})
                await webhooks.put(hook, COMPLETED, BODY)
            await eventually(lambda: kept(folder) == [])
    assert len(named(events, "webhooks.given_up")) >= 4
    assert [event for event in events if "5ecre7" in str(event)] == []
    assert "5ecre7" not in "".join(capfd.readouterr())
