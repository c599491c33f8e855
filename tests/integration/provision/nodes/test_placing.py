"""Custom nodes brought into custom_nodes: whole or not at all, and nothing of a user's lost."""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from comfyworker.comfyui.locate import Installation
from comfyworker.errors import NodeInstallFailed
from comfyworker.provision.entries import NodeEntry
from comfyworker.provision.nodes import NodePacks
from comfyworker.settings import ProvisionSettings
from support.git_repositories import GitRepository, GitServer, git
from support.listening import Listener

Make = Callable[[str], GitRepository]


@pytest.fixture
def custom_nodes(base_dir: Path) -> Path:
    """Return ComfyUI's custom_nodes."""
    return base_dir / "custom_nodes"


@pytest.fixture
def pack(make_repository: Make) -> GitRepository:
    """Return a repository with one release."""
    repository = make_repository("Pack")
    repository.commit({"__init__.py": "V = 1\n", "config.json": "{}", ".gitignore": "cache/\n*.user\n"})
    repository.tag("v1.0.0")
    return repository


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[GitServer]:
    """Serve the repositories over HTTP."""
    async with GitServer(tmp_path / "repositories") as server:
        yield server


async def place(packs: NodePacks, url: str, version: str = "latest") -> bool:
    """Resolve and place."""
    return await packs.place(await packs.resolve(NodeEntry(url=url, version=version)))


def loaded(custom_nodes: Path) -> list[str]:
    """Return the names that ComfyUI would load: its own rule, by the end of the name."""
    return sorted(entry.name for entry in custom_nodes.iterdir() if not entry.name.endswith(".disabled"))


def kept_folder(custom_nodes: Path) -> Path:
    """Return the one folder that was set aside."""
    [kept] = custom_nodes.glob("Pack.*.disabled")
    return kept


def inode_of(path: Path) -> int:
    """Return which file on the disk that is."""
    return path.stat().st_ino


def has_kept_folder(custom_nodes: Path) -> bool:
    """Tell whether a folder was set aside."""
    return any(custom_nodes.glob("Pack.*.disabled"))


async def test_a_release_is_placed_once(packs: NodePacks, pack: GitRepository, custom_nodes: Path) -> None:
    """With its commit checked out; the second time there is nothing to do."""
    assert await place(packs, pack.url)
    assert (custom_nodes / "Pack/__init__.py").read_text() == "V = 1\n"
    assert git(custom_nodes / "Pack", "rev-parse", "HEAD") == pack.head
    assert git(custom_nodes / "Pack", "status", "--porcelain") == ""
    assert not await place(packs, pack.url)
    assert loaded(custom_nodes) == ["Pack"]
    assert packs.placed()["Pack"].release == "v1.0.0"


async def test_an_update_keeps_what_the_pack_wrote_itself(
    packs: NodePacks, pack: GitRepository, custom_nodes: Path, listener: Listener
) -> None:
    """Settings, caches and models in its folder, ignored by git or not, and links; none is copied."""
    await place(packs, pack.url)
    folder = custom_nodes / "Pack"
    (folder / "cache/models").mkdir(parents=True)
    (folder / "cache/models/big.bin").write_bytes(b"model")
    (folder / "mine.user").write_text("settings")
    (folder / "note.txt").write_text("untracked")
    (folder / "linked").symlink_to("/elsewhere")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/old.pyc").write_bytes(b"stale")
    inode = inode_of(folder / "cache/models/big.bin")
    pack.commit({"__init__.py": "V = 2\n"})
    pack.tag("v2.0.0")
    assert await place(packs, pack.url)
    assert (folder / "__init__.py").read_text() == "V = 2\n"
    assert inode_of(folder / "cache/models/big.bin") == inode
    assert (folder / "mine.user").read_text() == "settings"
    assert (folder / "note.txt").read_text() == "untracked"
    assert os.readlink(folder / "linked") == "/elsewhere"  # noqa: PTH115 # the path itself is the answer
    assert not (folder / "__pycache__").exists()
    assert listener.notes == []
    assert not has_kept_folder(custom_nodes)


