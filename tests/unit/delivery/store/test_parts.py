"""The memory that parts are in while they are on their way."""

import asyncio
from pathlib import Path

import pytest

from comfyworker.delivery.store.faults import StoreFault
from comfyworker.delivery.store.parts import FileParts, PartBuffers, UploadStopped
from support.eventually import eventually


async def test_parts_are_the_file(tmp_path: Path) -> None:
    """All of one size but the last, and all of it."""
    path = tmp_path / "a"
    path.write_bytes(bytes(range(256)) * 10)
    parts = FileParts(path, PartBuffers(count=3, size_bytes=1000))
    await parts.open()
    read = [bytes(part) async for part in parts]
    parts.close()
    assert [len(part) for part in read] == [1000, 1000, 560]
    assert b"".join(read) == path.read_bytes()


async def test_who_wants_more_waits_until_one_is_let_go() -> None:
    """A buffer comes back by itself when nobody refers to what was lent of it."""
    buffers = PartBuffers(count=1, size_bytes=4096)
    view = buffers.lend(await buffers.take(), 10)
    second = asyncio.ensure_future(buffers.take())
    done, _ = await asyncio.wait((second,), timeout=0.05)
    assert not done
    del view
    assert len(await second) == 4096


async def test_stopping_ends_all_waiting() -> None:
    """Who waits, and who comes later, is told."""
    buffers = PartBuffers(count=1, size_bytes=4096)
    held = buffers.lend(await buffers.take(), 10)
    waiting = asyncio.ensure_future(buffers.take())
    await asyncio.wait((waiting,), timeout=0.01)
    buffers.stop()
    for ask in (waiting, buffers.take()):
        with pytest.raises(UploadStopped):
            await ask
    assert len(held) == 10


async def test_who_is_cancelled_while_waiting_takes_none() -> None:
    """The buffer that would have been its own goes to the next."""
    buffers = PartBuffers(count=1, size_bytes=4096)
    view = buffers.lend(await buffers.take(), 10)
    first, second = asyncio.ensure_future(buffers.take()), asyncio.ensure_future(buffers.take())
    await asyncio.wait((first, second), timeout=0.01)
    first.cancel()
    del view
    assert len(await second) == 4096
    await eventually(first.cancelled)


@pytest.mark.parametrize("name", ["missing", "folder"])
async def test_a_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    """It is told by its reason, without its path."""
    (tmp_path / "folder").mkdir()
    parts = FileParts(tmp_path / name, PartBuffers(count=1, size_bytes=4096))
    with pytest.raises(StoreFault, match="the file could not be read") as caught:
        await parts.open()
    parts.close()
    assert str(tmp_path) not in caught.value.reason
