"""How the worker ends by signal: no new jobs, time for those that run, then an answer for those that are not done."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

import structlog

from comfyworker.hosts.runpod.gate import Gate

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_NUMBERS: Final = (signal.SIGTERM, signal.SIGINT)
_AT_ONCE: Final = 3


class Stopping:
    """Takes the signals that end the worker, once the SDK's loop runs; until then they end it at once."""

    def __init__(self, gate: Gate, *, within_s: float, take_back: Callable[[], None]) -> None:
        """Prepare.

        Args:
            gate: Is closed by the first signal.
            within_s: Seconds that running jobs get.
            take_back: Answers the jobs that are not done by then; a second signal does not wait.
        """
        self._gate = gate
        self._within_s = within_s
        self._take_back = take_back
        self._count = 0
        self._is_taken_back = False
        self._end_loop: Callable[[], None] | None = None

    def attach(self, *, ends_loop_now: bool) -> None:
        """Take the signals from the SDK, whose own handler lets a job be lost that comes after them.

        Args:
            ends_loop_now: Whether the SDK's loop is told of the first signal at once, where nothing else tells it.
        """
        loop, theirs = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)
        if callable(theirs):
            self._end_loop = lambda: theirs(signal.SIGTERM, None)
        for number in _NUMBERS:
            loop.add_signal_handler(number, self._note, loop, ends_loop_now)

    def end_loop(self) -> None:
        """Have the SDK's loop end when the answers are sent."""
        if self._end_loop is not None:
            self._end_loop()

    def _note(self, loop: asyncio.AbstractEventLoop, ends_loop_now: bool) -> None:  # a callback's
        self._count += 1
        if self._count == 1:
            log.info("runpod.draining", running=self._gate.running, within_s=self._within_s)
            self._gate.close()
            loop.call_later(self._within_s, self._end_jobs)
            if ends_loop_now:
                self.end_loop()
        elif self._count < _AT_ONCE:
            self._end_jobs()
        else:
            os._exit(128 + signal.SIGTERM)  # ComfyUI's guard ends it when we are gone

    def _end_jobs(self) -> None:
        if not self._is_taken_back:
            self._is_taken_back = True
            log.warning("runpod.taken_back", running=self._gate.running)
            self._take_back()


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Have SIGTERM and Ctrl-C leave the block at once, with exit code 0, until something else takes them."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(0)

    before = {number: signal.signal(number, leave) for number in _NUMBERS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
