"""A job's events: numbered, resumable, and never in the way of the job."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from comfyworker.jobs import JobRequest, JobResult, JobStatus, Progress
from comfyworker.service import Event, EventKind, JobService, LogLine, Preview, StatusChange
from comfyworker.service.events import RESERVED_IDS, EventLog
from comfyworker.settings import QueueSettings
from support.eventually import eventually
from support.service import PlainRunner, service_in, submission


def drain(log: EventLog) -> list[int]:
    """Return the ids of all that a new reader would be told."""
    return [event.id for event in log.kept()]


async def read(log: EventLog, after: int, into: list[Event]) -> None:
    """Read until the end."""
    async with contextlib.aclosing(log.follow(after)) as events:
        async for event in events:
            into.append(event)  # noqa: PERF401  # each at once, for who looks meanwhile


async def test_a_job_tells_its_whole_way(tmp_path: Path) -> None:
    """Status, progress, preview, output and status again; each id is one more than the last."""
    runner = PlainRunner(tmp_path / "made")
    runner.gate.clear()
    async with service_in(tmp_path / "state", runner) as service:
        await service.submit(submission("job"))
        events = []
        async for event in service.events("", "job"):
            events.append(event)
            if event.kind is EventKind.PREVIEW:
                runner.gate.set()
        again = [event async for event in service.events("", "job")]
        rest = [event async for event in service.events("", "job", after=3)]
    assert [event.id for event in events] == [1, 2, 3, 4, 5, 6]
    assert [event.kind for event in events] == ["status", "status", "progress", "preview", "output", "status"]
    assert events[0].data == StatusChange(JobStatus.QUEUED, 0)
    assert events[3].data == Preview("3", "image/jpeg", b"job")
    assert events[-1].data == StatusChange(JobStatus.SUCCEEDED)
    # Previews are of no use behind the end.
    assert again == [event for event in events if event.kind is not EventKind.PREVIEW]
    assert rest == events[4:]


async def test_a_reader_who_comes_back_misses_nothing() -> None:
    """Behind the last id that was seen the rest comes, also what was told meanwhile."""
    log = EventLog()
    log.tell(EventKind.STATUS, StatusChange(JobStatus.RUNNING))
    seen: list[Event] = []
    async with asyncio.TaskGroup() as group:
        reader = group.create_task(read(log, 0, seen))
        await eventually(lambda: len(seen) == 1)
        reader.cancel()
    log.tell(EventKind.LOG, LogLine("info", "while it was away"))
    log.close(log.draft(EventKind.STATUS, StatusChange(JobStatus.FAILED)))
    await read(log, seen[-1].id, seen)
    assert [event.id for event in seen] == [1, 2, 3]


async def test_a_slow_reader_gets_the_latest_progress() -> None:
    """What was superseded before it was taken is not told, and takes no memory."""
    log = EventLog()
    async with contextlib.aclosing(log.follow(0)) as events:
        log.tell(EventKind.STATUS, StatusChange(JobStatus.RUNNING))
        assert (await anext(events)).id == 1
        for step in range(1000):
            log.tell(EventKind.PROGRESS, Progress(value=step / 1000))
            log.tell(EventKind.PREVIEW, Preview("3", "image/jpeg", b"x" * 1000))
        log.tell(EventKind.PREVIEW, Preview("4", "image/jpeg", b"other node"))
        assert len(log.kept()) == 4
        told = [await anext(events) for _ in range(3)]
    assert [event.kind for event in told] == ["progress", "preview", "preview"]
    assert told[0].data == Progress(value=0.999)
    assert log.last_id == 2002


async def test_log_lines_are_bounded() -> None:
    """A job that tells a lot keeps the latest lines."""
    log = EventLog()
    for number in range(500):
        log.tell(EventKind.LOG, LogLine("info", str(number)))
    kept = drain(log)
    assert (len(kept), kept[-1]) == (200, 500)


async def test_after_the_end_nothing_is_told() -> None:
    """A runner that tells of its progress too late is not heard."""
    log = EventLog()
    log.close(log.draft(EventKind.STATUS, StatusChange(JobStatus.SUCCEEDED)))
    assert log.tell(EventKind.PROGRESS, Progress(value=1.0)) is None
    assert drain(log) == [1]


async def test_ids_are_reserved_before_they_are_given() -> None:
    """So that after a crash none is given a second time."""
    reserved: list[int] = []
    log = EventLog(reserve=reserved.append)
    for _ in range(RESERVED_IDS + 1):
        log.tell(EventKind.PROGRESS, Progress())
    assert reserved == [2 * RESERVED_IDS]
    assert log.last_id == RESERVED_IDS + 1


async def test_an_id_that_was_never_given_is_taken_as_the_latest() -> None:
    """A reader who says nonsense hears what comes from now on."""
    log = EventLog()
    log.tell(EventKind.STATUS, StatusChange(JobStatus.RUNNING))
    seen: list[Event] = []
    async with asyncio.TaskGroup() as group:
        group.create_task(read(log, 10**9, seen))
        await asyncio.sleep(0)  # Lets it begin.
        log.close(log.draft(EventKind.STATUS, StatusChange(JobStatus.SUCCEEDED)))
    assert [event.id for event in seen] == [2]


async def test_warnings_are_log_lines(tmp_path: Path) -> None:
    """What went differently than asked is told among the events."""

    async def runner(request: JobRequest, **_: object) -> JobResult:
        return JobResult(id=request.id, status=JobStatus.SUCCEEDED, warnings=("seed 7 was drawn",))

    async with JobService(runner, QueueSettings(), folder=tmp_path, places=1) as service:
        await service.submit(submission("job"))
        events = [event async for event in service.events("", "job")]
    assert [event.data for event in events if event.kind is EventKind.LOG] == [LogLine("warning", "seed 7 was drawn")]


@pytest.mark.parametrize("readers", [0, 20], ids=["nobody", "twenty"])
async def test_readers_who_do_not_read_do_not_hold_a_job_up(tmp_path: Path, readers: int) -> None:
    """Whoever began to listen and then does nothing, the job ends."""
    runner = PlainRunner(tmp_path / "made")
    runner.gate.clear()
    async with service_in(tmp_path / "state", runner) as service, contextlib.AsyncExitStack() as stack:
        await service.submit(submission("job"))
        for _ in range(readers):
            stale = await stack.enter_async_context(contextlib.aclosing(service.events("", "job")))
            await anext(stale)
        runner.gate.set()
        assert (await service.wait("", "job", timeout_s=10)).status is JobStatus.SUCCEEDED


async def test_who_has_seen_more_than_there_is_hears_of_the_end(tmp_path: Path) -> None:
    """As after the id was used again: the stream of a job that is over ends with its end, not with nothing."""
    async with service_in(tmp_path / "state", PlainRunner(tmp_path / "made")) as service:
        await service.submit(submission("job"))
        await service.wait("", "job", timeout_s=10)
        events = [event async for event in service.events("", "job")]
        beyond = [event async for event in service.events("", "job", after=10_000)]
        seen = [event async for event in service.events("", "job", after=events[-1].id)]
    assert (beyond, seen) == (events[-1:], [])
