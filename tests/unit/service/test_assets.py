"""Assets: uploads, and what jobs made; by id, by hash, and only for who owns them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from comfyworker.errors import AssetTooLarge, BlobNotFound, HashMismatch, InvalidRequest, MissingAsset, NotFound
from comfyworker.jobs import InputFile, JobRequest, JobResult, JobStatus
from comfyworker.service import JobService
from comfyworker.settings import QueueSettings
from support.eventually import eventually
from support.service import PlainRunner, service_in, submission

CONTENT = bytes(range(256)) * 10_000


def hash_of(content: bytes) -> str:
    """Return the hash that an asset of these bytes has."""
    return f"blake3:{blake3(content).hexdigest()}"


async def chunks(content: bytes, size: int = 70_000) -> AsyncIterator[bytes]:
    """Give `content` piece by piece."""
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def broken(content: bytes) -> AsyncIterator[bytes]:
    """Give some bytes, then fail as a cut connection does."""
    yield content
    raise ConnectionResetError


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[JobService]:
    """Return a service whose jobs make one file each."""
    async with service_in(tmp_path / "state", PlainRunner(tmp_path / "made"), asset_max_bytes=len(CONTENT)) as service:
        yield service


def files_in(folder: Path) -> Iterator[str]:
    """Return the names of all files of assets."""
    return (path.name for path in (folder / "state" / "assets").iterdir())


async def test_an_upload_is_kept_whole(service: JobService) -> None:
    """Its bytes, its name as a label, its hash; an odd name leads nowhere."""
    asset = await service.assets.upload(chunks(CONTENT), owner="ann", name="../../evil.png")
    assert (asset.name, asset.hash, asset.size_bytes) == ("../../evil.png", hash_of(CONTENT), len(CONTENT))
    assert asset.content_type == "image/png"
    assert asset.created_new
    assert asset.path.read_bytes() == CONTENT
    assert asset.path.name == hash_of(CONTENT).partition(":")[2]
    assert await service.assets.get(asset.id, owner="ann") == asset == await service.assets.find(asset.id)
    with pytest.raises(NotFound):
        await service.assets.get(asset.id, owner="bob")


async def test_an_empty_file_is_a_file(service: JobService) -> None:
    """Nothing is a content like any other."""
    asset = await service.assets.upload(chunks(b""), owner="", name="empty")
    assert (asset.size_bytes, asset.hash, asset.path.read_bytes()) == (0, hash_of(b""), b"")


async def test_equal_bytes_are_kept_once(service: JobService, tmp_path: Path) -> None:
    """Each upload has a record of its own, and the file stays until the last is gone."""
    first = await service.assets.upload(chunks(CONTENT), owner="ann", name="a.png")
    second = await service.assets.upload(chunks(CONTENT, 999), owner="ann", name="b.png")
    others = await service.assets.upload(chunks(CONTENT), owner="bob", name="c.png")
    assert [first.created_new, second.created_new, others.created_new] == [True, False, True]
    assert list(files_in(tmp_path)) == [first.path.name]
    await service.assets.delete(first.id, owner="ann")
    await service.assets.delete(others.id, owner="bob")
    assert second.path.read_bytes() == CONTENT
    await service.assets.delete(second.id, owner="ann")
    assert list(files_in(tmp_path)) == []
    with pytest.raises(NotFound):
        await service.assets.delete(second.id, owner="ann")


async def test_many_uploads_of_the_same_bytes_at_once(service: JobService, tmp_path: Path) -> None:
    """While others are deleted: every record that there is has its bytes."""

    async def up_and_down(number: int) -> None:
        asset = await service.assets.upload(chunks(CONTENT), owner="", name=f"{number}.png")
        assert (await service.assets.get(asset.id, owner="")).path.read_bytes() == CONTENT
        await service.assets.delete(asset.id, owner="")

    await asyncio.gather(*(up_and_down(number) for number in range(12)))
    assert list(files_in(tmp_path)) == []


async def test_the_announced_hash_must_be_that_of_the_bytes(service: JobService, tmp_path: Path) -> None:
    """Otherwise nothing is kept; capital letters are no difference."""
    good = hash_of(CONTENT).replace("blake3:", "BLAKE3:").upper()
    asset = await service.assets.upload(chunks(CONTENT), owner="", name="a", expected_hash=good)
    assert asset.hash == hash_of(CONTENT)
    with pytest.raises(HashMismatch):
        await service.assets.upload(chunks(b"other"), owner="", name="a", expected_hash=hash_of(CONTENT))
    with pytest.raises(InvalidRequest):
        await service.assets.upload(chunks(b"other"), owner="", name="a", expected_hash="sha256:00")
    assert len(list(files_in(tmp_path))) == 1


async def test_what_is_too_large_is_refused_while_it_comes(service: JobService, tmp_path: Path) -> None:
    """One byte too many, and nothing is kept."""
    with pytest.raises(AssetTooLarge) as caught:
        await service.assets.upload(chunks(CONTENT + b"x"), owner="", name="big")
    assert caught.value.details == {"limit_bytes": len(CONTENT)}
    assert list(files_in(tmp_path)) == []


async def test_an_upload_that_breaks_leaves_nothing(service: JobService, tmp_path: Path) -> None:
    """The client goes away in the middle: its error is not taken for the disk's."""
    with pytest.raises(ConnectionResetError):
        await service.assets.upload(broken(CONTENT), owner="", name="a")
    assert list(files_in(tmp_path)) == []


