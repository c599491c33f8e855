"""Finishing what must be finished, also while the task that wants it is being cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TypeVar

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_T = TypeVar("_T")


async def finish(work: Coroutine[object, object, object], *, within_s: float, name: str) -> None:
    """Run `work` to its end, shielded from cancellation and bounded in time; its failure is logged, not raised.

    A cancellation that comes meanwhile is held back until the work has ended, then raised. Being cancelled twice
    changes nothing.

    Args:
        work: The clean-up to do.
        within_s: Seconds after which the work is given up and cancelled.
        name: What it is, for the log.

    Raises:
        asyncio.CancelledError: if the caller was cancelled meanwhile.
    """
    loop = asyncio.get_running_loop()
    # Not in a TaskGroup: a group's scope is cancelled with its owner, and outliving that is this function's purpose.
    task = loop.create_task(_logged(work, name), name=f"finish {name}")
    give_up_at = loop.time() + within_s
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        remaining_s = give_up_at - loop.time()
        if remaining_s <= 0:
            log.warning("finishing.gave_up", what=name, within_s=within_s)
            task.cancel()
        try:
            await asyncio.wait({task}, timeout=max(remaining_s, 0.05))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


async def _logged(work: Coroutine[object, object, object], name: str) -> None:
    try:
        await work
    except Exception as error:  # noqa: BLE001  # clean-up must not hide the outcome that it follows
        log.warning("finishing.failed", what=name, error=str(error), error_type=type(error).__name__)


async def in_thread(work: Callable[[], _T]) -> _T:
    """Run `work` in a thread and return what it returns; if cancelled, wait for its end first.

    A thread cannot be stopped, so whoever cleans up after it must know that it has ended.
    """
    future = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            # Being cancelled again changes nothing: the first cancellation is raised below.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait((future,))
        future.exception()  # Looked at, or asyncio would complain that nobody did.
        raise


@contextlib.asynccontextmanager
async def beside(work: Coroutine[object, object, None], *, name: str) -> AsyncIterator[None]:
    """Run `work` while the block runs, and cancel it at the block's end; what the block raises leaves as it is.

    Args:
        work: What is done meanwhile.
        name: The task's name.
    """
    # Not `async with`: the group would wrap what the block raises.
    group = await asyncio.TaskGroup().__aenter__()
    task = group.create_task(work, name=name)
    try:
        yield
    finally:
        task.cancel()
        await group.__aexit__(None, None, None)
