"""How many jobs may be taken: enough that ComfyUI never waits, and not more, since other workers could run them.

All of it lives in the SDK's event loop.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import Final

MOST_EXTRA: Final = 4
"""Jobs that may be taken beyond the usual ones where jobs are shorter than the time it takes to get one."""
MOST_LEAVING: Final = 8
"""Jobs that may be past ComfyUI, their files or their answers on the way, while new ones are taken."""
LOST_AFTER_S: Final = 30.0
"""Seconds after which a job that was handed over and has not come to its handler never will; usually it is 0.1 s."""
MOST_ASIDE: Final = 4
"""Jobs that wait for models and take no place; more of them are better off on other workers."""
_REMEMBERED: Final = 8


class Gate:
    """The jobs of this worker by how far they are, and the room that is left for more.

    A job is handed over by the platform, enters its handler, leaves ComfyUI, is answered, and its answer is sent.
    Up to where it leaves ComfyUI it takes a place; then it only counts where many are slow to leave.
    """

    def __init__(self, *, takes_one: bool = False, clock: Callable[[], float] = time.perf_counter) -> None:
        """Begin shut: nobody takes jobs before `open`.

        Args:
            takes_one: Whether the worker takes one single job in its life.
            clock: Tells seconds.
        """
        self._takes_one = takes_one
        self._clock = clock
        self._places: int | None = None
        self._is_closed = False
        self._handed: dict[str, float] = {}
        self._inside: dict[str, float] = {}
        self._aside: set[str] = set()
        self._delivering: set[str] = set()
        self._answered: set[str] = set()
        self._last_answered: str | None = None
        self._executed_at = 0.0
        self._polls_s: deque[float] = deque(maxlen=_REMEMBERED)
        self._pick_ups_s: deque[float] = deque(maxlen=_REMEMBERED)
        self._jobs_s: deque[float] = deque(maxlen=_REMEMBERED)
        self._changed = asyncio.Event()

    @property
    def is_closed(self) -> bool:
        """Whether no job is taken any more."""
        return self._is_closed

    @property
    def running(self) -> int:
        """How many jobs have no answer yet."""
        return len(self._handed) + len(self._inside) + len(self._delivering)

    @property
    def last_answered(self) -> str | None:
        """The job that was answered last."""
        return self._last_answered

    @property
    def room(self) -> int:
        """How many jobs may be taken now."""
        if self._is_closed or self._places is None:
            return 0
        if self._takes_one:
            return 1
        coming = len(self._handed) + len(self._inside) - min(len(self._aside), MOST_ASIDE)
        leaving = len(self._delivering) + len(self._answered)
        most = self._places + 1 + self.extra
        return max(min(most - coming, most + MOST_LEAVING - coming - leaving), 0)

    @property
    def extra(self) -> int:
        """How many more jobs than usual are held, so that short ones do not run out while the next are fetched."""
        if not self._jobs_s or not self._pick_ups_s:
            return 0
        pick_up_s = min(self._polls_s, default=0.0) + max(self._pick_ups_s)
        job_s = max(statistics.median(self._jobs_s), 0.001)
        return min(math.ceil(pick_up_s / job_s), MOST_EXTRA) if job_s < pick_up_s else 0

    def open(self, places: int) -> None:
        """Let jobs be taken, for ComfyUIs with `places` in their queues; none while there are 0."""
        self._places = places or None
        self._tell()

    def close(self) -> None:
        """Let no more jobs be taken, ever."""
        self._is_closed = True
        self._tell()

    def note_poll(self, seconds: float) -> None:
        """Note how long the platform took to hand over jobs; the shortest times are those without waiting for one."""
        self._polls_s.append(seconds)

    def hand_over(self, job_ids: list[str]) -> None:
        """Note jobs that the platform has handed over."""
        self._handed.update(dict.fromkeys(job_ids, self._clock()))
        if self._takes_one and job_ids:
            self.close()

    def holds(self, job_id: str) -> bool:
        """Tell whether a job is here: from when it was handed over until its answer is sent, or it was canceled."""
        return job_id in self._handed or self.has_entered(job_id)

    def has_entered(self, job_id: str) -> bool:
        """Tell whether a job is here and its handler was called."""
        return job_id in self._inside or job_id in self._delivering or job_id in self._answered

    def forget_lost(self) -> list[str]:
        """Forget jobs that were handed over and do not come to their handler; return their ids."""
        limit = self._clock() - LOST_AFTER_S
        lost = [job_id for job_id, handed_at in self._handed.items() if handed_at < limit]
        for job_id in lost:
            self.drop(job_id)
        return lost

    def enter(self, job_id: str) -> None:
        """Note that a job's handler was called."""
        now = self._clock()
        handed_at = self._handed.pop(job_id, None)
        if handed_at is not None:
            self._pick_ups_s.append(now - handed_at)
        self._inside[job_id] = now
        self._tell()

    def stand_aside(self, job_id: str) -> None:
        """Note that a job waits for models, so that ComfyUI is free for others."""
        if job_id in self._inside:
            self._aside.add(job_id)
            self._tell()

    def come_back(self, job_id: str) -> None:
        """Note that a job waits for models no longer; how long it did says nothing about how long jobs take."""
        if job_id in self._aside:
            self._aside.discard(job_id)
            self._inside[job_id] = self._clock()

    def leave_comfyui(self, job_id: str) -> None:
        """Note that ComfyUI is done with a job; a second time changes nothing."""
        entered_at = self._inside.pop(job_id, None)
        self._aside.discard(job_id)
        if entered_at is None:
            return
        now = self._clock()
        # Since ComfyUI has had it: the job before it ended, or it came to an idle ComfyUI.
        self._jobs_s.append(now - max(entered_at, self._executed_at))
        self._executed_at = now
        self._delivering.add(job_id)
        self._tell()

    def answer(self, job_id: str) -> None:
        """Note that a job has its answer, which the SDK sends now."""
        self._forget(job_id)
        self._answered.add(job_id)
        self._last_answered = job_id
        self._tell()

    def drop(self, job_id: str) -> None:
        """Note that nothing more happens to a job: its answer is sent, or it was canceled and gets none."""
        self._forget(job_id)
        self._answered.discard(job_id)
        self._tell()

    async def wait_room(self) -> int:
        """Return how many jobs may be taken, as soon as there may be any; 0 when the gate is closed."""
        await self._wait(lambda: self.room or self._is_closed)
        return self.room

    async def wait_closed(self) -> None:
        """Wait until the gate is closed."""
        await self._wait(lambda: self._is_closed)

    async def wait_answered(self) -> None:
        """Wait until every job has its answer."""
        await self._wait(lambda: not self.running)

    async def wait_sent(self, *, but: str) -> None:
        """Wait until the answers of all other jobs are sent."""
        await self._wait(lambda: not self._answered - {but})

    async def _wait(self, condition: Callable[[], int]) -> None:
        while not condition():
            # Made anew by each change: whoever waits for the old one has been woken by then.
            await self._changed.wait()

    def _forget(self, job_id: str) -> None:
        self._handed.pop(job_id, None)
        self._inside.pop(job_id, None)
        self._aside.discard(job_id)
        self._delivering.discard(job_id)

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