async def test_a_folder_that_a_user_changed_is_kept_under_another_name(
    packs: NodePacks, pack: GitRepository, custom_nodes: Path, listener: Listener
) -> None:
    """The new version is placed, the changed one stays whole beside it, disabled, and its name is told."""
    await place(packs, pack.url)
    (custom_nodes / "Pack/config.json").write_text('{"mine": 1}')
    pack.commit({"__init__.py": "V = 2\n"})
    pack.tag("v2.0.0")
    assert await place(packs, pack.url)
    kept = kept_folder(custom_nodes)
    assert (kept / "config.json").read_text() == '{"mine": 1}'
    assert (kept / "__init__.py").read_text() == "V = 1\n"
    assert (custom_nodes / "Pack/config.json").read_text() == "{}"
    assert listener.notes == [
        f"Pack: files were changed by hand (config.json); the folder as it was is kept as custom_nodes/{kept.name}."
    ]
    assert loaded(custom_nodes) == ["Pack"]


async def test_a_users_file_that_a_new_version_brings_itself_is_not_lost(
    packs: NodePacks, pack: GitRepository, custom_nodes: Path
) -> None:
    """The version's file is in place, the user's in the folder that was kept."""
    await place(packs, pack.url)
    (custom_nodes / "Pack/styles.csv").write_text("mine")
    pack.commit({"styles.csv": "theirs"})
    pack.tag("v2.0.0")
    await place(packs, pack.url)
    kept = kept_folder(custom_nodes)
    assert (kept / "styles.csv").read_text() == "mine"
    assert (custom_nodes / "Pack/styles.csv").read_text() == "theirs"


async def test_changes_at_the_version_that_is_wanted_stay(
    packs: NodePacks, pack: GitRepository, custom_nodes: Path, listener: Listener
) -> None:
    """There is nothing to place, so nothing is moved; it is told."""
    await place(packs, pack.url)
    (custom_nodes / "Pack/config.json").write_text("mine")
    assert not await place(packs, pack.url)
    assert (custom_nodes / "Pack/config.json").read_text() == "mine"
    assert listener.notes == ["Pack: files were changed by hand and stay so: config.json."]


async def test_a_folder_that_lost_files_is_made_anew_when_that_is_asked(
    packs: NodePacks, pack: GitRepository, custom_nodes: Path
) -> None:
    """What the pack wrote itself stays, and so does the folder as it was, since files of the version had changed."""
    node = await packs.resolve(NodeEntry(url=pack.url))
    await packs.place(node)
    (custom_nodes / "Pack/__init__.py").unlink()
    (custom_nodes / "Pack/mine.user").write_text("mine")
    assert not await packs.place(node)
    assert await packs.place(node, anew=True)
    assert (custom_nodes / "Pack/__init__.py").read_text() == "V = 1\n"
    assert (custom_nodes / "Pack/mine.user").read_text() == "mine"


async def test_a_branch_advances_even_when_its_history_was_rewritten(
    packs: NodePacks, pack: GitRepository, custom_nodes: Path
) -> None:
    """A forced push is followed, to the commit that the branch has now."""
    pack.switch("dev")
    pack.commit({"__init__.py": "V = 'dev'\n"})
    await place(packs, pack.url, "dev")
    pack.rewrite({"__init__.py": "V = 'rewritten'\n"})
    assert await place(packs, pack.url, "dev")
    assert (custom_nodes / "Pack/__init__.py").read_text() == "V = 'rewritten'\n"


async def test_submodules_come_along(packs: NodePacks, make_repository: Make, custom_nodes: Path) -> None:
    """Also those of submodules; what was written into one is kept over an update."""
    inner, middle, outer = (make_repository(name) for name in ("inner", "middle", "Outer"))
    inner.commit({"deep.py": "1"})
    middle.commit({"mid.py": "1"})
    middle.add_submodule(inner, "third/inner")
    outer.commit({"__init__.py": "1"})
    outer.add_submodule(middle, "lib/middle")
    await place(packs, outer.url, "nightly")
    folder = custom_nodes / "Outer"
    assert (folder / "lib/middle/third/inner/deep.py").read_text() == "1"
    (folder / "lib/middle/cache.bin").write_text("cached")
    outer.commit({"__init__.py": "2"})
    await place(packs, outer.url, "nightly")
    assert (folder / "lib/middle/cache.bin").read_text() == "cached"
    assert (folder / "lib/middle/third/inner/deep.py").read_text() == "1"
    assert loaded(custom_nodes) == ["Outer"]


