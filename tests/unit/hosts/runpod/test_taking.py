"""Jobs are taken when there is room, and none that was handed over is lost."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from comfyworker.hosts.runpod.gate import LOST_AFTER_S, Gate
from comfyworker.hosts.runpod.taking import Stops, Taker


class Platform:
    """A platform whose answers a test gives one by one."""

    def __init__(self) -> None:
        """Prepare; its `fetch` is what the SDK's `get_job` would be."""
        self.asked: asyncio.Queue[int] = asyncio.Queue()
        self.answers: asyncio.Queue[Any] = asyncio.Queue()
        self.answer_begins = asyncio.Event()

    async def fetch(self, session: Any, count: int) -> list[dict[str, Any]] | None:
        """Ask as the SDK does."""
        self.asked.put_nowait(count)
        async with session.get("url"):
            answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return list(answer)

    @contextlib.asynccontextmanager
    async def get(self, url: str) -> AsyncIterator[str]:
        """Answer as the SDK's session does: the body comes after the head."""
        await self.answer_begins.wait()
        yield url


class Done:
    """Counts how often it is called."""

    def __init__(self) -> None:
        """Begin at none."""
        self.count = 0

    def __call__(self) -> None:
        """Count one."""
        self.count += 1


def jobs(*ids: str) -> list[dict[str, Any]]:
    """Return jobs of these ids."""
    return [{"id": job_id, "input": {}} for job_id in ids]


def make(places: int = 2, on_done: Callable[[], None] = lambda: None) -> tuple[Platform, Gate, Taker]:
    """Return a platform, an open gate, and what takes jobs through it."""
    platform, gate = Platform(), Gate()
    gate.open(places)
    return platform, gate, Taker(gate, platform.fetch, on_done=on_done)


async def test_as_many_are_asked_for_as_there_is_room() -> None:
    """Not more than the SDK wants either; the next ones when a job has left ComfyUI."""
    now_s, platform = 0.0, Platform()
    gate = Gate(clock=lambda: now_s)
    gate.open(2)
    taker = Taker(gate, platform.fetch, on_done=lambda: None)
    platform.answer_begins.set()
    platform.answers.put_nowait(jobs("a", "b"))
    assert await taker.take(platform, 20) == jobs("a", "b")
    platform.answers.put_nowait(jobs("c"))
    assert await taker.take(platform, 20) == jobs("c")
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(taker.take(platform, 20))
        for _ in range(5):
            await asyncio.sleep(0)
        assert platform.asked.qsize() == 2
        gate.enter("a")
        now_s = 60.0  # no short job, of which more would be held
        gate.leave_comfyui("a")
        platform.answers.put_nowait(jobs("d"))
        assert await waiting == jobs("d")
    assert [platform.asked.get_nowait() for _ in range(3)] == [3, 1, 1]


async def test_what_came_as_the_sdk_gave_up_is_handed_over_next() -> None:
    """The SDK cancels a question after 90 s; a job that comes at that moment is not lost."""
    platform, gate, taker = make()
    platform.answer_begins.set()
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(taker.take(platform, 20))
        await platform.asked.get()
        platform.answers.put_nowait(jobs("a"))
        for _ in range(3):  # the answer is there, and nobody has looked at it yet
            await asyncio.sleep(0)
        asking.cancel()
    if asking.cancelled():
        assert await taker.take(platform, 20) == jobs("a")
    assert gate.running == 1


async def test_a_job_on_its_way_is_taken_after_the_end_of_taking() -> None:
    """One whose answer has begun to come is waited for."""
    platform, gate, taker = make()
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(taker.take(platform, 20))
        await platform.asked.get()
        platform.answer_begins.set()
        gate.close()
        platform.answers.put_nowait(jobs("a"))
        assert await asking == jobs("a")
        await taker.wait_settled()
    assert gate.running == 1


async def test_an_open_question_does_not_hold_up_the_end() -> None:
    """It is given up; when all jobs have their answers, the SDK's loop is told to end."""
    done = Done()
    platform, gate, taker = make(on_done=done)
    gate.hand_over(["a"])
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(taker.take(platform, 20))
        await platform.asked.get()
        gate.close()
        assert await asking is None
        ending = group.create_task(taker.take(platform, 20))
        await asyncio.sleep(0)
        assert done.count == 0
        gate.enter("a")
        gate.answer("a")
        assert await ending is None
    assert done.count == 1


async def test_what_has_no_id_is_left_out() -> None:
    """The SDK would drop all jobs behind it; nobody could be answered."""
    platform, _, taker = make()
    platform.answer_begins.set()
    platform.answers.put_nowait([*jobs("a"), {"input": {}}, "odd", *jobs("b")])
    assert await taker.take(platform, 20) == jobs("a", "b")


async def test_a_job_that_is_here_is_not_taken_again() -> None:
    """Neither twice at once nor while it runs: there would be two answers. When it is answered, it may come again."""
    platform, gate, taker = make(places=9)
    platform.answer_begins.set()
    platform.answers.put_nowait(jobs("a", "a", "b"))
    assert await taker.take(platform, 20) == jobs("a", "b")
    platform.answers.put_nowait(jobs("b", "c"))
    assert await taker.take(platform, 20) == jobs("c")
    gate.enter("b")
    gate.answer("b")
    gate.drop("b")
    platform.answers.put_nowait(jobs("b"))
    assert await taker.take(platform, 20) == jobs("b")


async def test_a_job_that_the_sdk_loses_does_not_hold_up_the_end() -> None:
    """It is forgotten after half a minute."""
    now_s, done = 0.0, Done()
    gate = Gate(clock=lambda: now_s)
    gate.open(1)
    gate.hand_over(["a"])
    gate.close()
    taker = Taker(gate, Platform().fetch, on_done=done)
    now_s = LOST_AFTER_S + 0.1
    assert await taker.take(None, 20) is None
    assert done.count == 1


async def test_a_failure_is_the_sdks_after_a_pause() -> None:
    """The SDK asks again at once; the end does not wait for the pause."""
    platform, gate, taker = make()
    platform.answer_begins.set()
    platform.answers.put_nowait(OSError("broken"))
    with pytest.raises(OSError, match="broken"):
        await taker.take(platform, 20)
    await platform.asked.get()
    platform.answers.put_nowait(OSError("broken"))

    async def close_when_asked() -> None:
        await platform.asked.get()
        gate.close()

    async with asyncio.TaskGroup() as group:
        group.create_task(close_when_asked())
        with pytest.raises(OSError, match="broken"):
            await taker.take(platform, 20)


async def test_stops_are_passed_on_until_the_end() -> None:
    """At the end the question is given up, and the SDK gets an id that no job has, after which it does not sleep."""
    found: asyncio.Queue[list[str]] = asyncio.Queue()

    async def fetch(_session: object) -> list[str]:
        return await found.get()

    gate = Gate()
    gate.enter("a")
    stops = Stops(gate, fetch)
    found.put_nowait(["a"])
    assert await stops.take(None) == ["a"]
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(stops.take(None))
        await asyncio.sleep(0)
        stops.end()
        assert await asking == [""]


async def test_a_stop_that_comes_before_its_job_is_kept_for_it() -> None:
    """The SDK would say that there is no such job while that waits in its queue, or is still on its way."""
    gate = Gate()
    gate.hand_over(["handed over"])
    gate.enter("here")

    async def fetch(_session: object) -> list[str]:
        return ["handed over", "here", "on its way"]

    stops = Stops(gate, fetch)
    assert await stops.take(None) == ["here"]
    assert [stops.was_early(job_id) for job_id in ("handed over", "here", "on its way")] == [True, False, True]
