"""One worker does the work; a dead one does not hold up the others."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from comfyworker.provision.lease import LEASE_NAME, LeaseLost, Snapshot, hold_lease
from support.eventually import eventually


class Waiter:
    """Hears what is told to who waits."""

    def __init__(self) -> None:
        self.heard: list[Snapshot] = []

    def __call__(self, snapshot: Snapshot, host: str) -> None:
        """Keep it."""
        assert isinstance(host, str)
        self.heard.append(snapshot)


def names(folder: Path) -> list[str]:
    """Return what lies in a folder."""
    return [path.name for path in folder.iterdir()]


async def test_one_at_a_time(tmp_path: Path) -> None:
    """The second one waits, hears how far the first is, and begins after it."""
    waiter, order, begun, go = Waiter(), [], asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with hold_lease(tmp_path, on_wait=Waiter(), beat_s=0.01) as lease:
            lease.progress = lambda: {"done": 1}
            begun.set()
            await go.wait()
            order.append("first")

    async def second() -> None:
        await begun.wait()
        async with hold_lease(tmp_path, on_wait=waiter, beat_s=0.01):
            order.append("second")

    async with asyncio.TaskGroup() as group:
        group.create_task(first())
        group.create_task(second())
        await eventually(lambda: {"done": 1} in waiter.heard)
        go.set()
    assert order == ["first", "second"]
    assert names(tmp_path) == []


async def test_a_holder_of_another_machine_that_is_silent_counts_as_dead(tmp_path: Path) -> None:
    """Its file does not change for a while, by this machine's clock."""
    holder = {"id": "other", "host": "elsewhere", "boot": "x", "namespace": "y", "pid": 1, "started": "1"}
    (tmp_path / LEASE_NAME).write_text(json.dumps({"holder": holder, "beat": 7}))
    waiter = Waiter()
    async with hold_lease(tmp_path, on_wait=waiter, beat_s=0.02, expires_s=0.2):
        assert waiter.heard


async def test_a_killed_holder_on_this_machine_is_known_to_be_dead_at_once(tmp_path: Path) -> None:
    """Nobody waits until the lease expires."""
    code = (
        "import asyncio, sys; from pathlib import Path; from comfyworker.provision.lease import hold_lease\n"
        "async def main():\n"
        "    async with hold_lease(Path(sys.argv[1]), on_wait=lambda *_: None):\n"
        "        print('held', flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"held\n"
    process.kill()
    await process.communicate()
    async with hold_lease(tmp_path, on_wait=Waiter(), beat_s=0.02, expires_s=3600):
        pass


async def test_a_holder_that_slept_hears_that_it_has_lost_the_lease(tmp_path: Path) -> None:
    """Its work is cancelled, and the other's lease stays."""
    other = {"holder": {"id": "other"}, "beat": 0}
    was_cancelled = False

    async def work() -> None:
        nonlocal was_cancelled
        async with hold_lease(tmp_path, on_wait=Waiter(), beat_s=0.01):
            (tmp_path / LEASE_NAME).write_text(json.dumps(other))
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                was_cancelled = True
                raise

    with pytest.raises(LeaseLost):
        await work()
    assert was_cancelled
    assert json.loads((tmp_path / LEASE_NAME).read_text()) == other


async def test_an_error_of_the_work_comes_out_as_it_is(tmp_path: Path) -> None:
    """It is in no group, and the lease is free."""
    with pytest.raises(ValueError, match="mine"):
        async with hold_lease(tmp_path, on_wait=Waiter()):
            raise ValueError("mine")
    assert not (tmp_path / LEASE_NAME).exists()


async def test_a_damaged_lease_is_taken_over(tmp_path: Path) -> None:
    """What cannot be read belongs to nobody."""
    (tmp_path / LEASE_NAME).write_bytes(b"{")
    async with hold_lease(tmp_path, on_wait=Waiter(), beat_s=0.02, expires_s=0.1):
        assert (tmp_path / LEASE_NAME).read_bytes() != b"{"
    assert not (tmp_path / LEASE_NAME).exists()


async def test_a_disk_that_cannot_be_written_needs_no_lease(tmp_path: Path) -> None:
    """There is nothing to share there: the work begins, and says itself what is wrong."""
    (tmp_path / "file").touch()
    has_begun = False
    async with hold_lease(tmp_path / "file/state", on_wait=Waiter(), beat_s=0.02, expires_s=0.1):
        has_begun = True
    assert has_begun
