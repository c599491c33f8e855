"""Taking jobs from the platform: as many as there is room for, and none that is then lost.

Wire source: RunPod's SDK, `JobScaler.get_jobs` (it calls `get_job(session, count)` again and again, each time for 90 s
at most, and looks at its own stop flag in between) and `JobScaler.monitor_stop_signals`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

from comfyworker.hosts.runpod.gate import LOST_AFTER_S, Gate
from comfyworker.hosts.runpod.submission import job_id_of

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

Session = Any  # Any: aiohttp's, as the SDK has made it
Job = dict[str, Any]  # Any: JSON from outside
Fetch = Callable[[Session, int], Awaitable[list[Job] | None]]
FetchStops = Callable[[Session], Awaitable[list[str]]]

_LINGER_S: Final = 1.0
"""How long an open question for jobs is left open when no more are wanted: one may be on its way already."""
_BODY_WITHIN_S: Final = 30.0  # for jobs whose answer has begun to come
_ROOM_WITHIN_S: Final = 20.0  # the SDK gives up after 90 s, and the question that follows shall have most of them
_EMPTY_PAUSE_S: Final = 0.2  # between questions where the platform says "none" at once instead of waiting
_FIRST_BACKOFF_S: Final = 0.5
_LONGEST_BACKOFF_S: Final = 10.0
_JSON: Final = "application/json"
_MOST_EARLY: Final = 256
_NOBODY: Final = [""]  # no job has this id; the SDK sleeps for a second after an empty list


class Taker:
    """Stands in the place of the SDK's `get_job`."""

    def __init__(self, gate: Gate, fetch: Fetch, *, on_done: Callable[[], None]) -> None:
        """Ask by `fetch` for as many jobs as the gate has room for.

        Args:
            gate: Says how many.
            fetch: The SDK's own way to ask.
            on_done: Called once when the gate is closed and every job has its answer: the SDK's loop may end.
        """
        self._gate = gate
        self._fetch = fetch
        self._on_done = on_done
        self._failures = 0
        self._kept: list[Job] = []
        self._is_settled = asyncio.Event()
        self._is_settled.set()

    async def take(self, session: Session, most: int) -> list[Job] | None:
        """Return jobs, or None if there are none for now; the SDK asks again."""
        self._forget_lost()
        if self._kept:
            return self._hand_over()
        if self._gate.is_closed:
            await self._wait_answered()
            self._on_done()
            return None
        try:
            async with asyncio.timeout(_ROOM_WITHIN_S):
                room: int = await self._gate.wait_room()
        except TimeoutError:
            return None
        if not room:
            return None
        self._is_settled.clear()
        try:
            await self._ask(session, min(room, most))
            return self._hand_over()
        finally:
            self._is_settled.set()

    async def wait_settled(self) -> None:
        """Wait until no job can come any more, when the gate is closed."""
        await self._is_settled.wait()

    async def _wait_answered(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOST_AFTER_S):
                    await self._gate.wait_answered()
                    return
            self._forget_lost()

    def _forget_lost(self) -> None:
        # The SDK trips over jobs with odd keys. They would take a place for ever, and hold up the worker's end.
        for job_id in self._gate.forget_lost():
            log.error("runpod.job_lost", job_id=job_id)

    def _hand_over(self) -> list[Job] | None:
        jobs, self._kept = self._kept, []
        self._gate.hand_over([job["id"] for job in jobs])
        for job in jobs:
            log.info("runpod.job_taken", job_id=job["id"], running=self._gate.running)
        return jobs or None

    async def _ask(self, session: Session, count: int) -> None:
        begun_at, noted = time.perf_counter(), _Noted(session)
        try:
            await self._ask_until_closed(noted, count)
        except Exception:
            await self._back_off()
            raise
        if noted.oddity is not None:
            # The SDK takes it for "no jobs", and says so only at DEBUG.
            log.warning("runpod.answer_odd", found=noted.oddity)
            await self._back_off()
            return
        self._failures = 0
        spent_s = time.perf_counter() - begun_at
        if self._kept:
            self._gate.note_poll(spent_s)
        elif spent_s < _EMPTY_PAUSE_S:
            await self._pause(_EMPTY_PAUSE_S - spent_s)

    async def _ask_until_closed(self, session: _Noted, count: int) -> None:
        failures: list[Exception] = []

        async def ask() -> None:
            try:
                self._keep(await self._fetch(session, count))
            except Exception as error:  # noqa: BLE001  # raised again below, outside of the group
                failures.append(error)

        async with asyncio.TaskGroup() as group:
            asking = group.create_task(ask(), name="asking for jobs")
            closing = group.create_task(self._gate.wait_closed(), name="end of taking jobs")
            await asyncio.wait({asking, closing}, return_when=asyncio.FIRST_COMPLETED)
            closing.cancel()
            if not asking.done():
                await asyncio.wait({asking}, timeout=_LINGER_S)
                if session.has_answer:
                    await asyncio.wait({asking}, timeout=_BODY_WITHIN_S)
                asking.cancel()
        if failures:
            raise failures[0]

    def _keep(self, jobs: list[Job] | None) -> None:
        for job in jobs or ():
            job_id = job_id_of(job)
            if not job_id:
                log.error("runpod.job_without_id")  # nobody could be answered
            elif self._gate.holds(job_id) or any(job_id == kept["id"] for kept in self._kept):
                # Its answer is the one that the platform waits for; a second run would be answered a second time.
                log.warning("runpod.job_repeated", job_id=job_id)
            else:
                self._kept.append(job)

    async def _back_off(self) -> None:
        # The SDK asks again at once, and would take a whole core for it.
        self._failures += 1
        await self._pause(min(_FIRST_BACKOFF_S * 2.0 ** min(self._failures - 1, 10), _LONGEST_BACKOFF_S))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._gate.wait_closed()


