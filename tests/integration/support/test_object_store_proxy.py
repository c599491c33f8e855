"""The proxy before the object store makes the faults that it is told to make, and breaks no signature."""

import asyncio
import os
import time
from datetime import timedelta

import obstore
import pytest
from obstore.exceptions import BaseError
from obstore.store import S3Store

from support.object_store import ObjectStore
from support.object_store_client import fetch
from support.object_store_proxy import StoreProxy

MIB = 1024 * 1024
KEY = "a b/ü+%.bin"


def connect(store: ObjectStore, bucket: str) -> S3Store:
    """Return obstore's client for a bucket, which tries once."""
    return S3Store(
        bucket,
        endpoint=store.endpoint_url,
        access_key_id=store.access_key_id,
        secret_access_key=store.secret_access_key,
        region=store.region,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )


async def test_without_faults_all_goes_through(object_store: ObjectStore, store_proxy: StoreProxy) -> None:
    """Both kinds of signature hold behind the proxy, with parts, odd keys and presigned URLs; heads are recorded."""
    behind = object_store.behind(store_proxy.url)
    bucket = await behind.make_bucket()
    content = os.urandom(6 * MIB)
    client = connect(behind, bucket)
    await obstore.put_async(client, KEY, content, use_multipart=True, chunk_size=5 * MIB)

    url = await obstore.sign_async(client, "GET", KEY, timedelta(minutes=1))
    assert (await fetch(url)).body == content
    assert (await object_store.read(bucket, KEY)).body == content
    parts = [item for item in store_proxy.requests if "partNumber" in item.query]
    assert sorted(int(item.headers["Content-Length"]) for item in parts) == [1 * MIB, 5 * MIB]
    assert {item.path for item in parts} == {f"/{bucket}/{KEY}"}


async def test_a_body_is_cut(object_store: ObjectStore, store_proxy: StoreProxy) -> None:
    """The connection breaks in the middle of the second part; the store has no object, and an open upload."""
    behind = object_store.behind(store_proxy.url)
    bucket = await behind.make_bucket()
    fault = store_proxy.cut_body("PUT", f"/{bucket}/*", query="partNumber=2&*", after_bytes=MIB)

    with pytest.raises(BaseError):
        await obstore.put_async(connect(behind, bucket), "key", os.urandom(12 * MIB), chunk_size=5 * MIB)

    assert fault.hits == 1
    assert await object_store.keys_in(bucket) == []
    assert store_proxy.count("DELETE", f"/{bucket}/key") == 1, "obstore itself aborts the upload"
    assert await object_store.open_uploads(bucket) == []


async def test_an_answer_comes_in_the_middle_of_a_body(object_store: ObjectStore, store_proxy: StoreProxy) -> None:
    """The store is too busy half-way; it has nothing of it, and the next try goes through."""
    behind = object_store.behind(store_proxy.url)
    bucket = await behind.make_bucket()
    store_proxy.answer_in_body("PUT", f"/{bucket}/key", after_bytes=MIB, status=503, code="SlowDown")
    client = connect(behind, bucket)

    with pytest.raises(BaseError, match="SlowDown"):
        await obstore.put_async(client, "key", os.urandom(4 * MIB), use_multipart=False)
    assert await object_store.keys_in(bucket) == []

    await obstore.put_async(client, "key", b"1", use_multipart=False)
    assert await object_store.keys_in(bucket) == ["key"]


async def test_an_error_document_is_answered(object_store: ObjectStore, store_proxy: StoreProxy) -> None:
    """A request can be answered with any error of S3's, which its query can choose."""
    behind = object_store.behind(store_proxy.url)
    bucket = await behind.make_bucket()
    store_proxy.answer_error("POST", f"/{bucket}/*", query="uploads*", status=403, code="InvalidAccessKeyId")
    client = connect(behind, bucket)

    with pytest.raises(BaseError, match="<Code>InvalidAccessKeyId</Code>"):
        await obstore.put_async(client, "key", b"1", use_multipart=True)
    await obstore.put_async(client, "key", b"1", use_multipart=False)


async def test_a_body_is_slowed_down(object_store: ObjectStore, store_proxy: StoreProxy) -> None:
    """A body goes through at the pace, and the others at theirs."""
    behind = object_store.behind(store_proxy.url)
    bucket = await behind.make_bucket()
    store_proxy.slow_body("PUT", f"/{bucket}/slow", bytes_per_s=2 * MIB)

    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        slow = group.create_task(behind.write(bucket, "slow", os.urandom(MIB)), name="slow")
        await behind.write(bucket, "quick", b"1")
        assert not slow.done()
    assert time.monotonic() - began >= 0.5
    assert await object_store.keys_in(bucket) == ["quick", "slow"]


async def test_a_held_upload_waits(object_store: ObjectStore, store_proxy: StoreProxy) -> None:
    """The faults of every proxy are there too: a completion waits until it is released."""
    behind = object_store.behind(store_proxy.url)
    bucket = await behind.make_bucket()
    held = store_proxy.hold("POST", f"/{bucket}/key", query="uploadId=*")
    client = connect(behind, bucket)

    async def upload() -> None:
        await obstore.put_async(client, "key", b"1", use_multipart=True)

    async with asyncio.TaskGroup() as group:
        group.create_task(upload(), name="upload")
        await held.met.wait()
        assert await object_store.open_uploads(bucket) == ["key"]
        held.release()
    assert await object_store.keys_in(bucket) == ["key"]


async def test_an_answer_is_lost_though_the_store_did_it(object_store: ObjectStore, store_proxy: StoreProxy) -> None:
    """The object is there although the client sees a broken connection."""
    behind = object_store.behind(store_proxy.url)
    bucket = await object_store.make_bucket()
    store_proxy.drop_answer("PUT", f"/{bucket}/key")
    with pytest.raises(BaseError):
        await obstore.put_async(connect(behind, bucket), "key", b"1", use_multipart=False)
    assert await object_store.keys_in(bucket) == ["key"]