async def test_a_submodule_from_this_disk_is_refused_to_a_repository_from_the_network(
    packs: NodePacks, make_repository: Make, server: GitServer, custom_nodes: Path
) -> None:
    """It could read what is not its own; and the failure leaves nothing behind."""
    inner, outer = make_repository("inner"), make_repository("Outer")
    inner.commit({"secret": "1"})
    outer.commit({"__init__.py": "1"})
    outer.add_submodule(inner, "inner")
    with pytest.raises(NodeInstallFailed, match=r"a submodule of .* could not be fetched"):
        await place(packs, server.url(outer), "nightly")
    assert loaded(custom_nodes) == []
    assert list((custom_nodes / ".comfyworker.disabled").iterdir()) == []


@pytest.mark.parametrize("kind", ["smart", "dumb"])
async def test_any_server_will_do(
    packs: NodePacks, pack: GitRepository, server: GitServer, custom_nodes: Path, kind: str
) -> None:
    """One that speaks git's protocol, and a plain web server, which can leave no history out."""
    first = pack.head
    pack.commit({"__init__.py": "V = 2\n"})
    assert await place(packs, server.url(pack, kind), first[:9])
    assert git(custom_nodes / "Pack", "rev-parse", "HEAD") == first
    pack.tag("v2")
    assert await place(packs, server.url(pack, kind), "latest")
    assert (custom_nodes / "Pack/__init__.py").read_text() == "V = 2\n"


async def test_no_hook_of_a_repository_or_a_user_is_run(
    packs: NodePacks, pack: GitRepository, custom_nodes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even one that the user's own git would put into each clone."""
    hooks = tmp_path / "template/hooks"
    hooks.mkdir(parents=True)
    (hooks / "post-checkout").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (hooks / "post-checkout").chmod(0o755)
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(hooks.parent))
    await place(packs, pack.url)
    assert not (tmp_path / "ran").exists()
    assert not (custom_nodes / "Pack/.git/hooks").exists()


async def test_a_clone_made_by_hand_is_taken_over(packs: NodePacks, pack: GitRepository, custom_nodes: Path) -> None:
    """At the version that is wanted it stays as it is; from then on it is ours, so that it is updated."""
    git(custom_nodes, "clone", "--quiet", pack.url)
    assert packs.placed() == {}
    assert not await place(packs, pack.url)
    assert packs.placed()["Pack"].commit == pack.head
    pack.commit({"__init__.py": "V = 2\n"})
    pack.tag("v2.0.0")
    assert await place(packs, pack.url)
    assert not has_kept_folder(custom_nodes)


async def test_commits_of_a_users_own_are_kept(packs: NodePacks, pack: GitRepository, custom_nodes: Path) -> None:
    """A clone with commits that its remote does not have is set aside whole."""
    git(custom_nodes, "clone", "--quiet", pack.url)
    git(custom_nodes / "Pack", "commit", "--quiet", "--allow-empty", "--message", "mine")
    mine = git(custom_nodes / "Pack", "rev-parse", "HEAD")
    assert await place(packs, pack.url)
    kept = kept_folder(custom_nodes)
    assert git(kept, "rev-parse", "HEAD") == mine


