"""Private repositories on github.com, by the token; and nobody else sees it."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from comfyworker.comfyui.locate import Installation
from comfyworker.errors import NodeInstallFailed
from comfyworker.provision.entries import NodeEntry
from comfyworker.provision.nodes import NodePacks
from comfyworker.settings import ProvisionSettings
from support.git_repositories import GitRepository, GitServer
from support.github import GitHub
from support.listening import Listener


@pytest.fixture
def pack(make_repository: Callable[[str], GitRepository]) -> GitRepository:
    """Return a repository with a release."""
    repository = make_repository("Pack")
    repository.commit({"__init__.py": "1"})
    repository.tag("v1")
    return repository


@pytest.fixture
async def github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GitHub]:
    """Serve the repositories as github.com, and lead git there."""
    async with GitHub(tmp_path / "repositories", tmp_path) as github:
        for name, value in github.variables().items():
            monkeypatch.setenv(name, value)
        yield github


async def place(installation: Installation, url: str, token: str | None) -> NodePacks:
    """Place a pack with that token."""
    packs = NodePacks(installation, ProvisionSettings.model_validate({"GITHUB_TOKEN": token}), Listener())
    await packs.place(await packs.resolve(NodeEntry(url=url)))
    return packs


async def test_the_token_opens_a_private_repository(
    installation: Installation, github: GitHub, pack: GitRepository
) -> None:
    """And is written nowhere."""
    packs = await place(installation, github.url(pack, is_private=True), GitServer.PASSWORD)
    assert packs.placed()["Pack"].commit == pack.head
    files = [path for path in installation.base_dir.rglob("*") if path.is_file()]
    assert not any(GitServer.PASSWORD.encode() in path.read_bytes() for path in files)


async def test_a_public_repository_never_sees_the_token(
    installation: Installation, github: GitHub, pack: GitRepository
) -> None:
    """A token that has expired would bar it."""
    await place(installation, github.url(pack, is_private=False), "expired")
    assert set(github.server.authorizations) == {""}


@pytest.mark.parametrize("token", [None, "wrong"])
async def test_without_the_right_token_it_is_as_if_it_were_not_there(
    installation: Installation, github: GitHub, pack: GitRepository, token: str | None
) -> None:
    """As GitHub itself has it; the hint names the setting."""
    with pytest.raises(NodeInstallFailed, match="or it is private") as caught:
        await place(installation, github.url(pack, is_private=True), token)
    assert caught.value.hint is not None
    assert "GITHUB_TOKEN" in caught.value.hint


async def test_another_host_never_sees_the_token(
    installation: Installation, tmp_path: Path, pack: GitRepository
) -> None:
    """Even when it asks for a password."""
    async with GitServer(tmp_path / "repositories") as server:
        with pytest.raises(NodeInstallFailed, match="or it is private"):
            await place(installation, server.url(pack, "private"), GitServer.PASSWORD)
        assert set(server.authorizations) == {""}
