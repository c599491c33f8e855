"""The Azure Blob server of the tests is one: it keeps what it is given, and checks who asks."""

import base64
import os
from datetime import timedelta

import obstore
import psutil
import pytest
from obstore.exceptions import NotFoundError, PermissionDeniedError
from obstore.store import AzureStore as Client

from support.eventually import eventually
from support.object_store_azurite import AzureStore
from support.object_store_client import fetch
from support.object_store_proxy import StoreProxy

MIB = 1024 * 1024


def connect(store: AzureStore, container: str, account_key: str = "") -> Client:
    """Return obstore's client for a container, which tries once."""
    return Client(
        container,
        endpoint=store.endpoint_url,
        account_name=store.account,
        account_key=account_key or store.account_key,
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )


async def test_a_blob_is_kept_as_it_was_given(azure_store: AzureStore) -> None:
    """Its bytes, name and content type come back, through another client than the one that wrote it."""
    container = await azure_store.make_container()
    client = connect(azure_store, container)
    await obstore.put_async(client, "a b/ü+%.png", b"picture", attributes={"Content-Type": "image/png"})

    stored = await azure_store.read(container, "a b/ü+%.png")

    assert (stored.body, stored.content_type) == (b"picture", "image/png")
    assert await azure_store.keys_in(container) == ["a b/ü+%.png"]


async def test_blocks_become_one_blob(azure_store: AzureStore) -> None:
    """Blocks are there before the blob is, and then it reads as the whole."""
    container = await azure_store.make_container()
    content = os.urandom(11 * MIB)

    async def is_begun() -> bool:
        return await azure_store.keys_in(container, is_whole=False) == ["big.bin"]

    async with obstore.open_writer_async(connect(azure_store, container), "big.bin", buffer_size=5 * MIB) as writer:
        await writer.write(content)
        await eventually(is_begun)  # a flush of obstore's does not wait for the blocks
        assert await azure_store.keys_in(container) == []
    assert (await azure_store.read(container, "big.bin")).body == content


async def test_a_signed_url_works_and_only_as_signed(azure_store: AzureStore) -> None:
    """Everybody can read with it; with another name in it nobody can."""
    container = await azure_store.make_container()
    client = connect(azure_store, container)
    for key in ("one", "two"):
        await obstore.put_async(client, key, key.encode())
    url = await obstore.sign_async(client, "GET", "one", timedelta(minutes=1))

    assert (await fetch(url)).body == b"one"
    assert (await fetch(url.replace("/one?", "/two?"))).status == 403


async def test_a_proxy_breaks_no_signature(azure_store: AzureStore) -> None:
    """The faults of the object store's proxy can be made before this server too."""
    container = await azure_store.make_container()
    async with StoreProxy(azure_store.server_url) as proxy:
        proxy.answer("PUT", f"*/{container}/key", status=500)
        client = connect(azure_store.behind(proxy.url), container)
        with pytest.raises(obstore.exceptions.BaseError):
            await obstore.put_async(client, "key", b"1")
        await obstore.put_async(client, "key", b"2")
    assert (await azure_store.read(container, "key")).body == b"2"


async def test_a_wrong_key_and_a_missing_container_are_told_apart(azure_store: AzureStore) -> None:
    """A signature that does not fit the account is one refusal, a container that is not there another."""
    container = await azure_store.make_container()
    wrong = base64.b64encode(bytes(64)).decode()
    with pytest.raises(PermissionDeniedError, match="<Code>AuthorizationFailure</Code>"):
        await obstore.put_async(connect(azure_store, container, wrong), "key", b"1")
    with pytest.raises((NotFoundError, FileNotFoundError), match="<Code>ContainerNotFound</Code>"):
        await obstore.put_async(connect(azure_store, "not-there"), "key", b"1")


async def test_it_has_no_secret_in_its_command(azure_store: AzureStore) -> None:
    """The key is in no process's arguments and not in what a failing test prints."""
    process = psutil.Process(azure_store.pid)
    assert azure_store.account_key not in repr([process.cmdline(), process.parent().cmdline(), azure_store])
