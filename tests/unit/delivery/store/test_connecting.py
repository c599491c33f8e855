"""Connections to storages: made of the location, and of nothing in the process's environment."""

import base64
from urllib.parse import parse_qs, urlsplit

import pytest

from comfyworker.delivery.store import Stores, find_location
from comfyworker.delivery.store.faults import StoreFault
from comfyworker.settings import StoreSettings

KEYS = {"access_key_id": "AKIA", "secret_access_key": "secret", "region": "eu-west-1"}
AZURE_KEY = base64.b64encode(b"an azure key").decode()


async def url_of(**given: object) -> str:
    """Return the URL of an object in the storage of these settings."""
    settings = StoreSettings.model_validate(given)
    async with Stores(settings) as stores:
        location = find_location(settings)
        assert location is not None
        return await (await stores.open(location)).url("a/b c.png", expires_s=60)


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("https://b.s3.eu-west-1.amazonaws.com", "https://b.s3.eu-west-1.amazonaws.com/a/b%20c.png"),
        ("https://s3.eu-west-1.amazonaws.com/b", "https://s3.eu-west-1.amazonaws.com/b/a/b%20c.png"),
        ("http://minio:9000/b", "http://minio:9000/b/a/b%20c.png"),
        (
            "https://abc.storage.supabase.co/storage/v1/s3/b",
            "https://abc.storage.supabase.co/storage/v1/s3/b/a/b%20c.png",
        ),
    ],
)
async def test_where_urls_have_the_bucket(endpoint: str, url: str) -> None:
    """In the host, or in the path, as the location says."""
    made = await url_of(endpoint_url=endpoint, **KEYS)
    assert made.partition("?")[0] == url


async def test_temporary_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The location's token is in its URLs; the process's own never is."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "the-processs-own")
    endpoint = "https://s3.eu-west-1.amazonaws.com/b"
    query = parse_qs(urlsplit(await url_of(endpoint_url=endpoint, session_token="the-token", **KEYS)).query)
    assert query["X-Amz-Security-Token"] == ["the-token"]
    assert query["X-Amz-Credential"][0].startswith("AKIA/")
    assert "X-Amz-Security-Token" not in await url_of(endpoint_url=endpoint, **KEYS)


async def test_azure_without_the_processs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """AZURE_… of the process does not lead elsewhere."""
    for name, value in {
        "AZURE_STORAGE_ACCOUNT_NAME": "other",
        "AZURE_STORAGE_ACCOUNT_KEY": "b3RoZXI=",
        "AZURE_STORAGE_SAS_TOKEN": "sig=other",
        "AZURE_STORAGE_TOKEN": "other",
        "AZURE_CONTAINER_NAME": "other",
        "AZURE_STORAGE_USE_EMULATOR": "true",
        "AZURE_SKIP_SIGNATURE": "true",
        "AZURE_STORAGE_ENDPOINT": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)
    for endpoint in ("az://box", "https://myaccount.blob.core.windows.net/box"):
        url = await url_of(endpoint_url=endpoint, access_key_id="myaccount", secret_access_key=AZURE_KEY)
        assert url.startswith("https://myaccount.blob.core.windows.net/box/a/b%20c.png?")
    alone = await url_of(endpoint_url="https://myaccount.blob.core.windows.net/box", secret_access_key=AZURE_KEY)
    assert alone.startswith("https://myaccount.blob.core.windows.net/box/")


@pytest.mark.parametrize(
    ("settings", "reason", "name"),
    [
        ({"endpoint_url": "gs://b", "secret_access_key": "no json"}, "not the JSON", "BUCKET_SECRET_ACCESS_KEY"),
        ({"endpoint_url": "gs://b", "secret_access_key": '{"a": 1}'}, "not the JSON", "BUCKET_SECRET_ACCESS_KEY"),
        (
            {"endpoint_url": "gs://b", "secret_access_key": '{"client_email": "x@y", "private_key": "s3cr3t"}'},
            "its key cannot be used",
            "BUCKET_SECRET_ACCESS_KEY",
        ),
        (
            {"endpoint_url": "az://b", "access_key_id": "acc", "secret_access_key": "s3cr3t!"},
            "not base64",
            "BUCKET_SECRET_ACCESS_KEY",
        ),
    ],
)
async def test_keys_that_cannot_be(settings: dict[str, str], reason: str, name: str) -> None:
    """The fault names the setting and repeats nothing of the key."""
    with pytest.raises(StoreFault, match=reason) as caught:
        await url_of(**settings)
    assert name in (caught.value.hint or "")
    assert "s3cr3t" not in f"{caught.value} {caught.value.hint} {caught.value.__cause__}"


async def test_variables_that_obstore_takes_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one of them cannot be used, it is named."""
    monkeypatch.setenv("AWS_CHECKSUM_ALGORITHM", "nonsense")
    with pytest.raises(StoreFault) as caught:
        await url_of(endpoint_url="https://s3.eu-west-1.amazonaws.com/b", **KEYS)
    assert "AWS_CHECKSUM_ALGORITHM" in (caught.value.hint or "")


async def test_as_many_connections_as_are_kept() -> None:
    """The one that was asked for longest ago goes first."""
    settings = StoreSettings.model_validate({"endpoint_url": "http://minio:9000", **KEYS})
    locations = [find_location(settings.model_copy(update={"bucket": f"bucket-{number}"})) for number in range(9)]
    async with Stores(settings) as stores:
        opened = [await stores.open(location) for location in locations if location is not None]
        assert len(opened) == 9
        last, first = locations[8], locations[0]
        assert last is not None
        assert first is not None
        assert await stores.open(last) is opened[8]
        assert await stores.open(first) is not opened[0]
