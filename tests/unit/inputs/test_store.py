"""Store: input files on the disk while a job needs them, and gone afterwards."""

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from comfyworker.errors import ComfyUIUnreachable, InsufficientStorage, InternalError
from comfyworker.inputs.prepare import DecodedFile
from comfyworker.inputs.store import InputStore
from comfyworker.jobs import ArtifactKind


def decoded(name: str, data: bytes) -> DecodedFile:
    """Return a file as it comes from the preparation."""
    digest = blake3(data).hexdigest()
    return DecodedFile(name=name, data=data, kind=ArtifactKind.IMAGE, extension="png", digest=digest)


RED, BLUE = decoded("input.png", b"red"), decoded("input.png", b"blue")


def on_disk(folder: Path) -> dict[str, bytes]:
    """Return every file below `folder` but the lock."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


async def test_a_file_is_there_while_it_is_needed(tmp_path: Path) -> None:
    """It lies under its own hash in a folder of ours, and is gone when the job has released it."""
    placed = await InputStore(tmp_path).place([RED])
    async with placed:
        assert placed.names == {"input.png": f"comfyworker/{RED.digest}.png"}
        assert on_disk(tmp_path) == {f"comfyworker/{RED.digest}.png": b"red"}
    assert on_disk(tmp_path) == {}


async def test_two_jobs_with_one_name_get_their_own_files(tmp_path: Path) -> None:
    """Two pictures that are both called input.png never meet."""
    store = InputStore(tmp_path)
    async with await store.place([RED]) as one, await store.place([BLUE]) as two:
        assert (tmp_path / one.names["input.png"]).read_bytes() == b"red"
        assert (tmp_path / two.names["input.png"]).read_bytes() == b"blue"


async def test_the_last_job_takes_a_shared_file_away(tmp_path: Path) -> None:
    """A file that another job still uses stays."""
    store = InputStore(tmp_path)
    one, two = await store.place([RED]), await store.place([RED, decoded("other.png", b"red")])
    await one.release()
    await one.release()
    assert list(on_disk(tmp_path).values()) == [b"red"]
    await two.release()
    assert on_disk(tmp_path) == {}


async def test_an_equal_file_is_not_written_again(tmp_path: Path) -> None:
    """What is there already, whole, keeps its inode."""
    store = InputStore(tmp_path)
    async with await store.place([RED]) as one:
        path = tmp_path / one.names["input.png"]
        inode = path.stat().st_ino
        async with await store.place([RED]):
            assert path.stat().st_ino == inode


async def test_a_kept_file_stays(tmp_path: Path) -> None:
    """With keep, the release leaves the disk alone."""
    async with await InputStore(tmp_path, keep=True).place([RED]):
        pass
    assert list(on_disk(tmp_path).values()) == [b"red"]


async def test_a_file_of_another_process_is_never_removed(tmp_path: Path) -> None:
    """Whoever found a file there leaves it to the one who wrote it, who in turn leaves it to whoever touched it."""
    one, two = InputStore(tmp_path), InputStore(tmp_path)
    first = await one.place([RED])
    second = await two.place([RED])
    await second.release()
    assert list(on_disk(tmp_path).values()) == [b"red"]
    await first.release()
    assert list(on_disk(tmp_path).values()) == [b"red"]


async def test_a_file_that_another_process_replaced_is_not_removed(tmp_path: Path) -> None:
    """A new inode is another's file."""
    async with await InputStore(tmp_path).place([RED]) as placed:
        path = tmp_path / placed.names["input.png"]
        other = tmp_path / "other"
        other.write_bytes(b"red")
        other.replace(path)
    assert on_disk(tmp_path) == {f"comfyworker/{RED.digest}.png": b"red"}


async def test_a_file_that_somebody_removed_is_no_fault(tmp_path: Path) -> None:
    """The release wanted it gone anyway, and the next job writes it again."""
    store = InputStore(tmp_path)
    async with await store.place([RED]) as placed:
        (tmp_path / placed.names["input.png"]).unlink()
    async with await store.place([RED]):
        assert list(on_disk(tmp_path).values()) == [b"red"]


async def test_a_partial_file_is_written_anew(tmp_path: Path) -> None:
    """A file of the right name and the wrong length is what a killed worker left."""
    store = InputStore(tmp_path)
    (tmp_path / "comfyworker").mkdir()
    (tmp_path / "comfyworker" / f"{RED.digest}.png").write_bytes(b"r")
    async with await store.place([RED]):
        assert list(on_disk(tmp_path).values()) == [b"red"]
    assert on_disk(tmp_path) == {}


