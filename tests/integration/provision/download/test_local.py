"""Files of this machine, and files that are there already."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyworker.errors import DownloadFailed
from comfyworker.provision.download import free_bytes, hash_file, link_known
from support.downloads import Fetcher
from support.model_server import Model

A = "/files/a.safetensors"
WEIGHTS = b"weights" * 1_000_000
SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a file outside of the models folder."""
    path = tmp_path / "mine" / "m y.safetensors"
    path.parent.mkdir()
    path.write_bytes(WEIGHTS)
    return path


@pytest.mark.parametrize("shape", ["path", "url"])
async def test_a_file_of_this_machine(fetch: Fetcher, source: Path, shape: str) -> None:
    """It is in both places afterwards, and takes the room of one where the file system can."""
    told: list[int] = []
    async with fetch.downloader() as downloader:
        wanted = fetch.download(A).model_copy(update={"url": str(source) if shape == "path" else source.as_uri()})
        remote = await downloader.probe(wanted)
        receipt = await downloader.fetch(wanted, on_bytes=lambda done, _total: told.append(done))
    placed = fetch.folder / "m y.safetensors"
    assert remote.size_bytes == receipt.size_bytes == len(WEIGHTS)
    assert receipt.describes(placed)
    assert receipt.sha256 == await hash_file(source)
    assert receipt.fetched_bytes == 0
    assert told[-1] == receipt.size_bytes
    assert fetch.names() == ["m y.safetensors"]
    # Again: of two links of one file, nothing may be left over.
    await fetch("file://" + str(source).replace(" ", "%20"))
    assert fetch.names() == ["m y.safetensors"]


@pytest.fixture
def far_source(tmp_path: Path) -> Iterator[Path]:
    """Return a file on another file system."""
    if SHARED_MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has one file system only")
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as folder:
        path = Path(folder) / "far.safetensors"
        path.write_bytes(WEIGHTS)
        yield path


async def test_another_file_system(fetch: Fetcher, far_source: Path) -> None:
    """There it is copied, and hashed meanwhile."""
    receipt = await fetch(far_source.as_uri(), sha256=hashlib.sha256(WEIGHTS).hexdigest())
    assert (fetch.folder / "far.safetensors").read_bytes() == WEIGHTS
    assert receipt.describes(fetch.folder / "far.safetensors")


@pytest.mark.parametrize(
    ("name", "told"), [("nothing.gguf", "is not there"), ("folder", "is no file"), ("empty.gguf", "is empty")]
)
async def test_what_is_no_file(fetch: Fetcher, tmp_path: Path, name: str, told: str) -> None:
    """The error names the file, and not where it is."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.gguf").touch()
    with pytest.raises(DownloadFailed, match=f"the file '{name}' {told}") as caught:
        await fetch(f"file://{tmp_path}/{name}", filename="x.gguf")
    assert str(tmp_path) not in str(caught.value.to_dict())


async def test_a_file_of_another_machine(fetch: Fetcher) -> None:
    """It cannot be read."""
    with pytest.raises(DownloadFailed, match="another machine"):
        await fetch("file://server/a.safetensors")


async def test_a_wrong_hash(fetch: Fetcher, source: Path) -> None:
    """What was there stays."""
    fetch.folder.mkdir(parents=True)
    (fetch.folder / "m.safetensors").write_bytes(b"older")
    with pytest.raises(DownloadFailed, match="SHA-256"):
        await fetch(source.as_uri(), filename="m.safetensors", sha256="0" * 64)
    assert (fetch.folder / "m.safetensors").read_bytes() == b"older"
    assert fetch.names() == ["m.safetensors"]


async def test_equal_files_are_stored_once(fetch: Fetcher, model: Model) -> None:
    """A file that is in another folder is linked; one that was changed since its receipt is not."""
    receipt = await fetch(A)
    first = fetch.folder / "a.safetensors"
    other = fetch.download(A).model_copy(update={"folder": fetch.folder.parent / "vae"})
    linked = await link_known(other, filename="b.safetensors", sha256=model.sha256, known=[(first, receipt)])
    second = other.folder / "b.safetensors"
    assert linked is not None
    assert linked.describes(second)
    assert second.samefile(first)
    assert await link_known(other, filename="c.safetensors", sha256="0" * 64, known=[(first, receipt)]) is None
    os.utime(first, ns=(1, 1))
    assert await link_known(other, filename="c.safetensors", sha256=model.sha256, known=[(first, receipt)]) is None
    with pytest.raises(DownloadFailed):
        await link_known(other, filename="../c", sha256=model.sha256, known=[(second, linked)])


def test_free_bytes_of_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """They are those of where it will be."""
    assert free_bytes(tmp_path / "a" / "b") > 0
