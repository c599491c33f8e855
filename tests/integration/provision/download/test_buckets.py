"""Models in a bucket of a real object store."""

from pathlib import Path

import pytest
import structlog

from comfyworker.errors import DownloadFailed
from comfyworker.provision.download import hash_file
from comfyworker.settings import load_settings
from support.downloads import MEBIBYTE, Fetcher, content
from support.model_server import Model, ModelServer
from support.object_store import ObjectStore

BODY = content(900_000, seed=7)


@pytest.fixture
async def bucket(object_store: ObjectStore, fetch: Fetcher) -> str:
    """Return a bucket that is laid out as seed 003's is, for which the worker has keys."""
    name = await object_store.make_bucket()
    fetch.store = load_settings(object_store.variables(name)).store
    await object_store.write(name, "models/vae/ae.safetensors", BODY)
    await object_store.write(name, "models/loras/wan/x y.safetensors", b"small")
    await object_store.write(name, "models/loras/", b"")
    await object_store.write(name, "models-old/vae/no.safetensors", b"another")
    return name


async def test_a_model(fetch: Fetcher, bucket: str) -> None:
    """It comes by a URL that is signed, which nobody is told."""
    with structlog.testing.capture_logs() as events:
        receipt = await fetch(f"s3://{bucket}/models/vae/ae.safetensors")
    assert (fetch.folder / "ae.safetensors").read_bytes() == BODY
    assert receipt.url == f"s3://{bucket}/models/vae/ae.safetensors"
    assert receipt.fetched_bytes == len(BODY)
    assert "Signature" not in str(events)


async def test_listing(fetch: Fetcher, bucket: str) -> None:
    """Each file has its folder below the prefix, and an address that can be fetched."""
    async with fetch.downloader() as downloader:
        found = await downloader.list_bucket(f"s3://{bucket}/models")
        assert [(model.destination, model.filename, model.size_bytes) for model in found] == [
            ("loras/wan", "x y.safetensors", 5),
            ("vae", "ae.safetensors", len(BODY)),
        ]
        receipt = await downloader.fetch(fetch.download(found[0].url))
        everything = await downloader.list_bucket(f"s3://{bucket}")
    assert (receipt.filename, receipt.size_bytes) == ("x y.safetensors", 5)
    assert len(everything) == 3


async def test_upload(fetch: Fetcher, bucket: str, object_store: ObjectStore, tmp_path: Path) -> None:
    """A file goes there in parts, and comes back the same."""
    path = tmp_path / "big.safetensors"
    path.write_bytes(content(20 * MEBIBYTE, seed=8))
    told: list[tuple[int, int | None]] = []
    url = f"s3://{bucket}/models/checkpoints/big%20one.safetensors"
    async with fetch.downloader() as downloader:
        await downloader.upload(path, url, on_bytes=lambda done, total: told.append((done, total)))
        receipt = await downloader.fetch(fetch.download(url))
    size = 20 * MEBIBYTE
    assert told[-1] == (size, size)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert receipt.sha256 == await hash_file(path)
    assert "models/checkpoints/big one.safetensors" in await object_store.keys_in(bucket)


async def test_anybody_may_read(fetch: Fetcher, server: ModelServer, model: Model) -> None:
    """Without keys, what is public comes, unsigned, and what is not is explained."""
    fetch.store = load_settings({"BUCKET_ENDPOINT_URL": server.url}).store
    assert (await fetch("s3://files/a.safetensors")).sha256 == model.sha256
    assert {asked.path for asked in server.asked} == {"/files/a.safetensors"}
    model.status = 403
    with pytest.raises(DownloadFailed, match="may not be read with these keys") as caught:
        await fetch("s3://files/a.safetensors")
    assert caught.value.details["reason"] == "forbidden"
    assert "BUCKET_ACCESS_KEY_ID" in (caught.value.hint or "")
    async with fetch.downloader() as downloader:
        with pytest.raises(DownloadFailed, match="cannot be written without keys"):
            await downloader.upload(fetch.folder / "a.safetensors", "s3://files/x.safetensors")


async def test_what_is_not_there(fetch: Fetcher, bucket: str) -> None:
    """A missing object and a missing bucket are told apart."""
    with pytest.raises(DownloadFailed, match="there is no such object") as caught:
        await fetch(f"s3://{bucket}/models/vae/none.safetensors")
    assert caught.value.details["reason"] == "not_found"
    with pytest.raises(DownloadFailed, match="there is no such bucket"):
        await fetch("s3://no-such-bucket-here/models/vae/none.safetensors")
    with pytest.raises(DownloadFailed, match="names no object"):
        await fetch(f"s3://{bucket}/")


async def test_r2(fetch: Fetcher, bucket: str, object_store: ObjectStore) -> None:
    """R2_… are the keys of r2://, and of s3:// where BUCKET_… say nothing; without an endpoint it is said."""
    keys = {"R2_ACCESS_KEY_ID": object_store.access_key_id, "R2_SECRET_ACCESS_KEY": object_store.secret_access_key}
    region = {"BUCKET_REGION": object_store.region}
    fetch.store = load_settings({"R2_ENDPOINT": object_store.endpoint_url, **keys, **region}).store
    for scheme in ("r2", "s3"):
        async with fetch.downloader() as downloader:
            [model] = await downloader.list_bucket(f"{scheme}://{bucket}/models/vae")
        assert model.url == f"{scheme}://{bucket}/models/vae/ae.safetensors"
    fetch.store = load_settings(keys).store
    with pytest.raises(DownloadFailed, match="R2_ENDPOINT is not set"):
        await fetch(f"r2://{bucket}/models/vae/ae.safetensors")


async def test_wrong_keys(fetch: Fetcher, bucket: str, object_store: ObjectStore) -> None:
    """Keys that may do nothing, and half a pair, are named by their variables."""
    variables = object_store.variables(bucket)
    guest = {
        "BUCKET_ACCESS_KEY_ID": object_store.guest.access_key_id,
        "BUCKET_SECRET_ACCESS_KEY": object_store.guest.secret_access_key,
    }
    fetch.store = load_settings({**variables, **guest}).store
    with pytest.raises(DownloadFailed, match="may not be read with these keys"):
        await fetch(f"s3://{bucket}/models/vae/ae.safetensors")
    del variables["BUCKET_SECRET_ACCESS_KEY"]
    fetch.store = load_settings(variables).store
    with pytest.raises(DownloadFailed, match="BUCKET_SECRET_ACCESS_KEY is missing"):
        await fetch(f"s3://{bucket}/models/vae/ae.safetensors")
