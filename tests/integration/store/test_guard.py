"""Storages that a request brings: it may not have us speak to our neighbours."""

import asyncio
import socket
from pathlib import Path

import aiohttp
import pytest
from pydantic import SecretStr
from yarl import URL

from comfyworker.delivery.store import StoreDelivery, StoreLocation, Stores
from comfyworker.delivery.store._guard import Guard
from comfyworker.jobs import StoreOptions
from comfyworker.settings import StoreSettings
from support.object_store import ObjectStore
from support.object_store_client import fetch
from support.object_store_proxy import StoreProxy
from support.store_files import PART_BYTES, located, written


def brought(store: ObjectStore, bucket: str, endpoint_url: str | None = None) -> StoreLocation:
    """Return the location of a request that brings everything."""
    options = StoreOptions(
        endpoint_url=endpoint_url or store.endpoint_url,
        bucket=bucket,
        access_key_id=SecretStr(store.access_key_id),
        secret_access_key=SecretStr(store.secret_access_key),
        region=store.region,
        attempts=2,
    )
    return located(StoreSettings(), options)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f000001", "[::ffff:127.0.0.1]"])
async def test_our_neighbours_are_not_spoken_to(
    object_store: ObjectStore, store_proxy: StoreProxy, tmp_path: Path, host: str
) -> None:
    """Whatever way it is written, an address on this machine is refused, and nothing is sent there."""
    endpoint = f"http://{host}:{store_proxy.port}"
    async with Stores(StoreSettings()) as stores:
        delivery = StoreDelivery(stores, brought(object_store, "b", endpoint), request_id="job")
        [answer] = await delivery.deliver([written(tmp_path / "a.png", 10)])
    assert answer.failure is not None
    assert "which a request may not have us speak to" in answer.failure.message
    assert "ALLOW_PRIVATE_URLS" in (answer.failure.hint or "")
    assert store_proxy.requests == []


async def test_private_storages_where_they_are_allowed(
    object_store: ObjectStore, store_proxy: StoreProxy, tmp_path: Path
) -> None:
    """With ALLOW_PRIVATE_URLS a request's endpoint in the private network works, in parts, too."""
    bucket = await object_store.make_bucket()
    files = [written(tmp_path / "a.png", 10), written(tmp_path / "b.mp4", 4 * PART_BYTES + 7)]
    async with Stores(StoreSettings(part_bytes=PART_BYTES), allow_private_urls=True) as stores:
        location = brought(object_store, bucket, store_proxy.url)
        answers = await StoreDelivery(stores, location, request_id="job").deliver(files)
        again = await StoreDelivery(stores, location, request_id="again").deliver(files)
    for answer in (*answers, *again):
        assert answer.failure is None
        assert answer.path is not None
        assert (await fetch(answer.url or "")).body == answer.path.read_bytes()
    assert await object_store.open_uploads(bucket) == []


async def test_a_job_cancelled_at_a_requests_storage(
    object_store: ObjectStore, store_proxy: StoreProxy, tmp_path: Path
) -> None:
    """It leaves nothing there either."""
    bucket = await object_store.make_bucket()
    held = store_proxy.hold("PUT", "*", query="partNumber=2&*")
    async with Stores(StoreSettings(part_bytes=PART_BYTES), allow_private_urls=True) as stores:
        delivery = StoreDelivery(stores, brought(object_store, bucket, store_proxy.url), request_id="job")
        async with asyncio.TaskGroup() as group:
            task = group.create_task(delivery.deliver([written(tmp_path / "b.mp4", 8 * PART_BYTES)]))
            await held.met.wait()
            task.cancel()
    assert await object_store.open_uploads(bucket) == []
    assert await object_store.keys_in(bucket) == []


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_requests_storage_that_is_not_there(object_store: ObjectStore, tmp_path: Path, scheme: str) -> None:
    """The guard between does not hide that nobody listens; the request's own field is named."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"{scheme}://127.0.0.1:{free.getsockname()[1]}"
        async with Stores(StoreSettings(), allow_private_urls=True) as stores:
            delivery = StoreDelivery(stores, brought(object_store, "b", endpoint), request_id="job")
            [answer] = await delivery.deliver([written(tmp_path / "a.png", 10)])
    assert answer.failure is not None
    assert answer.failure.message.endswith("no connection could be made")
    assert "input.s3.endpoint_url" in (answer.failure.hint or "")
    assert answer.failure.may_pass


async def test_a_redirect_leads_nowhere(object_store: ObjectStore, store_proxy: StoreProxy, tmp_path: Path) -> None:
    """Obstore would follow a 303 after an upload; the address that it leads to is looked at like any other."""
    location = b"Location: http://169.254.169.254/latest/meta-data/"
    answer = b"HTTP/1.1 303 See Other\r\n" + location + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    bodies: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bodies.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, Stores(StoreSettings(), allow_private_urls=True) as stores:
        delivery = StoreDelivery(stores, brought(object_store, "b", endpoint), request_id="job")
        [artifact] = await delivery.deliver([written(tmp_path / "a.png", 10)])
    assert bodies
    assert artifact.failure is not None
    assert store_proxy.requests == []


@pytest.fixture
async def guard() -> Guard:
    """Return a guard that lets nothing private pass."""
    return Guard(allow_private=False)


async def test_the_guard_connects_to_no_private_address(guard: Guard, store_proxy: StoreProxy) -> None:
    """What a redirect or another answer of the name server leads to is looked at where the connection is made."""
    try:
        async with aiohttp.ClientSession() as session:
            for host in ("127.0.0.1", "localhost"):
                with pytest.raises(aiohttp.ClientError):
                    await session.put(f"http://{host}:{store_proxy.port}/b/k", proxy=await guard.proxy_url())
            with pytest.raises(aiohttp.ClientError):
                await session.put(f"https://127.0.0.1:{store_proxy.port}/b/k", proxy=await guard.proxy_url())
    finally:
        await guard.stop()
    assert store_proxy.requests == []


async def test_the_guard_serves_nobody_else(store_proxy: StoreProxy) -> None:
    """Other processes of this machine do not know its password."""
    guard = Guard(allow_private=True)
    try:
        proxy = URL(await guard.proxy_url())
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{store_proxy.url}/b/k", proxy=proxy.with_password("guessed")) as refused:
                assert refused.status == 407
            async with session.get(f"{store_proxy.url}/b/k", proxy=proxy) as passed:
                assert passed.status != 407
    finally:
        await guard.stop()
    assert [request.path for request in store_proxy.requests] == ["/b/k"]
