"""Custom nodes by their names in the Comfy Registry."""

import stat
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from comfyworker.comfyui.locate import Installation
from comfyworker.errors import NodeInstallFailed
from comfyworker.provision.entries import NodeEntry
from comfyworker.provision.nodes import NodePacks
from comfyworker.settings import ProvisionSettings
from support.comfy_registry import ComfyRegistry, make_zip
from support.git_repositories import GitRepository
from support.listening import Listener


@pytest.fixture
async def registry() -> AsyncIterator[ComfyRegistry]:
    """Serve a registry with a node in two versions."""
    async with ComfyRegistry() as registry:
        registry.publish("my-pack", "1.0.0", make_zip({"__init__.py": "V = 1\n", "lib/a.py": "a", "gone.py": "g"}))
        registry.publish("my-pack", "1.2.0", make_zip({"__init__.py": "V = 2\n", "lib/a.py": "b"}))
        yield registry


@pytest.fixture
def packs(installation: Installation, listener: Listener, registry: ComfyRegistry) -> NodePacks:
    """Return the custom nodes of a ComfyUI that asks that registry."""
    return NodePacks(installation, ProvisionSettings(comfy_registry_url=registry.url), listener)


async def place(packs: NodePacks, version: str = "latest", name: str = "my-pack") -> bool:
    """Resolve and place."""
    return await packs.place(await packs.resolve(NodeEntry(name=name, version=version)))


async def test_a_version_is_placed_and_updated(packs: NodePacks, base_dir: Path, listener: Listener) -> None:
    """Files of the old version go, what the pack wrote itself stays, and ComfyUI-Manager's list of files is there."""
    folder = base_dir / "custom_nodes/my-pack"
    assert await place(packs, "1.0.0")
    assert not await place(packs, "1.0.0")
    (folder / "settings.json").write_text("mine")
    assert await place(packs)
    assert packs.placed()["my-pack"].release == "1.2.0"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {"__init__.py", "lib/a.py", "settings.json", ".tracking", ".comfyworker-node.json"}
    assert (folder / ".tracking").read_text().splitlines() == ["__init__.py", "lib/a.py"]
    assert listener.notes == []


async def test_a_file_that_a_user_changed_is_kept(packs: NodePacks, base_dir: Path, listener: Listener) -> None:
    """Its folder is kept whole under another name, which is told."""
    await place(packs, "1.0.0")
    (base_dir / "custom_nodes/my-pack/__init__.py").write_text("V = 'mine'\n")
    await place(packs)
    [note] = listener.notes
    assert note.startswith("my-pack: files were changed by hand (__init__.py); the folder as it was is kept as ")


async def test_what_is_not_there_is_told_with_what_is(packs: NodePacks) -> None:
    """A wrong version names the versions; a wrong name says where names are found."""
    with pytest.raises(NodeInstallFailed, match=r"has no version 1\.3\.0 of 'my-pack'") as caught:
        await place(packs, "1.3.0")
    assert caught.value.hint == "There are: 1.2.0, 1.0.0."
    with pytest.raises(NodeInstallFailed, match="has no custom node 'your-pack'"):
        await place(packs, name="your-pack")


async def test_a_withdrawn_version_is_refused_and_a_flagged_one_told(
    packs: NodePacks, registry: ComfyRegistry, listener: Listener
) -> None:
    """The registry looks at what is published there."""
    registry.publish("bad", "1.0.0", make_zip({"a": "a"}), status="NodeVersionStatusBanned")
    with pytest.raises(NodeInstallFailed, match=r"version 1\.0\.0 of 'bad' was banned"):
        await place(packs, name="bad")
    registry.publish("odd", "1.0.0", make_zip({"a": "a"}), status="NodeVersionStatusFlagged", deprecated=True)
    await place(packs, name="odd")
    assert [note.split(":")[0] for note in listener.notes] == ["odd", "odd"]


async def test_nightly_is_the_tip_of_the_repository_that_the_registry_names(
    packs: NodePacks, registry: ComfyRegistry, make_repository: Callable[[str], GitRepository]
) -> None:
    """In the same folder as its releases."""
    repository = make_repository("elsewhere")
    tip = repository.commit({"__init__.py": "1"})
    registry.repositories["my-pack"] = repository.url
    await place(packs, "nightly")
    assert packs.placed()["my-pack"].commit == tip
    await place(packs, "1.0.0")
    assert packs.placed()["my-pack"].commit is None


def _link() -> bytes:
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return make_zip({info: "/etc/passwd"})  # type: ignore[dict-item]  # writestr takes both


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (make_zip({"../out.py": "x"}), "leads out of the folder"),
        (make_zip({"/etc/out.py": "x"}), "leads out of the folder"),
        (make_zip({"a\\..\\..\\out.py": "x"}), "leads out of the folder"),
        (make_zip({".git/hooks/post-checkout": "x"}), "holds a .git folder"),
        (_link(), "holds a link"),
        (b"<html>sorry</html>", "no whole ZIP"),
        (make_zip({"a.py": "x" * 5000})[:-40], "no whole ZIP"),
    ],
    # A ZIP holds the time of its making, and as a name it would differ between the processes of one test run.
    ids=["parent", "absolute", "backslashes", "git-folder", "link", "no-zip", "cut-off"],
)
async def test_a_bad_archive_changes_nothing(
    packs: NodePacks, registry: ComfyRegistry, base_dir: Path, archive: bytes, reason: str
) -> None:
    """The old version is still there, and nothing else."""
    await place(packs)
    registry.publish("my-pack", "2.0.0", archive)
    with pytest.raises(NodeInstallFailed, match=reason):
        await place(packs)
    assert (base_dir / "custom_nodes/my-pack/__init__.py").read_text() == "V = 2\n"
    assert list((base_dir / "custom_nodes/.comfyworker.disabled").iterdir()) == []
    assert not (base_dir / "out.py").exists()


async def test_a_registry_that_is_down_may_be_tried_again(installation: Installation, listener: Listener) -> None:
    """It says so, and whether trying again is of use."""
    packs = NodePacks(installation, ProvisionSettings(comfy_registry_url="http://127.0.0.1:1"), listener)
    with pytest.raises(NodeInstallFailed, match="the Comfy Registry could not be asked") as caught:
        await place(packs)
    assert caught.value.retryable
