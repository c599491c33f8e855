"""What is wrong with the worker, as Vast.ai is told it: one message at a time, gone when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from comfyworker.comfyui.pool import ComfyUIPool
from comfyworker.hosts.vast.ledger import Ledger

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Troubles:
    """What is wrong now, by what it is about; the ledger has the first of them."""

    def __init__(self, ledger: Ledger) -> None:
        """Have none."""
        self._ledger = ledger
        self._messages: dict[str, str] = {}

    def note(self, about: str, message: str) -> None:
        """Say that something is wrong."""
        if self._messages.get(about) != message:
            log.error("vast.broken", about=about, message=message)
            self._messages[about] = message
            self._tell()

    def clear(self, about: str) -> None:
        """Say that it is well again."""
        if self._messages.pop(about, None) is not None:
            log.info("vast.mended", about=about)
            self._tell()

    def _tell(self) -> None:
        first = next(iter(self._messages.values()), None)
        if first is None:
            self._ledger.recovered()
        else:
            self._ledger.errored(first)


async def watch_comfyui(
    pool: ComfyUIPool, troubles: Troubles, *, broken_after_s: float, clock: Callable[[], float] | None = None
) -> None:
    """Note it when no ComfyUI takes jobs, and when one does again; runs until it is cancelled.

    One that is given up (it never came up, or died three times in a row) is noted at once; one that is being started
    again only after a while: Vast may replace a worker that is broken, and a restart is quicker. Before the first one
    is up, nothing is noted but a failure: COMFYUI_START_TIMEOUT_S watches over that.

    Args:
        pool: The ComfyUIs.
        troubles: Where it is noted.
        broken_after_s: Seconds that none may take jobs.
        clock: Seconds; None is the event loop's clock.
    """
    now = clock or asyncio.get_running_loop().time
    lost_at: float | None = None
    has_been_up = False
    while True:
        # No await between looking and waiting: a change in between would be lost.
        if any(instance.is_ready for instance in pool.instances):
            has_been_up, lost_at = True, None
            troubles.clear("comfyui")
            await pool.wait_changed()
            continue
        lost_at = now() if lost_at is None else lost_at
        failures = [instance.failure for instance in pool.instances]
        left_s = lost_at + broken_after_s - now()
        if failures and failures[0] is not None and all(failures):
            troubles.note("comfyui", failures[0].message)
        elif has_been_up and left_s <= 0:
            troubles.note("comfyui", f"no ComfyUI has taken jobs for {broken_after_s:g} s")
        is_waiting = has_been_up and left_s > 0
        try:
            async with asyncio.timeout(left_s if is_waiting else None):
                await pool.wait_changed()
        except TimeoutError:
            continue
