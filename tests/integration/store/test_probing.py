"""A look whether a storage works."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from comfyworker.delivery.store import Stores, probe
from comfyworker.settings import StoreSettings
from support.object_store import ObjectStore
from support.object_store_proxy import StoreProxy
from support.store_files import located, store_settings


async def probed(settings: StoreSettings) -> tuple[list[tuple[str, bool]], str, str]:
    """Return the steps, and the message and the hint of the first that failed."""
    async with Stores(settings) as stores:
        steps = await probe(stores, located(settings))
    failed = next((step for step in steps if not step.is_ok), None)
    found = [(step.name, step.is_ok) for step in steps]
    return (found, "", "") if failed is None else (found, failed.message, failed.hint or "")


async def test_all_steps(object_store: ObjectStore) -> None:
    """With an ACL there is one step more, below the prefix of the settings; nothing stays."""
    bucket = await object_store.make_bucket()
    steps, _, _ = await probed(store_settings(object_store, bucket, acl="public-read", prefix="p"))
    assert steps == [("connect", True), ("write", True), ("acl", True), ("read", True), ("delete", True)]
    assert await object_store.keys_in(bucket) == []


@asynccontextmanager
async def public_door(store: ObjectStore, bucket: str) -> AsyncIterator[str]:
    """Serve a bucket to everybody, as a CDN before it does; yield the URL."""

    async def serve(request: web.Request) -> web.Response:
        return web.Response(body=(await store.read(bucket, request.match_info["key"])).body)

    application = web.Application()
    application.router.add_get("/{key:.*}", serve)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_public_url_that_works(object_store: ObjectStore) -> None:
    """The public URL is what answers would have, so it is what is read."""
    bucket = await object_store.make_bucket()
    async with public_door(object_store, bucket) as url:
        steps, _, _ = await probed(store_settings(object_store, bucket, public_url=url))
    assert steps == [("connect", True), ("write", True), ("read", True), ("delete", True)]


async def test_a_public_url_that_does_not(object_store: ObjectStore) -> None:
    """An object that nobody may read there is found, named, and removed all the same."""
    bucket = await object_store.make_bucket()
    public = f"{object_store.endpoint_url}/{bucket}"
    steps, message, hint = await probed(store_settings(object_store, bucket, public_url=public))
    assert steps == [("connect", True), ("write", True), ("read", False), ("delete", True)]
    assert "its URL is answered with status" in message
    assert "BUCKET_PUBLIC_URL" in hint
    assert await object_store.keys_in(bucket) == []


async def test_a_public_url_of_nothing(object_store: ObjectStore) -> None:
    """A host that is not there is told without the URL."""
    bucket = await object_store.make_bucket()
    settings = store_settings(object_store, bucket, public_url="http://nowhere.invalid/s3cr3t")
    _, message, _ = await probed(settings)
    assert message.endswith("its URL cannot be reached from here")
    assert "s3cr3t" not in message


async def test_wrong_keys(object_store: ObjectStore) -> None:
    """It ends at the first step that shows them."""
    bucket = await object_store.make_bucket()
    steps, message, hint = await probed(store_settings(object_store, bucket, secret_access_key="wr0ng"))
    assert steps == [("connect", True), ("write", False)]
    assert message == (
        f"bucket '{bucket}' at {object_store.endpoint_url}: "
        "the secret key does not belong to the access key (SignatureDoesNotMatch)"
    )
    assert "BUCKET_SECRET_ACCESS_KEY" in hint


async def test_keys_that_may_not_delete(object_store: ObjectStore, store_proxy: StoreProxy) -> None:
    """That a cancelled job's objects would stay is told, too."""
    bucket = await object_store.make_bucket()
    store_proxy.answer_error("DELETE", "*", status=403, code="AccessDenied", times=10)
    steps, _, _ = await probed(store_settings(object_store.behind(store_proxy.url), bucket))
    assert steps == [("connect", True), ("write", True), ("read", True), ("delete", False)]
