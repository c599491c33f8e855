"""Whether there is a ComfyUI that takes jobs, or is likely to soon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from comfyworker.comfyui.pool import ComfyUIPool
from comfyworker.errors import ComfyUIUnavailable, WorkerError
from comfyworker.settings import ComfyUISettings


async def wait_ready(pool: ComfyUIPool, settings: ComfyUISettings) -> None:
    """Wait until a ComfyUI takes jobs.

    One that we start ourselves and that does not come up will not do so the next time either. One that somebody else
    starts may take its time.

    Raises:
        ComfyUIUnavailable: none does.
    """
    changed = _changes(pool)
    late: ComfyUIUnavailable | None = None
    try:
        async with asyncio.timeout(settings.start_timeout_s):
            while True:
                changed.clear()
                try:
                    await pool.any_ready()
                except ComfyUIUnavailable as error:
                    if not settings.api_urls:
                        raise
                    late = error
                    await changed.wait()
                else:
                    return
    except TimeoutError as error:
        raise late or ComfyUIUnavailable(
            f"no ComfyUI was ready within {settings.start_timeout_s:g} s",
            hint="COMFYUI_START_TIMEOUT_S gives it more time.",
        ) from error


async def wait_given_up(pool: ComfyUIPool) -> WorkerError:
    """Wait until no ComfyUI is likely to take jobs any more; return why."""
    changed = _changes(pool)
    while True:
        changed.clear()
        failures = [instance.failure for instance in pool.instances]
        if failures and failures[0] is not None and all(failures):
            return failures[0]
        await changed.wait()


def _changes(pool: ComfyUIPool) -> asyncio.Event:
    """Return an event that is set by every change of a ComfyUI; the pool goes on hearing of them."""
    changed = asyncio.Event()
    for instance in pool.instances:
        instance.on_change = _both(instance.on_change, changed.set)
    return changed


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def tell() -> None:
        first()
        second()

    return tell
