"""What a worker is rated with: all its ComfyUIs, and runs that are none of ComfyUI's cache."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest

from comfyworker.comfyui.pool import ComfyUIPool
from comfyworker.errors import ComfyUIUnreachable, WorkerError
from comfyworker.hosts.vast.benchmark import all_up


@dataclass
class Booting:
    """A ComfyUI, as far as it is waited for."""

    is_ready: bool = False
    failure: WorkerError | None = None


@dataclass
class Pool:
    """ComfyUIs that come up one after the other."""

    instances: tuple[Booting, ...]
    steps: list[Callable[[], None]] = field(default_factory=list)

    async def any_ready(self) -> Booting:
        """Return the first that is up."""
        return next(each for each in self.instances if each.is_ready)

    async def wait_changed(self) -> None:
        """Let the next thing happen; after the last one, nothing ever does."""
        if not self.steps:
            await asyncio.Event().wait()
        self.steps.pop(0)()


async def test_the_others_are_waited_for() -> None:
    """One boots, one is given up: only then is the worker rated."""
    first, second, third = Booting(is_ready=True), Booting(), Booting()
    pool = Pool((first, second, third))
    pool.steps = [
        lambda: setattr(third, "failure", ComfyUIUnreachable("gone")),
        lambda: setattr(second, "is_ready", True),
    ]
    await all_up(cast("ComfyUIPool", pool), within_s=60.0)
    assert (pool.steps, second.is_ready) == ([], True)


@pytest.mark.parametrize("within_s", [0.0, 0.001])
async def test_one_that_never_comes_holds_up_nobody(within_s: float) -> None:
    """Those that are up are rated."""
    pool = Pool((Booting(is_ready=True), Booting()))
    up: object = await all_up(cast("ComfyUIPool", pool), within_s=within_s)
    assert up is pool.instances[0]
