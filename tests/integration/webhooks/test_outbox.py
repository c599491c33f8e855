"""Messages on disk: what outlives the worker, and several workers with one folder."""

import asyncio
import os
import sys
import time
from pathlib import Path

import structlog
from pydantic import SecretStr
from standardwebhooks import Webhook

from comfyworker.settings import WebhookSettings
from comfyworker.webhooks.outbox import Outbox, StoredMessage
from support.eventually import eventually
from support.ports import free_port
from support.webhook_receiver import Answer, WebhookReceiver
from support.webhooks import BODY, COMPLETED, hook_of, kept, make, named


def mode(path: Path) -> int:
    """Return who may do what with a file or folder."""
    return path.stat().st_mode & 0o777


async def test_the_end_does_not_wait_for_a_receiver_that_hangs(receiver: WebhookReceiver, folder: Path) -> None:
    """An attempt that takes too long is broken off, and its message stays on disk."""
    receiver.answers.append(Answer("hang"))
    async with make(folder, leave_within_s=0.2) as webhooks:
        await webhooks.put(hook_of(webhooks, receiver.url()), COMPLETED, BODY)
        await receiver.wait(1)
    assert len(kept(folder)) == 1
    async with make(folder):
        await receiver.wait(2)
    assert kept(folder) == []


async def test_what_is_put_after_the_end_waits_for_the_next_start(receiver: WebhookReceiver, folder: Path) -> None:
    """A job that ends while its worker does is told by the next one."""
    async with make(folder) as webhooks:
        hook = hook_of(webhooks, receiver.url())
    await webhooks.put(hook, COMPLETED, BODY)
    assert receiver.arrived == []
    async with make(folder):
        await receiver.wait(1)


async def test_two_workers_with_one_folder_do_not_send_at_the_same_time(
    receiver: WebhookReceiver, folder: Path
) -> None:
    """The second finds the message in the first one's hands, and then delivered."""
    receiver.answers.append(Answer("hang"))
    with structlog.testing.capture_logs() as events:
        async with make(folder) as first:
            await first.put(hook_of(first, receiver.url()), COMPLETED, BODY)
            await receiver.wait(1)
            async with make(folder):
                await eventually(lambda: named(events, "webhooks.found_taken"))
                receiver.ends.set()
                await eventually(lambda: kept(folder) == [])
    assert len(receiver.arrived) == 1


async def test_two_workers_with_one_folder_keep_to_one_pace(receiver: WebhookReceiver, folder: Path) -> None:
    """A message that one has put off is not due for the other either."""
    receiver.answers.append(Answer(503))
    async with make(folder, pauses=lambda _: 1000.0) as first:
        await first.put(hook_of(first, receiver.url()), COMPLETED, BODY)
        await eventually(lambda: [item for item in Outbox(folder).pending() if item.due_at > time.time() + 100])
        async with make(folder):
            pass
    assert (len(receiver.arrived), len(kept(folder))) == (1, 1)


KILLED = """
import asyncio, pathlib, sys
from comfyworker.jobs import JobRequest, WebhookEvent, WebhookOptions
from comfyworker.settings import WebhookSettings
from comfyworker.webhooks import Webhooks

async def main(folder, url):
    async with Webhooks(WebhookSettings(secret="a secret of the worker's"), folder=pathlib.Path(folder),
                        allow_private_urls=True, pauses=lambda _: 0.1) as webhooks:
        hook = webhooks.hook_for(JobRequest(id="job-1", webhook=WebhookOptions(url=url, secret="the caller's own")))
        await webhooks.put(hook, WebhookEvent.COMPLETED, {"id": "job-1", "status": "completed"})
        print("on disk", flush=True)
        await asyncio.sleep(1000)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_killed_worker_leaves_its_messages_to_the_next(folder: Path) -> None:
    """Kill -9 between the writing and the delivery: the next start delivers it once, signed, under the same id."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/hook?token=5ecre7"
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, folder, url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert killed.stdout is not None
    async for line in killed.stdout:
        if line == b"on disk\n":
            break
    killed.kill()
    await killed.wait()
    [item] = Outbox(folder).pending()
    async with WebhookReceiver(port=port) as receiver, make(folder):
        await receiver.wait(1)
        await eventually(lambda: kept(folder) == [])
    [arrival] = receiver.arrived
    assert arrival.id == item.envelope.id
    told = Webhook(b"the caller's own").verify(arrival.body, dict(arrival.headers))
    assert told == {"id": "job-1", "status": "completed", "event": "completed"}


async def test_files_are_for_nobody_else(folder: Path) -> None:
    """A message holds a secret: its folder and file are the worker's alone, and WEBHOOK_SECRET is not in there."""
    settings = WebhookSettings(secret=SecretStr("the worker's own"))
    async with make(folder, settings, pauses=lambda _: 1000.0) as webhooks:
        await webhooks.put(hook_of(webhooks, f"http://127.0.0.1:{free_port()}/"), COMPLETED, BODY)
    [name] = kept(folder)
    assert (mode(folder), mode(folder / name)) == (0o700, 0o600)
    assert b"the worker's own" not in (folder / name).read_bytes()


