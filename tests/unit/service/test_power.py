"""What a loss of power leaves: what a client was told is taken is there, and each job has one end."""

import asyncio
from pathlib import Path

from comfyworker.jobs import JobStatus
from support.eventually import eventually
from support.power import SlowDisk, after_power_loss
from support.service import PlainRunner, service_in, submission

DATABASE = "jobs.sqlite3"


def log_bytes(folder: Path) -> int:
    """Return how much there is of the database's log."""
    return (folder / f"{DATABASE}-wal").stat().st_size


async def test_a_job_begins_while_the_disk_takes_it_and_is_told_as_taken_then(
    tmp_path: Path, slow_disk: SlowDisk
) -> None:
    """Whoever is told that a job was taken can rely on it; the job itself waits for no disk."""
    state, runner = tmp_path / "state", PlainRunner(tmp_path / "made")
    async with service_in(state, runner) as service:
        slow_disk.goes_on.clear()
        taking = asyncio.ensure_future(service.submit(submission("job")))
        await eventually(lambda: runner.begun)
        ended = await service.wait("", "job", timeout_s=10)
        assert not taking.done()
        assert [record.status for record in (await service.list("")).jobs] == [JobStatus.SUCCEEDED]
        slow_disk.goes_on.set()
        await taking
    assert ended.status is JobStatus.SUCCEEDED


async def test_a_job_that_was_taken_outlives_the_power(tmp_path: Path, slow_disk: SlowDisk) -> None:
    """Its end had not reached the disk: it runs once more, under its id, and has one end."""
    state, runner = tmp_path / "state", PlainRunner(tmp_path / "made")
    runner.gate.clear()
    async with service_in(state, runner) as service:
        await service.submit(submission("job"))
        durable_bytes = log_bytes(state)
        slow_disk.goes_on.clear()
        runner.gate.set()
        told = await service.wait("", "job", timeout_s=10)
        after_power_loss(state / DATABASE, tmp_path / "power", durable_bytes)
        after_power_loss(state / DATABASE, tmp_path / "kill", log_bytes(state))
        slow_disk.goes_on.set()
    again = PlainRunner(tmp_path / "made again")
    async with service_in(tmp_path / "power", again) as service:
        record = await service.wait("", "job", timeout_s=10)
        statuses = [event.data async for event in service.events("", "job") if event.kind == "status"]
    assert (told.status, told.attempts) == (JobStatus.SUCCEEDED, 1)
    assert (record.status, record.attempts, again.begun) == (JobStatus.SUCCEEDED, 2, ["job"])
    assert [getattr(data, "status", None) for data in statuses] == ["queued", "running", "succeeded"]
    async with service_in(tmp_path / "kill", again) as service:
        record = await service.wait("", "job", timeout_s=10)
    assert (record.status, record.attempts, again.begun) == (JobStatus.SUCCEEDED, 1, ["job"])


async def test_who_cancels_is_told_when_no_loss_of_power_can_undo_it(tmp_path: Path, slow_disk: SlowDisk) -> None:
    """A job that waited does not run after that."""
    state, runner = tmp_path / "state", PlainRunner(tmp_path / "made")
    runner.gate.clear()
    async with service_in(state, runner, places=1) as service:
        for job_id in ("runs", "waits"):
            await service.submit(submission(job_id))
        slow_disk.goes_on.clear()
        canceling = asyncio.ensure_future(service.cancel("", "waits"))
        over = await service.wait("", "waits", timeout_s=10)
        assert not canceling.done()
        slow_disk.goes_on.set()
        assert (await canceling).status is over.status is JobStatus.CANCELED
        after_power_loss(state / DATABASE, tmp_path / "power", log_bytes(state))
    again = PlainRunner(tmp_path / "made again")
    async with service_in(tmp_path / "power", again) as service:
        assert (await service.get("", "waits")).status is JobStatus.CANCELED
        await service.wait("", "runs", timeout_s=10)
    assert again.begun == ["runs"]


async def test_a_job_that_finds_its_place_taken_waits_and_has_lost_no_attempt(tmp_path: Path) -> None:
    """It was written down as one that begins; one of higher priority came before the disk had it."""
    state, runner = tmp_path / "state", PlainRunner(tmp_path / "made")
    runner.gate.clear()
    async with service_in(state, runner, places=1) as service:
        large = asyncio.ensure_future(service.submit(submission("large", modifications={"text": "x" * 200_000})))
        await asyncio.sleep(0)  # Lets it have the place.
        await service.submit(submission("urgent", priority=1))
        waiting = await large
        await eventually(lambda: len(runner.begun) == 1)
        left = {record.id: record.attempts for record in (await service.list("")).jobs if record.id != runner.begun[0]}
        assert set(left.values()) == {0}
        runner.gate.set()
        ends = [await service.wait("", job_id, timeout_s=10) for job_id in ("large", "urgent")]
    assert not waiting.is_terminal
    assert [(record.status, record.attempts) for record in ends] == [(JobStatus.SUCCEEDED, 1)] * 2
