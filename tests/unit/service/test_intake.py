"""How jobs come in, and come in once more."""

import asyncio
import time
from pathlib import Path

import pytest

from comfyworker.errors import InvalidRequest, NotFound
from comfyworker.jobs import JobRequest, JobResult, JobStatus
from comfyworker.service import JobService
from comfyworker.service.database import Database
from comfyworker.service.state_folder import StateFolder
from comfyworker.service.store import JobStore
from comfyworker.settings import QueueSettings
from support.eventually import eventually
from support.power import SlowDisk
from support.service import PlainRunner, service_in, submission


@pytest.fixture
def held(tmp_path: Path) -> PlainRunner:
    """Return a runner that holds its jobs."""
    runner = PlainRunner(tmp_path / "made")
    runner.gate.clear()
    return runner


async def test_an_expired_job_that_is_sent_again_leaves_no_files(tmp_path: Path, held: PlainRunner) -> None:
    """What was too large for the database goes with the record that made room."""
    text = "x" * 200_000
    async with service_in(tmp_path / "state", held, places=1) as service:
        await service.submit(submission("runs"))
        await service.submit(submission("job", ttl_s=0.0, modifications={"text": text}))
        expired = await service.wait("", "job", timeout_s=10)
        again = await service.submit(submission("job", modifications={"text": text}))
        folders = list((tmp_path / "state" / "jobs").iterdir())
    assert (expired.status, again.status, len(folders)) == (JobStatus.EXPIRED, JobStatus.QUEUED, 1)


async def test_a_job_that_expires_while_it_is_asked_for_again_stays_expired(tmp_path: Path) -> None:
    """Its request has gone, so it cannot run."""

    async def runner(request: JobRequest, **_: object) -> JobResult:
        return JobResult.refused(request.id, InvalidRequest("no"))

    async with JobService(runner, QueueSettings(), folder=tmp_path, places=1) as service:
        await service.submit(submission("job"))
        await service.wait("", "job", timeout_s=10)
    folder = StateFolder(tmp_path)
    async with Database(folder.database) as database:
        store = JobStore(database, folder)
        row = await store.find("", "job")
        await database.run(lambda transaction: store.jobs.expire(transaction, row, row.record))
        told: list[bool] = []
        was_over = await store.queue_again(row, then=told.append)
        after = await store.find("", "job")
    assert (was_over, told, after.record.status) == (False, [False], JobStatus.EXPIRED)


async def test_a_job_that_waited_too_long_is_let_go_like_others(tmp_path: Path, held: PlainRunner) -> None:
    """Its request is there, for a retry, as long as results are, and no longer."""
    async with service_in(tmp_path / "state", held, places=1, result_ttl_s=0.2) as service:
        await service.submit(submission("runs"))
        await service.submit(submission("job", ttl_s=0.0, modifications={"text": "x" * 200_000}))
        await service.wait("", "job", timeout_s=10)

        async def is_gone() -> bool:
            try:
                await service.request("", "job")
            except NotFound:
                return True
            return False

        await eventually(is_gone)
        after = await service.get("", "job")
        with pytest.raises(InvalidRequest, match="has expired"):
            await service.retry("", "job")
    assert after.status is JobStatus.EXPIRED
    assert list((tmp_path / "state" / "jobs").iterdir()) == []


async def test_a_clock_that_is_set_back_lets_nobody_overtake(
    tmp_path: Path, held: PlainRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who came first begins first, whatever time it seemed to be."""
    async with service_in(tmp_path / "state", held, places=1) as service:
        for name in ("runs", "first"):
            await service.submit(submission(name))
        now = time.time()
        with monkeypatch.context() as clock:
            clock.setattr(time, "time", lambda: now - 3600)
            second = await service.submit(submission("second"))
        held.gate.set()
        await service.wait("", "second", timeout_s=10)
    assert second.queue_position == 1
    assert held.begun == ["runs", "first", "second"]


async def test_keys_that_come_again_are_taken_again(tmp_path: Path) -> None:
    """They are not kept: a job that had some is tried again only with those of its client's next request."""
    keys: list[str] = []

    async def runner(request: JobRequest, **_: object) -> JobResult:
        key = request.comfy_org_api_key
        keys.append("" if key is None else key.get_secret_value())
        return JobResult(id=request.id, status=JobStatus.FAILED if keys == ["first"] else JobStatus.SUCCEEDED)

    async with JobService(runner, QueueSettings(), folder=tmp_path, places=1) as service:
        await service.submit(submission("job", comfy_org_api_key="first"))
        assert (await service.wait("", "job", timeout_s=10)).status is JobStatus.FAILED
        with pytest.raises(InvalidRequest, match="keys that are not kept"):
            await service.retry("", "job")
        await service.retry("", "job", submission=submission("job", comfy_org_api_key="second"))
        done = await service.wait("", "job", timeout_s=10)
    assert (done.status, keys) == (JobStatus.SUCCEEDED, ["first", "second"])


async def test_a_job_that_is_being_taken_counts_once(tmp_path: Path, held: PlainRunner, slow_disk: SlowDisk) -> None:
    """It has begun and the disk is still taking it: it has one place, not two."""
    async with service_in(tmp_path / "state", held, places=1, max_queued=1) as service:
        slow_disk.goes_on.clear()
        taking = [asyncio.ensure_future(service.submit(submission("runs")))]
        await eventually(lambda: held.begun == ["runs"])
        taking.append(asyncio.ensure_future(service.submit(submission("waits"))))
        await eventually(lambda: service.counts_now().queued == 1)
        slow_disk.goes_on.set()
        assert [(await task).status for task in taking] == [JobStatus.RUNNING, JobStatus.QUEUED]
