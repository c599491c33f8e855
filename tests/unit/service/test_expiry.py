"""What has had its time goes, whatever else takes long."""

import asyncio
import contextlib
import time
from pathlib import Path

import pytest

from comfyworker.jobs import JobStatus, WebhookOptions
from comfyworker.service import JobRecord, JobService
from comfyworker.settings import QueueSettings
from support.eventually import eventually
from support.service import PlainRunner, service_in, submission


async def test_an_end_that_takes_long_keeps_nothing_else(tmp_path: Path) -> None:
    """Somebody cannot be told of a job that waited too long: others end, and results go, all the same."""
    runner = PlainRunner(tmp_path / "made")
    runner.gate.clear()
    heard, told = asyncio.Event(), []

    async def tell_end(record: JobRecord, webhook: WebhookOptions | None) -> None:
        del webhook
        told.append(record.id)
        if record.id == "slow":
            await heard.wait()

    settings = QueueSettings(result_ttl_s=0.05, asset_ttl_s=0.05)
    service = JobService(runner, settings, folder=tmp_path / "state", places=1, tell_end=tell_end)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(service)
        stack.callback(heard.set)
        await service.submit(submission("runs"))
        await service.submit(submission("slow", ttl_s=0.0))
        await eventually(lambda: "slow" in told)
        late = await service.submit(submission("late", ttl_s=0.0))
        ended = await service.wait("", late.id, timeout_s=10)
        runner.gate.set()
        await service.wait("", "runs", timeout_s=10)

        async def has_expired() -> bool:
            return (await service.get("", "runs")).status is JobStatus.EXPIRED

        await eventually(has_expired)
    assert ended.status is JobStatus.EXPIRED


async def test_a_start_does_not_wait_for_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs whose time was over when the server came back end one beside the other, while it serves."""
    runner = PlainRunner(tmp_path / "made")
    runner.gate.clear()
    async with service_in(tmp_path / "state", runner, places=1) as service:
        await service.submit(submission("runs"))
        for name in ("a", "b"):
            await service.submit(submission(name, ttl_s=60))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 120)
    heard, told = asyncio.Event(), []

    async def tell_end(record: JobRecord, webhook: WebhookOptions | None) -> None:
        del webhook
        told.append(record.id)
        await heard.wait()

    runner.gate.set()
    async with (
        JobService(runner, QueueSettings(), folder=tmp_path / "state", places=1, tell_end=tell_end) as service,
        asyncio.timeout(30),
    ):
        await eventually(lambda: {"a", "b"} <= set(told))
        heard.set()
        ends = [(await service.wait("", name, timeout_s=10)).status for name in ("a", "b", "runs")]
    assert ends == [JobStatus.EXPIRED, JobStatus.EXPIRED, JobStatus.SUCCEEDED]
