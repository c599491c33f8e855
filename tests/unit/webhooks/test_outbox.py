"""Messages as files, and who may send one."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from comfyworker.jobs import JobRequest, WebhookEvent, WebhookOptions
from comfyworker.settings import WebhookSettings
from comfyworker.webhooks.hook import make_hook
from comfyworker.webhooks.message import Message, make_message
from comfyworker.webhooks.outbox import Outbox, StoredMessage, Taken


def message(job_id: str = "job-1", now: float = 1000.0) -> Message:
    """Return a message."""
    request = JobRequest(id=job_id, webhook=WebhookOptions(url="https://example.com/hook"))
    hook = make_hook(request, WebhookSettings(), allow_private_urls=False)
    assert hook is not None
    return make_message(hook, WebhookEvent.COMPLETED, {"id": job_id}, key="", max_bytes=10**6, now=now)


def test_a_message_is_kept(tmp_path: Path) -> None:
    """What was stored is listed, due from its beginning, and comes back whole."""
    outbox = Outbox(tmp_path / "a" / "b")
    path = outbox.store(message())
    [item] = outbox.pending()
    assert (item.path, item.envelope, item.due_at) == (path, message().envelope, 1000.0)
    stored = StoredMessage(path, item.envelope)
    assert stored.take() == (message(), 1000.0)
    stored.release()


def test_a_folder_that_is_not_there_has_none(tmp_path: Path) -> None:
    """Nothing is made where nothing is kept."""
    outbox = Outbox(tmp_path / "none")
    outbox.clean()
    assert outbox.pending() == []
    assert list(tmp_path.iterdir()) == []


def test_messages_are_listed_by_age(tmp_path: Path) -> None:
    """The oldest comes first, whatever the names; equal jobs have a file each."""
    outbox = Outbox(tmp_path)
    for now in (3.0, 1.0, 2.0):
        outbox.store(message(now=now))
    assert [item.envelope.created_at for item in outbox.pending()] == [1.0, 2.0, 3.0]


def test_a_message_is_in_one_hand(tmp_path: Path) -> None:
    """While one has it, the other does not get it; what is put off is seen by both."""
    path = Outbox(tmp_path).store(message())
    one, other = (StoredMessage(path, message().envelope) for _ in range(2))
    one.take()
    with pytest.raises(Taken):
        other.take()
    other.release()
    one.put_off(5000.0)
    one.release()
    assert other.take() == (message(), 5000.0)
    other.release()
    other.put_off(1.0)  # Who does not have it changes nothing.
    assert Outbox(tmp_path).pending()[0].due_at == 5000.0


def test_nobody_gets_a_message_that_was_delivered_meanwhile(tmp_path: Path) -> None:
    """Many who ask for the same messages at the same time: each is had once."""
    outbox = Outbox(tmp_path)
    paths = [outbox.store(message(f"job-{number}")) for number in range(200)]
    had: Counter[Path] = Counter()

    def work(_: int) -> None:
        for path in paths:
            stored = StoredMessage(path, message().envelope)
            try:
                if stored.take() is not None:
                    had[path] += 1
                    stored.remove()
            except Taken:
                pass
            finally:
                stored.release()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert set(had.values()) == {1}
    assert list(tmp_path.iterdir()) == []
