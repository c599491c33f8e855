"""One worker at a time changes a home; the others wait and hear of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from comfyworker.comfyui.home import OWN_FOLDER
from comfyworker.provision.lease import LeaseLost, Snapshot, hold_lease

LEASE_FOLDER = "comfyui"
"""Where in a home's folder of ours the lease lies."""
_T = TypeVar("_T")


async def alone_in(home: Path, work: Callable[[], Awaitable[_T]], *, note: Callable[[str], None]) -> _T:
    """Do some work on a home while no other worker does, and return what it returns.

    The work may be begun again, after another worker took this one for dead; what is written is right without the
    lease, too, since all of it is made under names of its own and renamed.

    Args:
        home: The folder that ComfyUI lives in.
        work: What to do; it looks anew at what there is.
        note: Told once that another one is at it.
    """
    is_told = False

    def on_wait(_: Snapshot, host: str) -> None:
        nonlocal is_told
        if not is_told:
            who = f"Another worker ({host})" if host else "Another worker"
            note(f"{who} is at ComfyUI's folder; this one waits for it, and takes over if it dies.")
        is_told = True

    while True:
        try:
            async with hold_lease(home / OWN_FOLDER / LEASE_FOLDER, on_wait=on_wait):
                return await work()
        except LeaseLost:
            note("Another worker has taken over, since this one was silent for too long.")
