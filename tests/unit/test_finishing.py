"""Clean-up that survives cancellation."""

import asyncio

import pytest
from structlog.testing import capture_logs

from comfyworker.finishing import finish


async def test_it_waits_for_the_work() -> None:
    """The work has been done when it returns."""
    done = asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(0)
        done.set()

    await finish(work(), within_s=5, name="work")
    assert done.is_set()


async def test_cancelled_meanwhile_the_work_goes_on() -> None:
    """A cancellation, and a second one, are held back until the work has ended, then raised."""
    go, begun, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await go.wait()
        ended.set()

    task = asyncio.ensure_future(finish(work(), within_s=5, name="work"))
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_a_failure_is_logged_not_raised() -> None:
    """What goes wrong while cleaning up must not hide the outcome that it follows."""

    async def work() -> None:
        message = "disk gone"
        raise OSError(message)

    with capture_logs() as logs:
        await finish(work(), within_s=5, name="removing files")
    assert logs == [
        {
            "event": "finishing.failed",
            "log_level": "warning",
            "what": "removing files",
            "error": "disk gone",
            "error_type": "OSError",
        }
    ]


async def test_work_that_does_not_end_is_given_up() -> None:
    """After its time the work is cancelled, and that is logged."""
    cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with capture_logs() as logs:
        await finish(work(), within_s=0.01, name="work")
    assert cancelled.is_set()
    assert [entry["event"] for entry in logs][:1] == ["finishing.gave_up"]
