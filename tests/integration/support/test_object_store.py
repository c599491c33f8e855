"""The object store of the tests is one: it keeps what it is given, and checks who asks."""

import json
import os
from datetime import timedelta

import obstore
import psutil
import pytest
from obstore.exceptions import BaseError, PermissionDeniedError
from obstore.store import S3Store

from support.eventually import eventually
from support.object_store import Keys, ObjectStore
from support.object_store_client import fetch

MIB = 1024 * 1024


def connect(store: ObjectStore, bucket: str, keys: Keys | None = None, region: str = "") -> S3Store:
    """Return obstore's client for a bucket, which tries once."""
    keys = keys or store.keys
    return S3Store(
        bucket,
        endpoint=store.endpoint_url,
        access_key_id=keys.access_key_id,
        secret_access_key=keys.secret_access_key,
        region=region or store.region,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )


async def test_an_object_is_kept_as_it_was_given(object_store: ObjectStore) -> None:
    """Its bytes, key and content type come back, through another client than the one that wrote it."""
    bucket = await object_store.make_bucket()
    client = connect(object_store, bucket)
    await obstore.put_async(client, "a b/ü+%.png", b"picture", attributes={"Content-Type": "image/png"})

    stored = await object_store.read(bucket, "a b/ü+%.png")

    assert (stored.body, stored.content_type) == (b"picture", "image/png")
    assert await object_store.keys_in(bucket) == ["a b/ü+%.png"]


async def test_the_second_client_writes_what_the_first_reads(object_store: ObjectStore) -> None:
    """Both clients mean the same by a key."""
    bucket = await object_store.make_bucket()
    await object_store.write(bucket, "a/ä b.txt", b"text", "text/plain")
    found = await connect(object_store, bucket).get_async("a/ä b.txt")
    assert bytes(await found.bytes_async()) == b"text"


async def test_parts_become_one_object(object_store: ObjectStore) -> None:
    """A multipart upload is open until it is completed, and then reads as the whole."""
    bucket = await object_store.make_bucket()
    content = os.urandom(11 * MIB)

    async def is_begun() -> bool:
        return await object_store.open_uploads(bucket) == ["big.bin"]

    async with obstore.open_writer_async(connect(object_store, bucket), "big.bin", buffer_size=5 * MIB) as writer:
        await writer.write(content)
        await writer.flush()
        await eventually(is_begun)  # a flush of obstore's does not wait for the parts

    assert (await object_store.read(bucket, "big.bin")).body == content
    assert await object_store.open_uploads(bucket) == []


async def test_a_presigned_url_works_and_only_as_signed(object_store: ObjectStore) -> None:
    """Everybody can read with it; with another key in it nobody can."""
    bucket = await object_store.make_bucket()
    for key in ("one", "two"):
        await object_store.write(bucket, key, key.encode())
    url = await obstore.sign_async(connect(object_store, bucket), "GET", "one", timedelta(minutes=1))

    assert (await fetch(url)).body == b"one"
    assert (await fetch(url.replace("/one?", "/two?"))).status == 403


async def test_a_canned_access_list_shows(object_store: ObjectStore) -> None:
    """What was uploaded is private, until its access list says otherwise."""
    bucket = await object_store.make_bucket()
    await object_store.write(bucket, "key", b"1")
    assert not await object_store.is_public(bucket, "key")
    await object_store.set_access(bucket, "key", "public-read")
    assert await object_store.is_public(bucket, "key")


@pytest.mark.parametrize(
    ("access_key_id", "secret_access_key", "code"),
    [("tests:owner", "wrong", "SignatureDoesNotMatch"), ("nobody", "wrong", "SignatureDoesNotMatch")],
)
async def test_wrong_keys_are_refused(
    object_store: ObjectStore, access_key_id: str, secret_access_key: str, code: str
) -> None:
    """A signature that does not fit the key is seen."""
    bucket = await object_store.make_bucket()
    with pytest.raises(PermissionDeniedError, match=f"<Code>{code}</Code>"):
        await obstore.put_async(connect(object_store, bucket, Keys(access_key_id, secret_access_key)), "key", b"1")
    assert await object_store.keys_in(bucket) == []


async def test_a_guest_may_nothing(object_store: ObjectStore) -> None:
    """Right keys of somebody without rights are another refusal."""
    bucket = await object_store.make_bucket()
    with pytest.raises(PermissionDeniedError, match="<Code>AccessDenied</Code>"):
        await obstore.put_async(connect(object_store, bucket, object_store.guest), "key", b"1")


async def test_a_wrong_region_is_told_the_right_one(object_store: ObjectStore) -> None:
    """As on AWS, the refusal names the region in which the bucket is."""
    bucket = await object_store.make_bucket()
    with pytest.raises(BaseError, match=f"AuthorizationHeaderMalformed.*expecting '{object_store.region}'"):
        await obstore.put_async(connect(object_store, bucket, region="us-east-1"), "key", b"1")


async def test_a_late_store_refuses_what_is_signed_now(
    late_object_store: ObjectStore, object_store: ObjectStore
) -> None:
    """A clock that is an hour off is seen; the stores are two."""
    with pytest.raises(PermissionDeniedError, match="<Code>RequestTimeTooSkewed</Code>"):
        await obstore.put_async(connect(late_object_store, "any-bucket"), "key", b"1")
    assert late_object_store.pid != object_store.pid


async def test_it_has_no_secret_in_its_command(object_store: ObjectStore) -> None:
    """The keys are in no process's arguments and not in what a failing test prints."""
    assert object_store.is_running()
    said = json.dumps(psutil.Process(object_store.pid).cmdline()) + repr(object_store)
    assert object_store.secret_access_key not in said
