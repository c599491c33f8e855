"""How the service ends: it takes no more, lets jobs end, and hands back what does not."""

import asyncio
from pathlib import Path

import pytest
import structlog

from comfyworker.errors import InvalidSettings, QueueFull
from comfyworker.jobs import JobStatus
from comfyworker.service import JobRecord, JobService, StatusChange
from comfyworker.settings import QueueSettings
from support.eventually import eventually
from support.service import PlainRunner, service_in, submission


@pytest.fixture
def held(tmp_path: Path) -> PlainRunner:
    """Return a runner that holds its jobs."""
    runner = PlainRunner(tmp_path / "made")
    runner.gate.clear()
    return runner


async def test_running_jobs_may_end(tmp_path: Path, held: PlainRunner) -> None:
    """Within their time; what waits does not begin, and nothing is taken any more."""
    async with service_in(tmp_path / "state", held, places=1) as service:
        await service.submit(submission("runs"))
        await service.submit(submission("waits"))
        await eventually(lambda: held.begun == ["runs"])
        draining = asyncio.ensure_future(service.drain(30))
        await eventually(lambda: _is_draining(service.counts))
        with pytest.raises(QueueFull, match="shutting down"):
            await service.submit(submission("late"))
        held.gate.set()
        await draining
        assert (await service.get("", "runs")).status is JobStatus.SUCCEEDED
        assert (await service.get("", "waits")).status is JobStatus.QUEUED
    assert held.begun == ["runs"]


async def _is_draining(counts: object) -> bool:
    assert callable(counts)
    return bool((await counts()).is_draining)


async def test_what_does_not_end_in_time_is_handed_back(tmp_path: Path, held: PlainRunner) -> None:
    """It waits again, as if it had not begun, and the next server runs it."""
    async with service_in(tmp_path / "state", held, places=1) as service:
        await service.submit(submission("runs"))
        await eventually(lambda: held.begun == ["runs"])
        await service.drain(0.01)
        record = await service.get("", "runs")
        assert (record.status, record.attempts, record.started_at) == (JobStatus.QUEUED, 0, None)
    assert held.cancelled == ["runs"]
    held.gate.set()
    async with service_in(tmp_path / "state", held) as service:
        record = await service.wait("", "runs", timeout_s=10)
    assert (record.status, record.attempts) == (JobStatus.SUCCEEDED, 1)


async def test_who_waits_or_listens_is_let_go(tmp_path: Path, held: PlainRunner) -> None:
    """With the job as it stands, so that connections can be closed."""
    async with service_in(tmp_path / "state", held, places=1) as service:
        for job_id in ("runs", "waits"):
            await service.submit(submission(job_id))

        async def listen() -> list[str]:
            return [event.kind async for event in service.events("", "waits")]

        listener = asyncio.ensure_future(listen())
        waiters = [asyncio.ensure_future(service.wait("", job_id, timeout_s=60)) for job_id in ("runs", "waits")]
        await eventually(lambda: held.begun == ["runs"])
        await service.drain(0.01)
        assert [(await waiter).status for waiter in waiters] == [JobStatus.QUEUED] * 2
        assert await listener == ["status"]


async def test_a_canceled_job_is_not_handed_back(tmp_path: Path, held: PlainRunner) -> None:
    """Its cancellation came first."""
    async with service_in(tmp_path / "state", held) as service:
        await service.submit(submission("job"))
        await eventually(lambda: held.begun == ["job"])
        await asyncio.gather(service.cancel("", "job"), service.drain(0.0))
    async with service_in(tmp_path / "state", held) as service:
        assert (await service.get("", "job")).status is JobStatus.CANCELED
    assert held.begun == ["job"]


async def test_a_server_that_is_cancelled_hands_its_jobs_back(tmp_path: Path, held: PlainRunner) -> None:
    """As by Ctrl-C in the middle of its work."""

    async def serve() -> None:
        async with service_in(tmp_path / "state", held) as service:
            await service.submit(submission("job"))
            await asyncio.Event().wait()

    server = asyncio.ensure_future(serve())
    await eventually(lambda: held.begun == ["job"])
    server.cancel()
    with pytest.raises(asyncio.CancelledError):
        await server
    held.gate.set()
    async with service_in(tmp_path / "state", held) as service:
        assert (await service.wait("", "job", timeout_s=10)).status is JobStatus.SUCCEEDED


async def test_a_fault_of_the_host_leaves_as_it_is(tmp_path: Path, held: PlainRunner) -> None:
    """Jobs are handed back, and nothing is wrapped around what went wrong."""

    async def host() -> None:
        async with service_in(tmp_path / "state", held) as service:
            await service.submit(submission("job"))
            message = "a fault of the host"
            raise LookupError(message)

    with pytest.raises(LookupError, match="of the host"):
        await host()


async def test_a_fault_in_who_hears_of_ends_is_logged(tmp_path: Path, held: PlainRunner) -> None:
    """It changes nothing for the jobs."""

    def broken(record: JobRecord) -> None:
        raise LookupError(record.id)

    held.gate.set()
    service = JobService(held, QueueSettings(), folder=tmp_path / "state", places=1, on_end=broken)
    with structlog.testing.capture_logs() as events:
        async with service:
            for job_id in ("first", "second"):
                await service.submit(submission(job_id))
                assert (await service.wait("", job_id, timeout_s=10)).status is JobStatus.SUCCEEDED
    assert [event["job_id"] for event in events if event["event"] == "service.not_told"] == ["first", "second"]


async def test_a_folder_that_cannot_be_is_told(tmp_path: Path, held: PlainRunner) -> None:
    """A file stands in its place."""
    (tmp_path / "state").write_text("a file")
    with pytest.raises(InvalidSettings, match="STATE_DIR"):
        async with service_in(tmp_path / "state", held):
            pass


async def test_a_job_that_is_taken_while_the_service_stops_holds_nobody(tmp_path: Path, held: PlainRunner) -> None:
    """It is on the disk when the drain has ended: who waits or listens is let go, and the next server runs it."""
    async with service_in(tmp_path / "state", held) as service:
        taking = asyncio.ensure_future(service.submit(submission("late")))
        await asyncio.sleep(0)  # Lets it ask.
        await service.drain(0)
        taken = await taking
        async with asyncio.timeout(10):
            waited = await service.wait("", "late", timeout_s=600)
            told = [event.data async for event in service.events("", "late")]
    held.gate.set()
    async with service_in(tmp_path / "state", held) as service:
        done = await service.wait("", "late", timeout_s=10)
    assert (taken.status, waited.status, done.status) == (JobStatus.QUEUED, JobStatus.QUEUED, JobStatus.SUCCEEDED)
    assert told == [StatusChange(JobStatus.QUEUED, 0)]