async def test_what_is_no_message_is_set_aside(receiver: WebhookReceiver, folder: Path) -> None:
    """A start warns of it, keeps it under another name, and delivers the others."""
    async with make(folder, pauses=lambda _: 1000.0) as webhooks:
        hook = hook_of(webhooks, receiver.url())
    await webhooks.put(hook, COMPLETED, BODY)
    whole = folder / kept(folder)[0]
    (folder / "torn.json").write_bytes(whole.read_bytes()[:-3])
    (folder / "other.json").write_text("{}")
    (folder / "old.part").write_text("half")
    os.utime(folder / "old.part", (0, 0))
    (folder / "new.part").write_text("half")
    with structlog.testing.capture_logs() as events:
        async with make(folder):
            await receiver.wait(1)
    assert len(receiver.arrived) == 1
    assert kept(folder) == ["new.part", "other.unreadable", "torn.unreadable"]
    assert {event["file"] for event in named(events, "webhooks.set_aside")} == {"other.json", "torn.json"}


FULL = """
import asyncio, pathlib, sys
from comfyworker.jobs import JobRequest, WebhookEvent, WebhookOptions
from comfyworker.settings import WebhookSettings
from comfyworker.webhooks import Webhooks

async def main(folder, url):
    async with Webhooks(WebhookSettings(), folder=pathlib.Path(folder), allow_private_urls=True) as webhooks:
        hook = webhooks.hook_for(JobRequest(id="job-1", webhook=WebhookOptions(url=url)))
        await webhooks.put(hook, WebhookEvent.COMPLETED, {"id": "job-1", "message": "x" * 500_000})
    print(list(pathlib.Path(folder).iterdir()))

asyncio.run(main(*sys.argv[1:]))
"""


async def test_on_a_full_disk_a_message_is_sent_from_memory(receiver: WebhookReceiver, tmp_path: Path) -> None:
    """What no disk takes is told all the same, a warning says so, and no half file stays."""
    script = f'mount -t tmpfs -o size=256k tmpfs {tmp_path} && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", FULL]
    program = await asyncio.create_subprocess_exec(*command, tmp_path, receiver.url(), stdout=asyncio.subprocess.PIPE)
    out, _ = await program.communicate()
    assert program.returncode == 0
    assert out.splitlines()[-1] == b"[]"
    assert b"webhooks.not_stored" in out
    assert len(receiver.arrived[0].told["message"]) == 500_000


async def test_without_a_folder_messages_are_lost_only_when_nobody_listens(
    receiver: WebhookReceiver, tmp_path: Path
) -> None:
    """What could not be written down is tried again while the worker runs; its end says what is lost."""
    (tmp_path / "file").write_text("no folder")
    receiver.answers.append(Answer(503))
    async with make(tmp_path / "file") as webhooks:
        await webhooks.put(hook_of(webhooks, receiver.url()), COMPLETED, BODY)
        await receiver.wait(2)
    with structlog.testing.capture_logs() as events:
        async with make(tmp_path / "file", pauses=lambda _: 1000.0) as webhooks:
            await webhooks.put(hook_of(webhooks, f"http://127.0.0.1:{free_port()}/"), COMPLETED, BODY)
            await eventually(lambda: named(events, "webhooks.put_off"))
    [lost] = named(events, "webhooks.lost")
    assert (lost["log_level"], lost["job_id"]) == ("warning", "job-1")


async def test_memory_is_not_filled_with_messages(tmp_path: Path) -> None:
    """Of what no disk took, so many messages wait for another attempt; the others have one each."""
    (tmp_path / "file").write_text("no folder")
    with structlog.testing.capture_logs() as events:
        async with make(tmp_path / "file", pauses=lambda _: 1000.0) as webhooks:
            for _ in range(40):
                await webhooks.put(hook_of(webhooks, f"http://127.0.0.1:{free_port()}/"), COMPLETED, BODY)
            await eventually(lambda: len(named(events, "webhooks.put_off") + named(events, "webhooks.given_up")) == 40)
    assert len(named(events, "webhooks.given_up")) == 8
    assert len(named(events, "webhooks.lost")) == 32


async def test_a_message_that_was_dropped_meanwhile_is_not_sent(receiver: WebhookReceiver, folder: Path) -> None:
    """Who removes the file has the last word."""
    async with make(folder) as webhooks:
        hook = hook_of(webhooks, receiver.url())
    await webhooks.put(hook, COMPLETED, BODY)
    [item] = Outbox(folder).pending()
    message = StoredMessage(item.path, item.envelope)
    message.remove()
    assert message.take() is None
    message.release()
    async with make(folder):
        pass
    assert receiver.arrived == []


async def test_the_end_waits_for_first_attempts_only(receiver: WebhookReceiver, folder: Path) -> None:
    """What was put right before the worker's end goes out; what has failed once stays on disk for the next start."""
    receiver.answers.append(Answer(503))
    with structlog.testing.capture_logs() as events:
        async with make(folder, pauses=lambda _: 1000.0) as webhooks:
            await webhooks.put(hook_of(webhooks, receiver.url()), COMPLETED, BODY)
    assert (len(receiver.arrived), len(kept(folder))) == (1, 1)
    assert [event["event"] for event in events] == ["webhooks.put_off"]
