"""The object store can be asked as Google Cloud Storage is, and checks who asks as Google does."""

import json
import os
from datetime import timedelta

import obstore
import pytest
from obstore.exceptions import BaseError, UnauthenticatedError
from obstore.store import GCSStore

from support.object_store import ObjectStore
from support.object_store_client import fetch

MIB = 1024 * 1024


def connect(bucket: str, account: str) -> GCSStore:
    """Return obstore's client for a bucket, which tries once."""
    return GCSStore(
        bucket, service_account_key=account, client_options={"allow_http": True}, retry_config={"max_retries": 0}
    )


@pytest.mark.parametrize("key", ["a/b.png", "a b/ü.png"])
async def test_an_object_is_kept_as_it_was_given(object_store: ObjectStore, key: str) -> None:
    """What came through Google's interface is read through S3's, bytes, key and content type; a signed URL opens it."""
    bucket = await object_store.make_bucket()
    client = connect(bucket, object_store.google)
    await obstore.put_async(client, key, b"picture", attributes={"Content-Type": "image/png"}, use_multipart=False)

    stored = await object_store.read(bucket, key)
    assert (stored.body, stored.content_type) == (b"picture", "image/png")
    assert await object_store.keys_in(bucket) == [key]
    assert (await fetch(await obstore.sign_async(client, "GET", key, timedelta(minutes=1)))).body == b"picture"


async def test_parts_become_one_object(object_store: ObjectStore) -> None:
    """A multipart upload ends as the whole; an object can be deleted."""
    bucket = await object_store.make_bucket()
    client = connect(bucket, object_store.google)
    content = os.urandom(11 * MIB)
    await obstore.put_async(client, "big.bin", content, chunk_size=5 * MIB)

    assert (await object_store.read(bucket, "big.bin")).body == content
    await obstore.delete_async(client, "big.bin")
    assert await object_store.keys_in(bucket) == []


async def test_a_signed_url_works_only_as_signed(object_store: ObjectStore) -> None:
    """With another key in it nobody can read."""
    bucket = await object_store.make_bucket()
    await object_store.write(bucket, "two", b"two")
    url = await obstore.sign_async(connect(bucket, object_store.google), "GET", "one", timedelta(minutes=1))
    assert (await fetch(url.replace("/one?", "/two?"))).status == 403


async def test_a_url_expires(late_object_store: ObjectStore) -> None:
    """A URL that was signed an hour ago for a minute is refused."""
    bucket = await late_object_store.make_bucket()
    url = await obstore.sign_async(connect(bucket, late_object_store.google), "GET", "one", timedelta(minutes=1))
    answer = await fetch(url)
    assert (answer.status, b"<Code>ExpiredToken</Code>" in answer.body) == (400, True)


async def test_another_accounts_key_is_refused(object_store: ObjectStore, late_object_store: ObjectStore) -> None:
    """A token must be signed with the key of the account; without one nobody may anything."""
    bucket = await object_store.make_bucket()
    account = json.loads(object_store.google)
    account["private_key"] = json.loads(late_object_store.google)["private_key"]
    with pytest.raises(UnauthenticatedError, match="<Code>AuthenticationRequired</Code>"):
        await obstore.put_async(connect(bucket, json.dumps(account)), "key", b"1", use_multipart=False)
    assert (await fetch(f"{account['gcs_base_url']}/{bucket}/key")).status == 401


async def test_a_missing_bucket_is_told(object_store: ObjectStore) -> None:
    """The refusal is the store's own."""
    with pytest.raises((BaseError, FileNotFoundError), match="<Code>NoSuchBucket</Code>"):
        await obstore.put_async(connect("not-there", object_store.google), "key", b"1", use_multipart=False)
