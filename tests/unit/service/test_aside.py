"""Jobs that leave their place to others while they wait for something that needs no ComfyUI."""

import asyncio
from pathlib import Path

import pytest

from comfyworker.jobs import JobStatus
from support.eventually import eventually
from support.service import PlainRunner, service_in, submission


@pytest.fixture
def runner(tmp_path: Path) -> PlainRunner:
    """Return a runner whose job `waits` leaves its place until its event is set."""
    runner = PlainRunner(tmp_path / "made")
    runner.aside["waits"] = asyncio.Event()
    return runner


async def test_a_job_that_waits_for_something_else_is_in_nobodys_way(tmp_path: Path, runner: PlainRunner) -> None:
    """On one place, others run while it waits; it goes on when there is a place, before those that have not begun."""
    async with service_in(tmp_path / "state", runner, places=1) as service:
        await service.submit(submission("waits"))
        await service.submit(submission("light"))
        assert (await service.wait("", "light", timeout_s=10)).status is JobStatus.SUCCEEDED
        assert (await service.get("", "waits")).status is JobStatus.RUNNING
        runner.gate.clear()
        await service.submit(submission("heavy"))
        await service.submit(submission("last"))
        await eventually(lambda: "heavy" in runner.begun)
        runner.aside["waits"].set()
        await service.cancel("", "heavy")
        await eventually(lambda: "waits" in runner.begun)
        assert (await service.get("", "last")).status is JobStatus.QUEUED
        runner.gate.set()
        records = [await service.wait("", job_id, timeout_s=10) for job_id in ("waits", "last")]
    assert {record.status for record in records} == {JobStatus.SUCCEEDED}
    assert (runner.begun, runner.most_at_once) == (["light", "heavy", "waits", "last"], 1)


async def test_jobs_that_wait_end_with_the_server(tmp_path: Path, runner: PlainRunner) -> None:
    """One that waits for something else is handed back to the line, and runs at the next start."""
    async with service_in(tmp_path / "state", runner, places=1) as service:
        await service.submit(submission("waits"))
        await service.submit(submission("light"))
        await service.wait("", "light", timeout_s=10)
        await service.drain(0.01)
        assert (await service.get("", "waits")).status is JobStatus.QUEUED
    runner.aside.clear()
    async with service_in(tmp_path / "state", runner, places=1) as service:
        assert (await service.wait("", "waits", timeout_s=10)).status is JobStatus.SUCCEEDED
