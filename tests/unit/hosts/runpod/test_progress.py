"""A job's progress on its way to the platform."""

import asyncio

import pytest

from comfyworker.hosts.runpod.progress import ProgressReports
from comfyworker.jobs import Progress


async def test_the_latest_progress_is_reported_one_at_a_time() -> None:
    """What comes while a report is on its way is kept, and only its latest is reported next."""
    sent: list[float] = []
    began, go_on = asyncio.Event(), asyncio.Event()

    async def send(progress: Progress) -> None:
        began.set()
        await go_on.wait()
        sent.append(progress.value)

    reports = ProgressReports(send, interval_s=0.001)
    async with reports.reporting():
        reports.note(Progress(value=0.1))
        await began.wait()
        for value in (0.2, 0.3, 0.4):
            reports.note(Progress(value=value))
        began.clear()
        go_on.set()
        await began.wait()
    assert sent == [0.1, 0.4]


async def test_nothing_is_reported_after_the_end() -> None:
    """A report that is on its way at the end is waited for; what was not yet on its way is left out."""
    sent: list[float] = []
    began = asyncio.Event()

    async def send(progress: Progress) -> None:
        began.set()
        await asyncio.sleep(0.01)  # a network's
        sent.append(progress.value)

    reports = ProgressReports(send, interval_s=0.001)
    async with reports.reporting():
        reports.note(Progress(value=0.1))
        await began.wait()
        reports.note(Progress(value=0.2))
    assert sent == [0.1]
    reports.note(Progress(value=0.3))
    await asyncio.sleep(0)
    assert sent == [0.1]


async def test_a_report_that_fails_harms_nothing() -> None:
    """The next one is sent all the same."""
    sent: list[float] = []
    failed, arrived = asyncio.Event(), asyncio.Event()

    async def send(progress: Progress) -> None:
        if not failed.is_set():
            failed.set()
            raise OSError
        sent.append(progress.value)
        arrived.set()

    reports = ProgressReports(send, interval_s=0.001)
    async with reports.reporting():
        reports.note(Progress(value=0.1))
        await failed.wait()
        reports.note(Progress(value=0.2))
        await arrived.wait()
    assert sent == [0.2]


async def test_the_jobs_own_end_comes_out_as_it_is() -> None:
    """Not wrapped in a group."""
    with pytest.raises(KeyError):
        async with ProgressReports(_never, interval_s=1.0).reporting():
            raise KeyError


async def _never(_progress: Progress) -> None:
    raise AssertionError
