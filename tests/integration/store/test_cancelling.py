"""Jobs that are cancelled while their files are on their way: nothing stays behind."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from comfyworker.delivery.store import StoreDelivery, Stores
from comfyworker.jobs import Artifact
from comfyworker.settings import StoreSettings
from support.object_store import ObjectStore
from support.object_store_proxy import StoreProxy
from support.proxy import RequestFault
from support.store_files import PART_BYTES, located, store_settings, written


async def cancelled(
    settings: StoreSettings, held: RequestFault, *files: Artifact, after: Callable[[], None] = lambda: None
) -> None:
    """Deliver files, and cancel that, twice, once a request is held; `after` comes then."""
    async with Stores(settings) as stores:
        delivery = StoreDelivery(stores, located(settings), request_id="job")
        async with asyncio.TaskGroup() as group:
            task = group.create_task(delivery.deliver(files))
            await held.met.wait()
            task.cancel()
            await asyncio.wait((task,), timeout=0.05)
            task.cancel()
            after()
            with pytest.raises(asyncio.CancelledError):
                await task
    assert task.cancelled()


async def test_in_the_middle_of_the_parts(object_store: ObjectStore, store_proxy: StoreProxy, tmp_path: Path) -> None:
    """The upload is aborted, and what had arrived before is removed."""
    bucket = await object_store.make_bucket()
    held = store_proxy.hold("PUT", "*", query="partNumber=2&*")
    settings = store_settings(object_store.behind(store_proxy.url), bucket)
    first, second = written(tmp_path / "a.png", 1000), written(tmp_path / "b.mp4", 8 * PART_BYTES)
    await cancelled(settings, held, first, second)
    assert await object_store.open_uploads(bucket) == []
    assert await object_store.keys_in(bucket) == []
    assert store_proxy.count("DELETE", f"/{bucket}/job/b.mp4") >= 1


async def test_with_all_parts_sent(object_store: ObjectStore, store_proxy: StoreProxy, tmp_path: Path) -> None:
    """An upload that was completed all the same is removed."""
    bucket = await object_store.make_bucket()
    held = store_proxy.hold("POST", "*", query="uploadId=*")
    settings = store_settings(object_store.behind(store_proxy.url), bucket)
    await cancelled(settings, held, written(tmp_path / "a.mp4", PART_BYTES + 1), after=held.release)
    assert await object_store.open_uploads(bucket) == []
    assert await object_store.keys_in(bucket) == []


async def test_with_a_storage_that_hangs(object_store: ObjectStore, store_proxy: StoreProxy, tmp_path: Path) -> None:
    """An upload that cannot be stopped in time is dropped, then found in the storage's own list and aborted."""
    bucket = await object_store.make_bucket()
    held = store_proxy.hold("PUT", "*", query="partNumber=1&*")
    settings = store_settings(object_store.behind(store_proxy.url), bucket)
    await cancelled(settings, held, written(tmp_path / "a&b <ü>.mp4", PART_BYTES + 1))
    assert await object_store.open_uploads(bucket) == []
    assert await object_store.keys_in(bucket) == []


async def test_with_one_piece_on_its_way(object_store: ObjectStore, store_proxy: StoreProxy, tmp_path: Path) -> None:
    """A file that arrives after the cancellation is removed, too."""
    bucket = await object_store.make_bucket()
    held = store_proxy.hold("PUT", "*")
    settings = store_settings(object_store.behind(store_proxy.url), bucket)
    await cancelled(settings, held, written(tmp_path / "a.png", 1000), after=held.release)
    assert store_proxy.count("PUT", "*") == 1
    assert await object_store.keys_in(bucket) == []