class _Noted:
    """The SDK's session, which notes that the platform has begun to answer."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.has_answer = False
        self.oddity: str | None = None
        """What came instead of jobs, as from a proxy on the way."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the session has
        return getattr(self._session, name)

    @contextlib.asynccontextmanager
    async def get(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401  # as above
        async with self._session.get(*arguments, **named) as response:
            self.has_answer = True
            yield _NotedAnswer(response, self)


class _NotedAnswer:
    """The platform's answer; a single job that has no input gets none, since the SDK would drop it unanswered."""

    def __init__(self, response: Any, noted: _Noted) -> None:  # noqa: ANN401  # aiohttp's, as the session has made it
        self._response = response
        self._noted = noted

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the answer has
        return getattr(self._response, name)

    @property
    def content_type(self) -> str:
        found = str(self._response.content_type)
        if found != _JSON and self._response.content_length != 0:
            self._noted.oddity = found
        return found

    async def json(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401  # as above
        try:
            found = await self._response.json(*arguments, **named)
        except ValueError:
            self._noted.oddity = "broken JSON"
            raise
        return {"input": None, **found} if isinstance(found, dict) and "id" in found else found


class Stops:
    """Stands in the place of the SDK's `get_stop_signals`: its question does not hold up the worker's end.

    The SDK knows only jobs that have come to their handler. The others are remembered here: those in its own queue,
    where a job stays for 0.1 s, and those that are just being handed over.
    """

    def __init__(self, gate: Gate, fetch: FetchStops) -> None:
        """Ask by `fetch` which jobs are to be stopped; the gate knows how far they are."""
        self._gate = gate
        self._fetch = fetch
        self._early: deque[str] = deque(maxlen=_MOST_EARLY)
        self._ended = asyncio.Event()

    def was_early(self, job_id: str) -> bool:
        """Tell whether a job that now comes to its handler is to be stopped."""
        return job_id in self._early

    def end(self) -> None:
        """Ask no more."""
        self._ended.set()

    async def take(self, session: Session) -> list[str]:
        """Return the ids of jobs that are to be stopped and have come to their handler."""
        found: list[str] = []
        failures: list[Exception] = []

        async def ask() -> None:
            try:
                found.extend(await self._fetch(session))
            except Exception as error:  # noqa: BLE001  # raised again below, outside of the group
                failures.append(error)

        async with asyncio.TaskGroup() as group:
            tasks = {
                group.create_task(ask(), name="asking for jobs to stop"),
                group.create_task(self._ended.wait(), name="end of asking for jobs to stop"),
            }
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
        if failures and not self._ended.is_set():
            raise failures[0]
        self._early.extend(job_id for job_id in found if not self._gate.has_entered(job_id))
        here = [job_id for job_id in found if self._gate.has_entered(job_id)]
        return here or ([*_NOBODY] if found or self._ended.is_set() else [])