async def test_a_folder_that_is_something_else_is_left_alone(
    packs: NodePacks, pack: GitRepository, make_repository: Make, custom_nodes: Path, tmp_path: Path
) -> None:
    """No git, another repository, a link, another letter case: each is told, and nothing is changed."""
    folder = custom_nodes / "Pack"
    folder.mkdir()
    (folder / "mine.py").write_text("x")
    with pytest.raises(NodeInstallFailed, match="has a folder 'Pack' already, which is not from git"):
        await place(packs, pack.url)
    assert (folder / "mine.py").read_text() == "x"
    folder.rename(custom_nodes / "pack")
    with pytest.raises(NodeInstallFailed, match="differs from 'Pack' in letter case only"):
        await place(packs, pack.url)
    (custom_nodes / "pack").rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    with pytest.raises(NodeInstallFailed, match="which is a link"):
        await place(packs, pack.url)
    folder.unlink()
    other = make_repository("Other")
    other.commit({"a": "1"})
    git(custom_nodes, "clone", "--quiet", other.url, "Pack")
    with pytest.raises(NodeInstallFailed, match=r"which is from 'file://.*Other'"):
        await place(packs, pack.url)


async def test_a_disabled_node_comes_back_at_once(packs: NodePacks, pack: GitRepository, custom_nodes: Path) -> None:
    """Disabling renames it as ComfyUI understands it; enabling needs no server, and nothing is fetched."""
    node = await packs.resolve(NodeEntry(url=pack.url))
    await packs.place(node)
    (custom_nodes / "Pack/kept.txt").write_text("kept")
    assert await packs.disable("Pack")
    assert loaded(custom_nodes) == []
    assert (custom_nodes / "Pack.disabled/__init__.py").exists()
    assert packs.placed() == {}
    pack.path.rename(pack.path.with_name("gone"))
    assert await packs.place(node)
    assert loaded(custom_nodes) == ["Pack"]
    assert (custom_nodes / "Pack/kept.txt").read_text() == "kept"


async def test_a_disabled_node_of_an_older_version_is_brought_up_to_date(
    packs: NodePacks, pack: GitRepository, custom_nodes: Path
) -> None:
    """And what it wrote into its folder is still there."""
    await place(packs, pack.url)
    (custom_nodes / "Pack/kept.txt").write_text("kept")
    await packs.disable("Pack")
    pack.commit({"__init__.py": "V = 2\n"})
    pack.tag("v2.0.0")
    assert await place(packs, pack.url)
    assert (custom_nodes / "Pack/__init__.py").read_text() == "V = 2\n"
    assert (custom_nodes / "Pack/kept.txt").read_text() == "kept"
    assert not (custom_nodes / "Pack.disabled").exists()


async def test_only_what_is_ours_is_disabled(packs: NodePacks, custom_nodes: Path, listener: Listener) -> None:
    """A folder that somebody put there by hand stays; one that is not there is no fault."""
    (custom_nodes / "Mine").mkdir()
    assert not await packs.disable("Mine")
    assert not await packs.disable("Nothing")
    assert (custom_nodes / "Mine").is_dir()
    assert listener.notes == ["Mine: was placed by hand and is left as it is."]


async def test_what_a_killed_update_left_is_put_right(
    installation: Installation, packs: NodePacks, pack: GitRepository, custom_nodes: Path, listener: Listener
) -> None:
    """Killed between its two renames the old version is put back; half-made folders go."""
    await place(packs, pack.url)
    workplace = custom_nodes / ".comfyworker.disabled"
    (custom_nodes / "Pack").rename(workplace / "old-Pack-0a1b2c3d")
    (workplace / "new-Pack-0a1b2c3d/.git").mkdir(parents=True)
    (workplace / "new-Pack-0a1b2c3d.zip").write_bytes(b"half an archive")
    again = NodePacks(installation, ProvisionSettings(), listener)
    assert not await place(again, pack.url)
    assert loaded(custom_nodes) == ["Pack"]
    assert list(workplace.iterdir()) == []
    assert listener.notes == ["Pack: an update was cut off; the version before it is in place again."]


async def test_files_of_git_lfs_that_are_not_there_are_told(
    packs: NodePacks, pack: GitRepository, listener: Listener
) -> None:
    """A pointer in place of a model would fail much later, and nobody would know why."""
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
    pack.commit({"model.bin": pointer})
    await place(packs, pack.url, "nightly")
    assert listener.notes == ["Pack: 1 of its files are only pointers of Git LFS; install git-lfs for them."]
