"""A worker's start: its phases, each with its begin and end, since the process was started."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import structlog

from comfyworker.jobs import ColdStart, StartPhase

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

PROCESS: Final = "process"
"""From the start of the process to our first line: the interpreter, and what it imports."""
SETTINGS: Final = "settings"
"""The reading of the settings."""
HOME: Final = "home"
"""ComfyUI's placing where COMFYUI_HOME says, and the making of what it needs there; a later start does neither."""
COMFYUI: Final = "comfyui"
"""From when ComfyUI is looked for and started until the first one answers."""
IMPORTS: Final = "imports"
"""The import of the host, before ComfyUI is started."""
SDK: Final = "sdk"
"""The import of RunPod's SDK."""
SERVER: Final = "server"
"""From the import of the HTTP server until it answers."""
FIRST_JOB: Final = "first_job"
"""The first job from when the worker has it to its end; the worker may be ready before, or become it meanwhile."""
_TICKS_AT: Final = 19
"""Where `starttime` stands in /proc/<pid>/stat behind the command's name, which may hold anything."""


class Startup:
    """How the worker starts, told by whoever does a part of it, from any thread.

    Phases may overlap. The worker is ready when `ready` was called and every phase that was begun or is expected has
    ended; that is logged once as `startup.ready`.
    """

    def __init__(self, *, begun_at: float | None = None) -> None:
        """Begin; what was before is the phase `process`.

        Args:
            begun_at: When it all began, in seconds of Unix time; None is when this process was started. A shell script
                that ends with `exec` is this process, too.
        """
        age_s = process_age_s() if begun_at is None else max(time.time() - begun_at, 0.0)
        self._zero = time.perf_counter() - age_s
        self._lock = threading.Lock()
        self._begun: dict[str, float] = {PROCESS: 0.0}
        self._ended: dict[str, float] = {PROCESS: self._now()}
        self._expected: set[str] = set()
        self._beside: set[str] = set()
        self._is_wanted = False
        self._total_s: float | None = None
        self._is_taken = False

    @contextlib.contextmanager
    def phase(self, name: str, *, is_awaited: bool = True) -> Iterator[None]:
        """Note the block as a phase; it ends with the block, whatever ends that."""
        self.begin(name, is_awaited=is_awaited)
        try:
            yield
        finally:
            self.end(name)

    def expect(self, *names: str) -> None:
        """Have `ready` wait for phases that may begin only later."""
        with self._lock:
            self._expected.update(names)

    def begin(self, name: str, *, is_awaited: bool = True) -> None:
        """Note that a phase begins; one that has begun before, or comes after the start, is not noted.

        Args:
            name: The phase.
            is_awaited: Whether the worker is ready only when it has ended.
        """
        with self._lock:
            if self._total_s is None:
                self._begun.setdefault(name, self._now())
                if not is_awaited:
                    self._beside.add(name)

    def end(self, name: str) -> None:
        """Note that a phase has ended; only the first end of a phase that has begun counts."""
        with self._lock:
            if name not in self._begun or name in self._ended:
                return
            self._ended[name] = self._now()
        self._look()

    def ready(self) -> None:
        """Say that nothing more is to come but the phases that are open or expected; when they have ended, it is up."""
        with self._lock:
            self._is_wanted = True
        self._look()

    @property
    def is_ready(self) -> bool:
        """Whether the worker is up."""
        return self._total_s is not None

    def now_s(self) -> float:
        """Return the seconds since it all began."""
        return self._now()

    def take_for_answer(self, *, job_begun_s: float | None = None) -> ColdStart | None:
        """Return how the worker started, to the first who asks when it is ready; None to everybody else.

        Args:
            job_begun_s: When the job began whose answer this is for, by `now_s`; the job becomes the phase `first_job`.
        """
        with self._lock:
            if self._total_s is None or self._is_taken:
                return None
            self._is_taken = True
            if job_begun_s is not None:
                self._begun[FIRST_JOB], self._ended[FIRST_JOB] = job_begun_s, self._now()
        cold_start = self.so_far()
        log.info("startup.answered", at_s=round(self._now(), 3), ready_s=cold_start.total_s)
        return cold_start

    def so_far(self) -> ColdStart:
        """Return the phases that have ended; until it is ready, the total is the time that has passed."""
        with self._lock:
            phases = [
                StartPhase(name=name, begun_s=round(begun_s, 3), ended_s=round(self._ended[name], 3))
                for name, begun_s in self._begun.items()
                if name in self._ended
            ]
            total_s = self._now() if self._total_s is None else self._total_s
        return ColdStart(total_s=round(total_s, 3), phases=tuple(sorted(phases, key=lambda phase: phase.begun_s)))

    def _now(self) -> float:
        return time.perf_counter() - self._zero

    def _look(self) -> None:
        """Take note, once, that it is ready, if it is."""
        with self._lock:
            waits_for = (self._begun.keys() | self._expected) - self._ended.keys() - self._beside
            if waits_for or not self._is_wanted or self._total_s is not None:
                return
            self._total_s = self._now()
        start = self.so_far()
        log.info(
            "startup.ready",
            total_s=start.total_s,
            last=max(reversed(start.phases), key=lambda phase: phase.ended_s).name,
            unaccounted_s=round(_unaccounted_s(start), 3),
            phases=[phase.model_dump() for phase in start.phases],
        )


def _unaccounted_s(start: ColdStart) -> float:
    """Return the seconds until it was ready in which no phase ran."""
    covered_s, reached_s = 0.0, 0.0
    for phase in start.phases:
        covered_s += max(phase.ended_s - max(phase.begun_s, reached_s), 0.0)
        reached_s = max(reached_s, phase.ended_s)
    return max(start.total_s - covered_s, 0.0)


def process_age_s(*, proc: Path = Path("/proc")) -> float:
    """Return the seconds since this process was started, to a hundredth.

    Wire source: proc_pid_stat(5), field 22, in clock ticks after the machine's boot. Where that cannot be read, the
    processor time that the process has used is taken: it is at least that old.
    """
    try:
        begun_ticks = int((proc / "self" / "stat").read_text().rpartition(")")[2].split()[_TICKS_AT])
        age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - begun_ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):  # the last one where there is no such clock
        return time.process_time()
    # A sandbox that emulates /proc may say 0: then the machine's age would be ours.
    return age_s if begun_ticks and age_s >= 0 else time.process_time()
