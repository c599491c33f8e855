"""Artifacts in a folder: nothing is overwritten, and nothing is left of a delivery that failed."""

import asyncio
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from comfyworker.delivery.folder import FolderDelivery
from comfyworker.errors import DeliveryFailed, InsufficientStorage
from comfyworker.jobs import Artifact
from support.artifacts import file_artifact, text_artifact


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Artifact]:
    """Return a function that makes an artifact whose file lies somewhere else."""

    def make(name: str, content: bytes = b"content") -> Artifact:
        source = tmp_path / "sources" / str(len(list(tmp_path.rglob("*"))))
        source.parent.mkdir(exist_ok=True)
        source.write_bytes(content)
        return file_artifact(source, name=name)

    return make


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file in a folder, hidden ones too."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


async def test_copies_and_texts(tmp_path: Path, make: Callable[..., Artifact]) -> None:
    """Each artifact becomes a file of its name, empty ones too, and says where it is."""
    out = tmp_path / "new" / "out"
    placed = await FolderDelivery(out).deliver([make("a.png", b"1"), make("empty.bin", b""), text_artifact("héllo")])
    assert contents(out) == {"a.png": b"1", "empty.bin": b"", "text_00001.txt": "héllo".encode()}
    assert [artifact.path for artifact in placed] == [out / "a.png", out / "empty.bin", out / "text_00001.txt"]


async def test_nothing_is_overwritten(tmp_path: Path, make: Callable[..., Artifact]) -> None:
    """A name that is taken gets a number, within one job, between jobs, and beside the user's own files."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.tar.gz").write_bytes(b"mine")
    (out / ".a.png.part").write_bytes(b"mine too")
    for content in (b"1", b"2"):
        await FolderDelivery(out).deliver([make("a.png", content), make("a.tar.gz", content)])
    assert contents(out) == {
        "a.tar.gz": b"mine",
        ".a.png.part": b"mine too",
        "a.png": b"1",
        "a.tar-2.gz": b"1",
        "a-2.png": b"2",
        "a.tar-3.gz": b"2",
    }


@pytest.mark.parametrize("name", ["../x.png", "/etc/x.png", "sub/x.png"])
async def test_names_stay_in_the_folder(tmp_path: Path, make: Callable[..., Artifact], name: str) -> None:
    """Whatever a node calls its file, it lands in the folder."""
    out = tmp_path / "out"
    await FolderDelivery(out).deliver([make(name)])
    assert contents(out) == {"x.png": b"content"}


async def test_the_longest_names(tmp_path: Path, make: Callable[..., Artifact]) -> None:
    """A name as long as a file system takes is delivered, twice too."""
    out, name = tmp_path / "out", "n" * 251 + ".png"
    await FolderDelivery(out).deliver([make(name, b"1"), make(name, b"2")])
    assert contents(out) == {name: b"1", "n" * 249 + "-2.png": b"2"}


async def test_a_text_that_is_no_unicode(tmp_path: Path) -> None:
    """Half of a surrogate pair, which JSON can hold and a file cannot, costs a character and not the job."""
    out = tmp_path / "out"
    await FolderDelivery(out).deliver([text_artifact("a\ud800b")])
    assert contents(out) == {"text_00001.txt": b"a?b"}


async def test_a_failure_leaves_nothing(tmp_path: Path, make: Callable[..., Artifact]) -> None:
    """When one artifact cannot be copied, the copies before it are taken back."""
    out, gone = tmp_path / "out", make("gone.png")
    assert gone.path is not None
    gone.path.unlink()
    with pytest.raises(DeliveryFailed) as caught:
        await FolderDelivery(out).deliver([make("a.png"), gone])
    assert (caught.value.message, contents(out)) == (
        "gone.png could not be saved in out: No such file or directory",
        {},
    )


async def test_the_folder_is_a_file(tmp_path: Path, make: Callable[..., Artifact]) -> None:
    """A folder that cannot be made is the delivery's failure."""
    (tmp_path / "out").write_text("mine")
    with pytest.raises(DeliveryFailed):
        await FolderDelivery(tmp_path / "out").deliver([make("a.png")])
    assert (tmp_path / "out").read_text() == "mine"


async def test_the_disk_is_full(tmp_path: Path, make: Callable[..., Artifact], monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk has an error of its own, and nothing is left on it."""

    def copy(_source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(shutil, "copyfile", copy)
    with pytest.raises(InsufficientStorage):
        await FolderDelivery(tmp_path / "out").deliver([make("a.png")])
    assert contents(tmp_path / "out") == {}


async def test_cancelled_in_the_middle(
    tmp_path: Path, make: Callable[..., Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery that is cancelled while it copies leaves nothing: not even what the copying thread finishes later."""
    begun, go = threading.Event(), threading.Event()
    copyfile = shutil.copyfile

    def copy(source: Path, target: Path) -> None:
        begun.set()
        go.wait(10)
        copyfile(source, target)

    monkeypatch.setattr(shutil, "copyfile", copy)
    task = asyncio.ensure_future(FolderDelivery(tmp_path / "out").deliver([make("a.png")]))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert contents(tmp_path / "out") == {}
