"""Files of Civitai, of which the tests' server plays the part, over TLS and under its own name."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult
from pydantic import SecretStr

from comfyworker.errors import DownloadFailed
from comfyworker.provision.download import Download, Downloader, Receipt
from comfyworker.settings import ProvisionSettings, StoreSettings
from support.certificates import make_certificate
from support.downloads import content
from support.model_server import Model, ModelServer

TOKEN = "civitai-5ecre7"
NAMES = ("civitai.com", "localhost", "elsewhere.test")


class Here(AbstractResolver):
    """A name server by which everybody is this machine."""

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:  # noqa: ARG002  # aiohttp's
        """Return 127.0.0.1."""
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=2, proto=0, flags=0)]

    async def close(self) -> None:
        """Do nothing."""


@pytest.fixture
async def civitai(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ModelServer]:
    """Return a server over TLS that this process trusts to be civitai.com."""
    certificate = make_certificate(tmp_path, *NAMES)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.file))
    async with ModelServer(certificate.serving()) as server:
        server.add("128713", Model(content(1_000_000), disposition='attachment; filename="dream.safetensors"'))
        yield server


async def fetch(url: str, folder: Path, token: str | None = TOKEN) -> Receipt:
    """Fetch with a token of Civitai."""
    settings = ProvisionSettings(attempts=2, civitai_token=None if token is None else SecretStr(token))
    async with Downloader(settings, StoreSettings(), resolver=Here()) as downloader:
        return await downloader.fetch(Download(url=url, folder=folder))


@pytest.mark.parametrize("path", ["/api/download/models/128713", "/models/4384/dream?modelVersionId=128713"])
async def test_a_model(civitai: ModelServer, tmp_path: Path, path: str) -> None:
    """The token goes to Civitai alone, the name is the header's, and nothing is asked by HEAD."""
    model = civitai.models["128713"]
    model.token = TOKEN
    with structlog.testing.capture_logs() as events:
        receipt = await fetch(f"https://civitai.com:{civitai.port}{path}", tmp_path)
    assert (receipt.filename, receipt.sha256) == ("dream.safetensors", model.sha256)
    shown = {asked.host.partition(":")[0]: asked.headers.get("Authorization") for asked in civitai.asked}
    assert shown == {"civitai.com": f"Bearer {TOKEN}", "localhost": None}
    assert {asked.method for asked in civitai.asked} == {"GET"}
    assert all(asked.headers["User-Agent"].startswith("comfyworker/") for asked in civitai.asked)
    assert TOKEN not in str(events)


async def test_no_token(civitai: ModelServer, tmp_path: Path) -> None:
    """Being led to its login is explained."""
    civitai.models["128713"].token = TOKEN
    with pytest.raises(DownloadFailed, match="CIVITAI_TOKEN is not set") as caught:
        await fetch(f"https://civitai.com:{civitai.port}/api/download/models/128713", tmp_path, token=None)
    assert caught.value.details["reason"] == "unauthorized"


async def test_a_token_that_may_not(civitai: ModelServer, tmp_path: Path) -> None:
    """So is a refusal of a token."""
    civitai.models["128713"].token = "another"
    with pytest.raises(DownloadFailed, match="may not be fetched with CIVITAI_TOKEN"):
        await fetch(f"https://civitai.com:{civitai.port}/api/download/models/128713", tmp_path)


async def test_a_page_without_a_version(civitai: ModelServer, tmp_path: Path) -> None:
    """A model has several versions: none is guessed."""
    with pytest.raises(DownloadFailed, match="has several files"):
        await fetch(f"https://civitai.com:{civitai.port}/models/4384/dream", tmp_path)
    assert civitai.asked == []


async def test_another_host(civitai: ModelServer, tmp_path: Path) -> None:
    """It never sees a token."""
    await fetch(f"https://elsewhere.test:{civitai.port}/api/download/models/128713", tmp_path)
    assert {asked.headers.get("Authorization") for asked in civitai.asked} == {None}


async def test_a_certificate_of_another_name(civitai: ModelServer, tmp_path: Path) -> None:
    """Nothing is sent there."""
    with pytest.raises(DownloadFailed, match="no safe connection"):
        await fetch(f"https://unknown.test:{civitai.port}/files/128713", tmp_path)
    assert civitai.asked == []


async def test_from_https_to_http(civitai: ModelServer, tmp_path: Path) -> None:
    """A redirect that gives up the protection is refused."""
    with pytest.raises(DownloadFailed, match="from https to http"):
        await fetch(f"https://civitai.com:{civitai.port}/plain/128713", tmp_path)
