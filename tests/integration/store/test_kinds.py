"""What all kinds of storage have in common, on a real one of each kind."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.request import url2pathname

import pytest

from comfyworker.delivery.store import StoreDelivery, Stores, probe
from comfyworker.settings import StoreSettings
from support.object_store import ObjectStore
from support.object_store_azurite import AzureStore
from support.object_store_client import fetch
from support.store_files import PART_BYTES, located, store_settings, written

NAMES = ["a.png", "a b+c#d?e.png", "ü 日本 100%20.png", "x&y=z;'(1),[2]{3}~^`!$@.png"]


@dataclass(frozen=True)
class Kind:
    """One kind of storage, and how to look into it without our own code."""

    settings: StoreSettings
    keys: Callable[[], Awaitable[list[str]]]
    content_type: Callable[[str], Awaitable[str]] | None
    avoids: str = ""


async def s3(store: ObjectStore) -> Kind:
    """Return a bucket of S3."""
    bucket = await store.make_bucket()
    settings = store_settings(store, bucket)

    async def keys() -> list[str]:
        return await store.keys_in(bucket)

    async def content_type(key: str) -> str:
        return (await store.read(bucket, key)).content_type

    return Kind(settings, keys, content_type)


async def google(store: ObjectStore) -> Kind:
    """Return a bucket of Google Cloud Storage."""
    bucket = await store.make_bucket()
    settings = StoreSettings.model_validate(
        {"endpoint_url": f"gs://{bucket}", "secret_access_key": store.google, "part_bytes": PART_BYTES}
    )

    async def keys() -> list[str]:
        return await store.keys_in(bucket)

    async def content_type(key: str) -> str:
        return (await store.read(bucket, key)).content_type

    return Kind(settings, keys, content_type, avoids="#?%")


async def azure(store: AzureStore) -> Kind:
    """Return a container of Azure."""
    container = await store.make_container()
    settings = StoreSettings.model_validate(
        {
            "endpoint_url": f"az+{store.endpoint_url}/{container}",
            "secret_access_key": store.account_key,
            "part_bytes": PART_BYTES,
        }
    )

    async def keys() -> list[str]:
        return await store.keys_in(container)

    async def content_type(key: str) -> str:
        return (await store.read(container, key)).content_type

    return Kind(settings, keys, content_type)


def folder(path: Path) -> Kind:
    """Return a folder of this machine."""
    settings = StoreSettings.model_validate({"endpoint_url": path.as_uri(), "part_bytes": PART_BYTES})

    def look() -> list[str]:
        return sorted(str(item.relative_to(path)) for item in path.rglob("*") if item.is_file())

    async def keys() -> list[str]:
        return await asyncio.to_thread(look)

    return Kind(settings, keys, None)


@pytest.fixture(params=["s3", "google", "azure", "folder"])
async def kind(
    request: pytest.FixtureRequest, object_store: ObjectStore, azure_store: AzureStore, tmp_path: Path
) -> Kind:
    """Return each kind of storage in turn."""
    if request.param == "folder":
        return folder(tmp_path / "some folder")
    if request.param == "azure":
        return await azure(azure_store)
    return await (s3 if request.param == "s3" else google)(object_store)


async def read(url: str) -> bytes:
    """Return what lies at a URL, for who has no keys."""
    if url.startswith("file://"):
        return await asyncio.to_thread(Path(url2pathname(url.removeprefix("file://"))).read_bytes)
    stored = await fetch(url)
    assert stored.status == 200, stored
    return stored.body


async def test_files_of_any_name_and_size(kind: Kind, tmp_path: Path) -> None:
    """They arrive whole, in one piece and in parts, and their URLs open them."""
    files = [written(tmp_path / "in" / name, 1000 + len(name)) for name in NAMES]
    files += [written(tmp_path / "in" / f"large {NAMES[2]}", 2 * PART_BYTES + 9), written(tmp_path / "in" / "empty", 0)]
    async with Stores(kind.settings) as stores:
        answers = await StoreDelivery(stores, located(kind.settings), request_id="job").deliver(files)
    for answer in answers:
        assert answer.failure is None
        assert answer.path is not None
        assert await read(answer.url or "") == answer.path.read_bytes()
    expected = sorted(f"job/{file.name}".translate({ord(mark): "_" for mark in kind.avoids}) for file in files)
    assert await kind.keys() == expected
    if kind.content_type is not None:
        assert await kind.content_type(expected[0]) == "image/png"


async def test_a_cancelled_job_leaves_nothing(kind: Kind, tmp_path: Path) -> None:
    """Whenever it is cancelled, no object of it stays."""
    files = [written(tmp_path / "in" / f"{number}.mp4", PART_BYTES + number) for number in range(5)]
    async with Stores(kind.settings) as stores:
        arrived = asyncio.Event()
        delivery = StoreDelivery(
            stores, located(kind.settings), request_id="job", on_artifact=lambda _artifact: arrived.set()
        )
        async with asyncio.TaskGroup() as group:
            task = group.create_task(delivery.deliver(files))
            await arrived.wait()
            task.cancel()
    assert await kind.keys() == []


async def test_a_storage_that_works_is_found_to(kind: Kind) -> None:
    """The probe writes, reads and removes, and leaves nothing."""
    async with Stores(kind.settings) as stores:
        steps = await probe(stores, located(kind.settings))
    assert [(step.name, step.is_ok) for step in steps] == [
        ("connect", True),
        ("write", True),
        ("read", True),
        ("delete", True),
    ]
    assert await kind.keys() == []