async def test_an_asset_from_a_hash(service: JobService) -> None:
    """Who has the bytes here need not send them again; who has not learns nothing."""
    first = await service.assets.upload(chunks(CONTENT), owner="ann", name="a.png")
    assert await service.assets.has(first.hash, owner="ann")
    assert not await service.assets.has(first.hash, owner="bob")
    copy = await service.assets.from_hash(first.hash, owner="ann", name="b")
    await service.assets.delete(first.id, owner="ann")
    assert (copy.name, copy.content_type, copy.created_new) == ("b", "image/png", False)
    assert copy.path.read_bytes() == CONTENT
    with pytest.raises(BlobNotFound):
        await service.assets.from_hash(first.hash, owner="bob", name="b")
    for digest in ("", "blake3:", "blake3:../../../etc/passwd", first.hash[:-1]):
        with pytest.raises(InvalidRequest):
            await service.assets.has(digest, owner="ann")


async def test_outputs_of_jobs_are_assets(service: JobService) -> None:
    """Found by id and by hash; an asset made of one outlives the job's."""
    await service.submit(submission("job", owner="ann"))
    [output] = (await service.wait("ann", "job", timeout_s=10)).outputs
    asset = await service.assets.get(output.asset_id, owner="ann")
    assert (asset.job_id, asset.hash, asset.path) == ("job", output.hash, output.path)
    copy = await service.assets.from_hash(asset.hash, owner="ann", name="copy.png")
    await service.assets.delete(asset.id, owner="ann")
    assert not asset.path.exists()
    assert copy.path.read_text() == "made for job"


async def test_an_output_can_be_read_as_soon_as_it_is_told(tmp_path: Path) -> None:
    """While the job still runs."""
    runner = PlainRunner(tmp_path / "made")
    read: list[str] = []
    async with service_in(tmp_path / "state", runner) as service:
        await service.submit(submission("job"))
        async for event in service.events("", "job"):
            if event.kind == "output":
                asset = await service.assets.get(getattr(event.data, "asset_id", ""), owner="")
                read.append(asset.path.read_text())
    assert read == ["made for job"]


async def test_an_asset_expires(tmp_path: Path) -> None:
    """Record and file."""
    runner = PlainRunner(tmp_path / "made")
    async with service_in(tmp_path / "state", runner, asset_ttl_s=0.05, result_ttl_s=0.05) as service:
        asset = await service.assets.upload(chunks(CONTENT), owner="", name="a.png")
        await service.submit(submission("job"))  # Its end makes the service look.
        await eventually(lambda: not asset.path.exists())
        with pytest.raises(NotFound):
            await service.assets.get(asset.id, owner="")


async def test_a_job_s_input_files_stay_though_the_asset_goes(tmp_path: Path) -> None:
    """What a job in line names is there when its turn comes, after a restart too."""
    read: list[bytes] = []

    async def runner(request: JobRequest, **_: object) -> JobResult:
        [file] = request.files
        assert file.path is not None
        read.append(file.path.read_bytes())
        return JobResult(id=request.id, status=JobStatus.SUCCEEDED)

    held = PlainRunner(tmp_path / "made")
    held.gate.clear()
    async with service_in(tmp_path / "state", held, places=1) as service:
        asset = await service.assets.upload(chunks(CONTENT), owner="", name="a.png")
        await service.submit(submission("runs"))
        files = (InputFile(name="a.png", path=asset.path),)
        first = await service.submit(submission("waits", files=files))
        again = await service.submit(submission("waits", files=files))
        await service.cancel("", "runs")
        await service.assets.delete(asset.id, owner="")
        with pytest.raises(MissingAsset):
            await service.submit(submission("late", files=files))
    async with JobService(runner, QueueSettings(), folder=tmp_path / "state", places=1) as service:
        await service.wait("", "waits", timeout_s=10)
    assert (first.is_repeat, again.is_repeat) == (False, True)
    assert read == [CONTENT]


async def test_what_a_start_removes_is_not_what_comes_in(tmp_path: Path) -> None:
    """A file that a killed server left, uploaded anew while the next one is cleaning up, stays."""
    state = tmp_path / "state"
    async with service_in(state, PlainRunner(tmp_path)) as service:
        asset = await service.assets.upload(chunks(b"left"), owner="", name="a")
        path = asset.path
        await service.assets.delete(asset.id, owner="")
    path.write_bytes(b"left")
    for number in range(3000):
        (state / "jobs" / f"left-{number}").mkdir()
    async with service_in(state, PlainRunner(tmp_path)) as service:
        uploaded = await service.assets.upload(chunks(b"left"), owner="", name="a")
        await eventually(lambda: not list((state / "jobs").iterdir()), within_s=60)
    assert uploaded.path.read_bytes() == b"left"
