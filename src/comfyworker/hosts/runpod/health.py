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
    if not settings.api_urls:
        await pool.any_ready()  # its start has a time limit of its own
        return
    late: ComfyUIUnavailable | None = None
    try:
        async with asyncio.timeout(settings.start_timeout_s):
            while not any(instance.is_ready for instance in pool.instances):
                try:
                    await pool.any_ready()
                except ComfyUIUnavailable as error:
                    late = error
                    await pool.wait_changed()
    except TimeoutError as error:
        raise late or ComfyUIUnavailable(
            f"no ComfyUI was ready within {settings.start_timeout_s:g} s",
            hint="COMFYUI_START_TIMEOUT_S gives it more time.",
        ) from error


async def wait_given_up(pool: ComfyUIPool, *, on_ready: Callable[[int], None]) -> WorkerError:
    """Wait until no ComfyUI is likely to take jobs any more; return why.

    Args:
        pool: The ComfyUIs.
        on_ready: Called with the number of those that take jobs, at first and whenever it changes.
    """
    told: int | None = None
    while True:
        count = sum(instance.is_ready for instance in pool.instances)
        if count != told:
            told = count
            on_ready(count)
        failures = [instance.failure for instance in pool.instances]
        if failures and failures[0] is not None and all(failures):
            return failures[0]
        await pool.wait_changed()