async def test_jobs_that_come_and_go_at_once_always_find_their_file(tmp_path: Path) -> None:
    """While some release a file others place it: none of them misses it, and none of it stays."""
    store = InputStore(tmp_path)

    async def job() -> None:
        for _ in range(10):
            async with await store.place([RED]) as placed:
                assert (tmp_path / placed.names["input.png"]).read_bytes() == b"red"
                await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for index in range(6):
            group.create_task(job(), name=f"job {index}")
    assert on_disk(tmp_path) == {}


async def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job fails with insufficient_storage; no half file stays, also of the files before."""

    def write_half(path: Path, data: bytes) -> int:
        if data == b"blue":
            with path.open("wb") as file:
                file.write(data[:2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(path, data)

    original = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(InsufficientStorage) as caught:
        await InputStore(tmp_path).place([decoded("a.png", b"red"), BLUE])
    assert str(tmp_path) not in caught.value.message
    assert on_disk(tmp_path) == {}


async def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    """A file where the folder should be is told without our paths."""
    (tmp_path / "comfyworker").write_text("in the way")
    with pytest.raises(InternalError) as caught:
        await InputStore(tmp_path).place([RED])
    assert caught.value.message == "an input file could not be written to ComfyUI's input folder: File exists"


async def test_a_cancelled_placing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write that runs in a thread is waited for, then its file is removed, however often one cancels."""
    started, go_on = threading.Event(), threading.Event()

    def write_slowly(path: Path, data: bytes) -> int:
        started.set()
        go_on.wait(10)
        return original(path, data)

    original = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", write_slowly)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(InputStore(tmp_path).place([RED]), name="place")
        await asyncio.to_thread(started.wait, 10)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        go_on.set()
    assert task.cancelled()
    assert on_disk(tmp_path) == {}


async def test_without_a_folder_files_are_uploaded() -> None:
    """A ComfyUI on another machine gets them over its API, once while a job uses them."""
    uploads: list[tuple[str, str, bytes | Path]] = []

    async def upload(name: str, subfolder: str, data: bytes | Path) -> None:
        uploads.append((name, subfolder, data))

    store = InputStore(None, upload)
    one = await store.place([RED])
    async with await store.place([RED]) as two:
        assert one.names == two.names == {"input.png": f"comfyworker/{RED.digest}.png"}
    await one.release()
    assert uploads == [(f"{RED.digest}.png", "comfyworker", b"red")]
    async with await store.place([RED]):
        assert len(uploads) == 2


async def test_an_upload_that_fails_is_tried_again_by_the_next_job() -> None:
    """A failure leaves nothing that a later job would rely on."""
    calls = 0

    async def upload(name: str, subfolder: str, data: bytes | Path) -> None:  # noqa: ARG001
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ComfyUIUnreachable("gone")

    store = InputStore(None, upload)
    with pytest.raises(ComfyUIUnreachable):
        await store.place([RED])
    await store.place([RED])
    assert calls == 2


def test_a_store_without_a_way_to_comfyui_is_a_mistake() -> None:
    """Neither a folder nor an upload: said at once, not at the first job."""
    with pytest.raises(ValueError, match="needs a folder or an upload"):
        InputStore(None)


@given(name=st.text(max_size=40), data=st.binary(max_size=20))
async def test_a_placed_filename_never_leaves_its_folder(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes
) -> None:
    """Whatever a caller calls a file, it lies in our folder under a name of ours."""
    folder = tmp_path_factory.mktemp("input")
    async with await InputStore(folder).place([decoded(name, data)]) as placed:
        path = (folder / placed.names[name]).resolve()
        assert (path.parent, path.read_bytes()) == (folder.resolve() / "comfyworker", data)


async def test_what_a_killed_worker_left_is_swept(tmp_path: Path) -> None:
    """Files of ours that nobody has touched for a day go when the first file is placed; young ones stay."""
    ours = tmp_path / "comfyworker"
    ours.mkdir()
    old, young = ours / "old.png", ours / "young.png"
    for path in (old, young):
        path.write_bytes(b"left behind")
    os.utime(old, (0, 0))
    await InputStore(tmp_path).place([decoded("new.png", b"content")])
    assert (old.exists(), young.exists()) == (False, True)


async def test_a_file_from_the_disk_is_copied(tmp_path: Path) -> None:
    """A node that writes into its input changes nothing for others, and the file stays when the job is done with it."""
    lying = tmp_path / "blob"
    lying.write_bytes(b"red")
    folder = tmp_path / "input"
    file = RED.model_copy(update={"data": lying})
    async with await InputStore(folder).place([file]) as placed:
        copy = folder / placed.names["input.png"]
        assert (copy.read_bytes(), copy.stat().st_ino == lying.stat().st_ino) == (b"red", False)
    assert (on_disk(folder), lying.read_bytes()) == ({}, b"red")
