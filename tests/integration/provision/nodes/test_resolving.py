"""What `latest`, `nightly`, tags, commits and branches become, asked of real repositories."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from comfyworker.errors import NodeInstallFailed
from comfyworker.provision.entries import NodeEntry
from comfyworker.provision.nodes import NodePacks
from support.git_repositories import GitRepository, GitServer, git
from support.listening import Listener

Make = Callable[[str], GitRepository]


@pytest.fixture
def pack(make_repository: Make) -> GitRepository:
    """Return a repository with releases, a pre-release, a branch and a tip that is not released."""
    repository = make_repository("ComfyUI-Pack")
    repository.commit({"a": "1"})
    repository.tag("v1.9.0", annotated=True)
    repository.commit({"a": "2"})
    repository.tag("v1.10.0", annotated=True)
    repository.switch("dev")
    repository.commit({"a": "3"})
    repository.tag("v2.0.0-beta.1")
    repository.switch("main")
    repository.commit({"a": "4"})
    return repository


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[GitServer]:
    """Serve the repositories over HTTP."""
    async with GitServer(tmp_path / "repositories") as server:
        yield server


async def commit_of(packs: NodePacks, url: str, version: str) -> tuple[str | None, str | None]:
    """Return the commit and the release that a version becomes."""
    node = await packs.resolve(NodeEntry(url=url, version=version))
    return node.commit, node.release


async def test_latest_is_the_newest_release(packs: NodePacks, pack: GitRepository) -> None:
    """By version order, not by date, and an annotated tag leads to its commit."""
    commit, release = await commit_of(packs, pack.url, "latest")
    assert release == "v1.10.0"
    assert commit == _commit(pack, "v1.10.0^{commit}")


async def test_latest_advances_with_a_new_release(packs: NodePacks, pack: GitRepository) -> None:
    """A release that is made later is seen the next time."""
    await commit_of(packs, pack.url, "latest")
    pack.tag("v1.11.0")
    assert await commit_of(packs, pack.url, "latest") == (pack.head, "v1.11.0")


async def test_latest_of_a_repository_without_releases_is_its_tip_and_told(
    packs: NodePacks, make_repository: Make, listener: Listener
) -> None:
    """The default branch, with a sentence that says so."""
    repository = make_repository("Plain")
    tip = repository.commit({"a": "1"})
    assert await commit_of(packs, repository.url, "latest") == (tip, None)
    assert listener.notes == [
        "Plain: its repository has no release tag; the tip of its default branch is taken for `latest`."
    ]


@pytest.mark.parametrize(
    ("version", "revision", "release"),
    [
        ("nightly", "main", None),
        ("v1.9.0", "v1.9.0^{commit}", "v1.9.0"),
        ("1.9.0", "v1.9.0^{commit}", "v1.9.0"),
        ("dev", "dev", None),
        ("v2.0.0-beta.1", "dev", "v2.0.0-beta.1"),
    ],
)
async def test_each_kind_of_version_becomes_a_commit(
    packs: NodePacks, pack: GitRepository, version: str, revision: str, release: str | None
) -> None:
    """The tip of the default branch, a tag with and without `v`, a branch, a pre-release that is asked for."""
    assert await commit_of(packs, pack.url, version) == (_commit(pack, revision), release)


async def test_a_commit_may_be_named_whole_or_by_its_first_digits(packs: NodePacks, pack: GitRepository) -> None:
    """Also one that no tag or branch names."""
    middle = pack.commit({"a": "5"})
    pack.commit({"a": "6"})
    assert await commit_of(packs, pack.url, middle) == (middle, None)
    assert await commit_of(packs, pack.url, middle[:8]) == (middle, None)
    assert await commit_of(packs, pack.url, pack.head[:8].upper()) == (pack.head, None)


async def test_a_version_that_is_not_there_names_the_nearest(packs: NodePacks, pack: GitRepository) -> None:
    """With what there is, and what the words mean."""
    with pytest.raises(NodeInstallFailed, match=r"has no tag, branch or commit 'v1\.91\.0'") as caught:
        await commit_of(packs, pack.url, "v1.91.0")
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("Did you mean 'v1.9.0'? It has: v1.9.0")
    with pytest.raises(NodeInstallFailed, match="has no tag, branch or commit 'abcdef12'"):
        await commit_of(packs, pack.url, "abcdef12")


async def test_a_lock_brings_back_what_it_was(packs: NodePacks, pack: GitRepository) -> None:
    """Whatever was released since."""
    entry = NodeEntry(url=pack.url)
    locked = (await packs.resolve(entry)).lock()
    pack.tag("v9.0.0")
    node = await packs.resolve(entry, locked=locked)
    assert (node.commit, node.release, node.digest) == (locked.commit, "v1.10.0", locked.digest)


async def test_a_lock_of_another_source_is_told(packs: NodePacks, pack: GitRepository) -> None:
    """A lock file that is older than config.yml must not bring back what is not asked for any more."""
    locked = (await packs.resolve(NodeEntry(url=pack.url))).lock()
    with pytest.raises(NodeInstallFailed, match="another source"):
        await packs.resolve(NodeEntry(url=pack.url + "/"), locked=locked.model_copy(update={"url": "file:///other"}))


async def test_a_repository_that_is_not_there_is_told_and_asks_nobody(
    packs: NodePacks, pack: GitRepository, server: GitServer
) -> None:
    """Neither a missing nor a private one waits for a password to be typed; their error is the same."""
    url = server.url(pack, "private")
    for place in (url, f"http://127.0.0.1:{server.port}/smart/nothing", "file:///nothing/here"):
        with pytest.raises(NodeInstallFailed, match=r"there is no repository at .*, or it is private") as caught:
            await commit_of(packs, place, "latest")
        assert not caught.value.retryable


async def test_a_server_that_is_down_may_be_tried_again(
    packs: NodePacks, pack: GitRepository, server: GitServer
) -> None:
    """The network's failures are told apart from those of the config."""
    url = server.url(pack)
    await server.__aexit__(None, None, None)
    with pytest.raises(NodeInstallFailed, match="could not be reached") as caught:
        await commit_of(packs, url, "latest")
    assert caught.value.retryable


async def test_an_empty_repository_is_told(packs: NodePacks, make_repository: Make) -> None:
    """There is nothing that could be taken."""
    with pytest.raises(NodeInstallFailed, match="is empty"):
        await commit_of(packs, make_repository("Empty").url, "latest")


def _commit(repository: GitRepository, revision: str) -> str:
    return git(repository.path, "rev-parse", revision)
