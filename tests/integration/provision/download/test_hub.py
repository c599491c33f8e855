"""Files of the Hub, of which the tests' server plays the part: HF_ENDPOINT leads to it."""

import asyncio
import sys
from pathlib import Path

import pytest
import structlog
from pydantic import SecretStr

from comfyworker.errors import DownloadFailed
from support.downloads import Fetcher
from support.model_server import COMMIT, Model, ModelServer

TOKEN = "hf_5ecre7"
A = "/owner/name/resolve/main/a.safetensors"


@pytest.fixture(autouse=True)
def _hub(fetch: Fetcher, server: ModelServer) -> None:
    """Have the tests' server be the Hub."""
    fetch.settings = fetch.settings.model_copy(update={"hf_endpoint": f"{server.url}/"})


def with_token(fetch: Fetcher) -> None:
    """Set HF_TOKEN."""
    fetch.settings = fetch.settings.model_copy(update={"hf_token": SecretStr(TOKEN)})


@pytest.mark.parametrize(
    "url",
    [
        A,
        "/owner/name/blob/main/a.safetensors",
        "/owner/name/raw/main/a.safetensors?download=true",
        "hf://owner/name/a.safetensors",
        "hf://owner/name@main/a.safetensors",
        "https://huggingface.co/owner/name/resolve/main/a.safetensors",
        "https://hf.co/owner/name/blob/main/a.safetensors",
    ],
)
async def test_a_file(fetch: Fetcher, server: ModelServer, model: Model, url: str) -> None:
    """Each way to write it means the same file, which is fetched at its commit; HF_ENDPOINT is asked for all."""
    receipt = await fetch(url)
    assert (receipt.sha256, receipt.etag) == (model.sha256, model.sha256)
    head, first, *rest = server.asked
    assert (head.method, head.path) == ("HEAD", "/owner/name/resolve/main/a.safetensors")
    assert (first.method, first.path) == ("GET", f"/owner/name/resolve/{COMMIT}/a.safetensors")
    assert {asked.path.partition("?")[0] for asked in rest} == {"/store/a.safetensors"}


async def test_a_token(fetch: Fetcher, server: ModelServer, model: Model) -> None:
    """It is shown to the Hub, and not to the host of the bytes, which refuses it."""
    model.token = TOKEN
    with_token(fetch)
    with structlog.testing.capture_logs() as events:
        assert (await fetch(A)).sha256 == model.sha256
    hub, store = server.asked_for("/owner/"), server.asked_for("/store/")
    assert {asked.headers.get("Authorization") for asked in hub} == {f"Bearer {TOKEN}"}
    assert {asked.headers.get("Authorization") for asked in store} == {None}
    assert TOKEN not in str(events)


async def test_the_hub_knows_the_hash(fetch: Fetcher, server: ModelServer, model: Model) -> None:
    """A model that is another one than the config wants is not fetched at all."""
    with pytest.raises(DownloadFailed, match="at its source, not 0000") as caught:
        await fetch(A, sha256="0" * 64)
    assert caught.value.details["reason"] == "wrong_hash"
    assert server.sent["a.safetensors"] <= 1
    async with fetch.downloader() as downloader:
        remote = await downloader.probe(fetch.download(A))
    assert (remote.sha256, remote.size_bytes, remote.takes_ranges) == (model.sha256, len(model.body), True)


async def test_bytes_that_are_not_the_hubs(fetch: Fetcher, server: ModelServer, model: Model) -> None:
    """What the host of the bytes sends is held to the hash that the Hub told."""
    model.takes_ranges = False
    good = model.body
    model.stalls_after = 1_000_000

    async def damage() -> None:
        await server.stalled.wait()
        model.stalls_after = None
        server.released.set()

    _ = model.sha256
    model._hashed = (good[:-1] + b"\0", model.sha256)
    model.body = model._hashed[0]
    async with asyncio.TaskGroup() as group:
        group.create_task(damage())
        with pytest.raises(DownloadFailed) as caught:
            await fetch(A)
    assert caught.value.details["reason"] == "wrong_hash"
    assert fetch.names() == []


