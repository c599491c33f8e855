"""How far a worker is, as another one tells it."""

import orjson

from comfyworker.errors import DownloadFailed
from comfyworker.jobs import JobError
from comfyworker.provision.reporting import Item, ItemKind, ItemResult, ItemStatus
from comfyworker.provision.sharing import Mirror, RecordingReporter
from support.provisioning import ProvisionListener

ITEM = Item(key="vae/a.pt", kind=ItemKind.MODEL, title="vae/a.pt", size_bytes=100)
OTHER = Item(key="Pack", kind=ItemKind.NODE, title="Pack")


def test_a_waiting_worker_tells_what_the_other_does() -> None:
    """Whoever looks at either sees the same items, bytes, steps and ends, each told once."""
    doing, seeing = ProvisionListener(), ProvisionListener()
    recorder, mirror = RecordingReporter(doing), Mirror(seeing)
    recorder.planned([ITEM, OTHER])
    recorder.begun(ITEM)
    recorder.fetched(ITEM, 40, 100)
    recorder.stepped(OTHER, "git fetch")
    for _ in range(2):
        mirror.show(orjson.loads(orjson.dumps(recorder.snapshot())), "elsewhere")
    recorder.ended(ItemResult(item=ITEM, status=ItemStatus.FAILED, error=JobError.of(DownloadFailed("gone"))))
    mirror.show(recorder.snapshot(), "elsewhere")
    assert (seeing.items, seeing.begun_items, seeing.bytes, seeing.steps, seeing.results) == (
        doing.items, doing.begun_items, doing.bytes, doing.steps, doing.results,
    )  # fmt: skip
    [note] = seeing.notes
    assert "elsewhere" in note


def test_what_another_version_writes_is_passed_over() -> None:
    """A snapshot that cannot be read tells nothing, and harms nothing."""
    seeing = ProvisionListener()
    Mirror(seeing).show({"items": [{"odd": 1}]}, "elsewhere")
    assert seeing.items == []