@pytest.mark.parametrize("has_token", [True, False])
async def test_a_gated_repository(fetch: Fetcher, server: ModelServer, model: Model, *, has_token: bool) -> None:
    """The error names the repository, where its terms are accepted, and whether HF_TOKEN is set."""
    model.token, model.gate = "hf_another", "GatedRepo"
    if has_token:
        with_token(fetch)
    with pytest.raises(DownloadFailed) as caught:
        await fetch(A)
    error = caught.value
    assert error.details["reason"] == "gated"
    assert "gated repository owner/name" in error.message
    assert ("HF_TOKEN is not set" in error.message) is not has_token
    assert f"{server.url}/owner/name" in (error.hint or "")
    assert TOKEN not in str(error.to_dict())


@pytest.mark.parametrize(
    ("has_token", "told"), [(True, "does not know HF_TOKEN"), (False, "it is private: HF_TOKEN is not set")]
)
async def test_a_private_repository(fetch: Fetcher, model: Model, *, has_token: bool, told: str) -> None:
    """The Hub does not say whether it exists."""
    model.token = "hf_another"
    if has_token:
        with_token(fetch)
    with pytest.raises(DownloadFailed, match=told) as caught:
        await fetch(A)
    assert caught.value.details["reason"] == "unauthorized"


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/owner/name/resolve/main/b.safetensors", "has no file 'b.safetensors' at 'main'"),
        ("/owner/name/resolve/v9/a.safetensors", "has no revision 'v9'"),
    ],
)
async def test_what_is_not_there(fetch: Fetcher, path: str, told: str) -> None:
    """The error says which of repository, revision and file is missing."""
    with pytest.raises(DownloadFailed, match=told):
        await fetch(path)


@pytest.mark.parametrize(
    "url", ["https://huggingface.co/owner/name", "hf://owner/a.safetensors", "hf://../../x", "https://hf.co/"]
)
async def test_addresses_of_no_file(fetch: Fetcher, server: ModelServer, url: str) -> None:
    """The error shows how it is written, and nobody is asked."""
    with pytest.raises(DownloadFailed, match="names no file of a repository"):
        await fetch(url)
    assert server.asked == []


async def test_offline(fetch: Fetcher, server: ModelServer) -> None:
    """With HF_HUB_OFFLINE nobody is asked."""
    fetch.settings = fetch.settings.model_copy(update={"hf_offline": True})
    with pytest.raises(DownloadFailed, match="HF_HUB_OFFLINE is set"):
        await fetch(A)
    assert server.asked == []


async def test_a_hub_that_is_away(fetch: Fetcher) -> None:
    """It may come back."""
    fetch.settings = fetch.settings.model_copy(update={"hf_endpoint": "http://127.0.0.1:9", "attempts": 1})
    with pytest.raises(DownloadFailed, match="the Hub cannot be reached") as caught:
        await fetch("hf://owner/name/a.safetensors")
    assert caught.value.retryable


async def test_variables_of_the_process(server: ModelServer, model: Model, tmp_path: Path) -> None:
    """HF_ENDPOINT and HF_TOKEN of the environment are the settings'."""
    code = """
import asyncio, json, os, sys
from pathlib import Path
from comfyworker.provision.download import Download, Downloader
from comfyworker.settings import load_settings

async def main():
    settings = load_settings(dict(os.environ))
    async with Downloader(settings.provision, settings.store) as downloader:
        receipt = await downloader.fetch(Download(url="hf://owner/name/a.safetensors", folder=Path(sys.argv[1])))
    print("ANSWER", receipt.sha256)

asyncio.run(main())
"""
    model.token = TOKEN
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        str(tmp_path),
        stdout=asyncio.subprocess.PIPE,
        env={"HF_ENDPOINT": server.url, "HF_API_TOKEN": TOKEN, "HOME": str(tmp_path)},
    )
    out, _ = await process.communicate()
    assert f"ANSWER {model.sha256}" in out.decode()
